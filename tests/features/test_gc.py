"""`merloco gc`: says first what would go, and never touches what the catalog, a run's results or a writer needs."""

import os
import shutil
from pathlib import Path

import pytest

from merloco.features.maintenance.check import check_store
from merloco.features.maintenance.gc import plan_gc, remove_items
from merloco.features.shards.locks import shard_lock
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.atomic import temporary_name
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.corpora_files import merloco
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import CATALOG, make_store, meld_samples, shard_bytes

OLD = "0123456789abcdef"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("whole"), n=300)


@pytest.fixture
def store(whole: FeatureStore, tmp_path: Path) -> FeatureStore:
    shutil.copytree(whole.root, tmp_path / "store")
    return FeatureStore.open(tmp_path / "store", whole.catalog)


def current(store: FeatureStore) -> Path:
    return store.folder(store.view("minilm"))


def dead(name: str) -> str:
    return temporary_name(name).replace(f"-{os.getpid()}-", "-4194305-")


def litter(store: FeatureStore) -> None:
    """One of everything that can go."""
    shutil.copytree(current(store), current(store).parent / OLD)
    shutil.copytree(current(store), store.root / "views" / "forgotten" / OLD)
    (current(store) / dead("meld-00000.tar")).write_bytes(b"half")
    (store.root / "runs" / "loco" / dead("run")).mkdir(parents=True)
    (current(store) / "meld-00005.tar").write_bytes(b"no record")


def kinds(store: FeatureStore, runs: bool = False) -> list[str]:
    return sorted(item.kind for item in plan_gc(store, runs).items)


def test_a_clean_store_has_no_garbage(store: FeatureStore) -> None:
    make_run(store.root, ["meld/train/dia0_utt0"], {"text": current(store).name})
    assert plan_gc(store, runs=True).items == []


def test_everything_that_nothing_needs_goes_and_nothing_else(store: FeatureStore) -> None:
    before = shard_bytes(store)
    litter(store)
    assert kinds(store) == ["leftover", "leftover", "orphan", "superseded", "unknown_view"]
    remove_items(store, plan_gc(store).items)
    assert shard_bytes(store) == before and check_store(store) == [] and kinds(store) == []
    assert [p.name for p in (store.root / "views").iterdir()] == ["minilm"]


def test_without_yes_nothing_goes_and_sizes_are_named(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    litter(store)
    before = sorted(store.root.rglob("*"))
    code, out, err = merloco(capsys, store, "gc", "--format", "csv")
    assert code == 0 and sorted(store.root.rglob("*")) == before
    assert f"orphan,views/minilm/{current(store).name}/meld-00005.tar,9,no commit record" in out
    assert "Nothing was removed: run it again with --yes" in err
    code, _, err = merloco(capsys, store, "gc", "--yes")
    assert code == 0 and "Removed 5" in err
    assert "Nothing to remove" in merloco(capsys, store, "gc")[2]


def test_files_of_living_writers_and_of_other_hosts_stay(store: FeatureStore) -> None:
    living = current(store) / temporary_name("meld-00005.commit.json")
    elsewhere = current(store) / ".tmp-otherhost-4194305-0-meld-00006.tar"
    for path in (living, elsewhere, current(store) / "meld-00005.tar", current(store) / "meld-00006.tar"):
        path.write_bytes(b"half")
    plan = plan_gc(store)
    assert plan.items == []
    assert len(plan.kept) == 2 and "may still be at work on another host" in "".join(plan.kept)


def test_a_claimed_shard_and_the_fingerprint_that_somebody_fills_stay(store: FeatureStore) -> None:
    litter(store)
    with shard_lock([current(store)], "meld-00005"), shard_lock([current(store).parent / OLD], "meld-00001"):
        assert kinds(store) == ["leftover", "leftover", "unknown_view"]


def test_a_shard_that_is_claimed_between_looking_and_collecting_stays(store: FeatureStore) -> None:
    litter(store)
    garbage = plan_gc(store).items
    with shard_lock([current(store)], "meld-00005"):
        remove_items(store, garbage)
    assert (current(store) / "meld-00005.tar").is_file()


def test_shards_for_which_no_sample_asks_go_but_not_those_of_a_corpus_without_samples(store: FeatureStore) -> None:
    write_parquet(samples_path(store.root, "meld"), to_table(meld_samples(256)))
    [item] = plan_gc(store).items
    assert item.kind == "unasked" and item.where.endswith("/meld-00001")
    samples_path(store.root, "meld").unlink()
    assert plan_gc(store).items == []
    write_parquet(samples_path(store.root, "meld"), to_table(meld_samples(256)))
    remove_items(store, [item])
    assert sorted(p.name for p in current(store).glob("meld-*")) == [
        f"meld-00000.{kind}" for kind in ("commit.json", "parquet", "tar")
    ]


def test_a_view_whose_weights_are_not_here_keeps_all_its_fingerprints(store: FeatureStore) -> None:
    for name in ("a", "b"):
        shutil.copytree(current(store), store.root / "views" / "roberta_mer" / (name * 16))
    catalog = load_catalog(CATALOG)
    encoder = catalog.encoders["text_published"].model_copy(update={"checkpoint": "/none", "hub_id": None})
    catalog = catalog.model_copy(update={"encoders": {**catalog.encoders, "text_published": encoder}})
    plan = plan_gc(FeatureStore.open(store.root, catalog))
    assert plan.items == [] and "fingerprint cannot be computed" in plan.kept[0]


def test_results_of_runs_stay_unless_asked_for(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    shutil.copytree(current(store), current(store).parent / OLD)
    old = make_run(store.root, ["meld/train/dia0_utt0"], {"text": OLD}, seed=1)
    new = make_run(store.root, ["meld/train/dia0_utt0"], {"text": current(store).name})
    assert kinds(store) == ["superseded"] and kinds(store, runs=True) == ["run", "superseded"]
    merloco(capsys, store, "gc", "--yes")
    assert old.is_dir()
    merloco(capsys, store, "gc", "--runs", "--yes")
    assert not old.exists() and new.is_dir()

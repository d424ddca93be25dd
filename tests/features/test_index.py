"""The index of a view: SQL answers the same with it, without it, and with a broken one; no deleted sample is in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from merloco.features.maintenance.check import check_store
from merloco.features.maintenance.delete import dry_run
from merloco.features.maintenance.gc import plan_gc, remove_items
from merloco.features.maintenance.targets import resolve_targets
from merloco.features.query.index import INDEX, index_rows, read_index
from merloco.features.shards.commit import commit_path, drop_shard
from merloco.features.shards.format import plan_shards
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import temporary_name
from tests.helpers.deletion import GONE, files_that_name, remove
from tests.helpers.store_files import CATALOG, add_sequences, extract_text, make_store

NEAREST = """
    with q as (select pooled from minilm where sample_id = 'meld/train/dia0_utt0')
    select sample_id, n_segments, array_cosine_similarity(m.pooled, q.pooled) as s
    from minilm m, q where status = 'ok' order by s desc, sample_id
"""
EVERYTHING = "select *, pooled from minilm order by sample_id"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("whole"), n=600)


@pytest.fixture
def store(whole: FeatureStore, tmp_path: Path) -> FeatureStore:
    shutil.copytree(whole.root, tmp_path / "store")
    return FeatureStore.open(tmp_path / "store", whole.catalog)


def folder(store: FeatureStore, view: str = "minilm") -> Path:
    return store.folder(store.view(view))


def answers(store: FeatureStore) -> list[list[tuple]]:
    return [store.sql(query).fetchall() for query in (NEAREST, EVERYTHING, "select count(*) from minilm")]


@pytest.fixture
def without(store: FeatureStore) -> list[list[tuple]]:
    """The answers of the Parquet files alone: a folder in the place of the index is one that nobody can write."""
    (folder(store) / INDEX).mkdir()
    found = answers(store)
    (folder(store) / INDEX).rmdir()
    return found


def test_answers_are_those_of_the_parquet_files(store: FeatureStore, without: list) -> None:
    made, used = answers(store), answers(store)
    assert index_rows(folder(store) / INDEX).num_rows == 600
    assert without == made == used


def test_it_answers_in_the_place_of_the_parquet_files(store: FeatureStore, without: list) -> None:
    answers(store)
    for path in folder(store).glob("*.parquet"):
        path.unlink()
    assert [store.sql(query).fetchall() for query in (NEAREST, EVERYTHING)] == without[:2]


def test_rows_without_vectors_and_types_of_columns_are_kept(store: FeatureStore) -> None:
    add_sequences(store)
    query = "select sample_id, status, typeof(pooled), pooled from prosody where pooled is null order by all"
    first = store.sql(query).fetchall()
    assert read_index(folder(store, "prosody")) is not None
    assert store.sql(query).fetchall() == first
    assert {row[1:] for row in first} == {("silent", "FLOAT[6]", None)}


@pytest.mark.parametrize("query", ["select count(*), any_value(status) from minilm", "describe minilm", "show tables"])
def test_queries_that_read_no_vectors_make_none(store: FeatureStore, query: str) -> None:
    store.sql(query).fetchall()
    assert not (folder(store) / INDEX).exists()


def test_it_is_made_for_mean_vector(store: FeatureStore) -> None:
    mean = store.sql("select mean_vector(pooled) from minilm").fetchall()
    assert read_index(folder(store)) is not None
    assert store.sql("select mean_vector(pooled) from minilm").fetchall() == mean


def test_it_follows_new_and_removed_shards(store: FeatureStore) -> None:
    view, before = store.view("minilm"), answers(store)
    drop_shard(folder(store), "meld-00001")
    assert store.sql("select count(pooled), count(*) from minilm").fetchall() == [(600 - 256 - 34, 600 - 256)]
    shard = plan_shards("meld", store.samples(["meld"]), "text")[1]
    extract_text(store, view, shard)
    assert answers(store) == before


def test_it_follows_a_shard_with_other_values(store: FeatureStore) -> None:
    answers(store)
    shard = plan_shards("meld", store.samples(["meld"]), "text")[0]
    texts = pa.array([f"{text or ''} otherwise" for text in shard.samples["text"].to_pylist()])
    samples = shard.samples.set_column(shard.samples.schema.get_field_index("text"), "text", texts)
    other = type(shard)(shard.name, shard.corpus, samples, "other")
    extract_text(store, store.view("minilm"), other)
    changed = answers(store)
    (folder(store) / INDEX).unlink()
    assert answers(store) == changed
    assert index_rows(folder(store) / INDEX) is not None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_to_words(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_a_page(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(4096) + content[8192:])


def take_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def of_another_store(path: Path) -> None:
    other = make_store(path.parents[3] / "other", n=300)
    other.sql(NEAREST).fetchall()
    shutil.copy(folder(other) / INDEX, path)


@pytest.mark.parametrize(
    "harm",
    [
        truncate,
        cut_to_words,
        flip,
        zero_a_page,
        of_another_store,
        take_a_link,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(4096)),
        lambda path: path.write_bytes(b"no index at all"),
        lambda path: path.write_bytes(path.read_bytes() * 2),
        Path.unlink,
    ],
)
def test_a_harmed_index_changes_no_answer_and_is_made_again(
    store: FeatureStore, without: list, harm: Callable[[Path], None]
) -> None:
    answers(store)
    harm(folder(store) / INDEX)
    assert answers(store) == without
    assert read_index(folder(store)) is not None


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Nothing below `root` can be written in the block, by root neither: he becomes somebody else."""
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    for path in root.parents:
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in folders:
            path.chmod(0o755)


def test_a_store_that_cannot_be_written_answers_without_one(store: FeatureStore, without: list) -> None:
    with read_only(store.root):
        assert answers(store) == without
    assert not (folder(store) / INDEX).exists()


def test_a_store_that_cannot_be_written_uses_one_and_passes_over_an_old_one(store: FeatureStore) -> None:
    before = answers(store)
    with read_only(store.root):
        assert answers(store) == before
    drop_shard(folder(store), "meld-00001")
    with read_only(store.root):
        assert store.sql("select count(*) from minilm where pooled is not null or true").fetchall() == [(600 - 256,)]
    assert index_rows(folder(store) / INDEX).num_rows == 600


def test_a_broken_record_is_said_as_without_an_index(store: FeatureStore) -> None:
    answers(store)
    commit_path(folder(store), "meld-00001").write_text("{")
    with pytest.raises(DataError, match="broken commit record"):
        store.sql(NEAREST)


def test_too_little_room_makes_none(store: FeatureStore, monkeypatch: pytest.MonkeyPatch, without: list) -> None:
    usage = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert answers(store) == without
    assert not (folder(store) / INDEX).exists()


def test_a_deletion_takes_it_away_where_it_holds_the_deleted(store: FeatureStore) -> None:
    answers(store)
    add_sequences(store)
    store.sql("select pooled from prosody").fetchall()
    stale = folder(store).with_name("0123456789abcdef")
    stale.mkdir()
    shutil.copy(folder(store) / INDEX, stale)
    would = dry_run(store, resolve_targets(store, GONE, [])[0])
    remove(store, GONE)
    assert [d.rows for d in would if d.where.endswith(INDEX)] == [len(GONE)] * 3
    assert not list((store.root / "views").rglob(INDEX))
    assert not [path for path in files_that_name(store, GONE) if path.startswith("views")]
    answers(store)
    assert not [path for path in files_that_name(store, GONE) if path.startswith("views")]


def test_a_deletion_leaves_an_index_in_which_nobody_is_deleted(store: FeatureStore) -> None:
    remove(store, GONE)
    before = answers(store)
    state = (folder(store) / INDEX).stat()
    remove(store, GONE)
    assert (folder(store) / INDEX).stat().st_ino == state.st_ino
    assert answers(store) == before


@pytest.mark.parametrize(
    "name", [INDEX, temporary_name(INDEX).replace(f"-{os.getpid()}-", "-4194305-")], ids=["whole", "begun"]
)
def test_a_deletion_takes_what_a_killed_query_left(store: FeatureStore, name: str) -> None:
    answers(store)
    content = (folder(store) / INDEX).read_bytes()
    (folder(store) / INDEX).unlink()
    (folder(store) / name).write_bytes(content[: len(content) // 2])
    remove(store, GONE)
    assert [path.name for path in folder(store).iterdir() if path.name.startswith(".")] == []


def test_gc_takes_one_that_is_out_of_date_and_check_is_silent(store: FeatureStore) -> None:
    answers(store)
    assert plan_gc(store).items == [] and check_store(store) == []
    drop_shard(folder(store), "meld-00002")
    plan = plan_gc(store)
    assert [(item.kind, item.where) for item in plan.items] == [
        ("index", str((folder(store) / INDEX).relative_to(store.root)))
    ]
    assert check_store(store) == []
    assert remove_items(store, plan.items) == plan.items[0].bytes > 0
    assert not (folder(store) / INDEX).exists() and plan_gc(store).items == []


def test_processes_that_make_it_at_once_answer_alike(store: FeatureStore, without: list) -> None:
    query = "select sample_id, pooled from minilm order by sample_id"
    command = [sys.executable, "-m", "merloco.flows.cli.app", "sql", query, "--format", "csv"]
    command += ["--store", str(store.root), "--catalog", str(CATALOG)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert printed[0] == printed[1] == printed[2] and printed[0].count(b"\n") == 601
    assert [path.name for path in folder(store).iterdir() if path.name.startswith(".")] == [INDEX]
    assert answers(store) == without

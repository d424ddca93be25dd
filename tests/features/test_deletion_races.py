"""A deleted person does not come back with what another writer had begun before, whichever of the two is first."""

import os
import pickle
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from merloco.features.export.audformat import write_audformat
from merloco.features.export.duckdb_file import write_duckdb
from merloco.features.export.huggingface import write_hf
from merloco.features.export.mmsa import write_mmsa
from merloco.features.export.parquet import write_one_parquet
from merloco.features.export.rows import Selection
from merloco.features.extraction.input_cache import cache_inputs
from merloco.features.extraction.pipeline import Item, ShardTarget, extract_views
from merloco.features.maintenance.check import check_store
from merloco.features.maintenance.delete import _remove_orphans, delete
from merloco.features.maintenance.targets import resolve_targets
from merloco.features.runs import adopt_run, read_config, run_folders
from merloco.features.shards.locks import shard_lock
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.checks.findings import SampleFinding, findings_path, write_findings
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_json, write_parquet
from merloco.pipelines.files.locks import lock_file
from merloco.pipelines.samples.audit import audit_path
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import ingested_table, read_samples, samples_path
from merloco.pipelines.samples.tombstones import (
    Tombstones,
    add_tombstones,
    key_path,
    locked_tombstones,
    read_tombstones,
    speaker_key,
)
from merloco.pipelines.samples.transcripts import Transcript, append_transcripts, read_transcripts
from tests.helpers.deletion import GONE, files_that_name, remove
from tests.helpers.kill_server import KillServer
from tests.helpers.meld_release import release, row
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import (
    CATALOG,
    LengthEncoder,
    add_sequences,
    make_store,
    meld_samples,
    read_text,
    shard_bytes,
)

PLACES = ("--catalog", str(CATALOG), "--yes")


def delete_in_another_process(kill_server: KillServer, store: FeatureStore, ids: list[str]) -> None:
    samples = [word for sample_id in ids for word in ("--sample", sample_id)]
    done = kill_server("delete", *samples, "--store", str(store.root), *PLACES)
    assert done["code"] == 0, done["output"]


def nobody_is_left(store: FeatureStore, ids: list[str]) -> bool:
    return {Path(name).parts[0] for name in files_that_name(store, ids)} <= {"deletions"} and check_store(store) == []


def text_targets(store: FeatureStore) -> list[ShardTarget]:
    view = store.view("minilm")
    store.write_view_manifest(view)
    return [
        ShardTarget(view, LengthEncoder(), planned.shard, store.folder(view), store=store.root)
        for planned in store.plan([view])
    ]


@pytest.mark.parametrize("already", [False, True], ids=["a first extraction", "one over committed shards"])
def test_an_extraction_with_an_old_plan_leaves_the_deleted_out(
    already: bool, kill_server: KillServer, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store", n=300, extracted=already)
    expected = make_store(tmp_path / "expected", n=300)
    remove(expected, GONE[:2])
    for target in text_targets(store):
        last = target.shard.samples["sample_id"].to_pylist()[-1]

        def read(record: Mapping[str, Any], last: str = last) -> Mapping[str, Item]:
            if record["sample_id"] == last:
                delete_in_another_process(kill_server, store, GONE[:2])
            return {"minilm": read_text(dict(record))}

        extract_views([target], read)
    assert nobody_is_left(store, GONE[:2])
    assert shard_bytes(store) == shard_bytes(expected)
    assert {p.state for p in store.plan([store.view("minilm")])} == {"done"}


def test_a_shard_of_which_everybody_was_deleted_meanwhile_is_not_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=260, extracted=False)
    targets = text_targets(store)
    ids = targets[1].shard.samples["sample_id"].to_pylist()
    remove(store, ids)
    for target in targets:
        extract_views([target], lambda record: {"minilm": read_text(dict(record))})
    assert nobody_is_left(store, ids) and len(shard_bytes(store)) == 2


def extract_and_delete_at_once(root: str) -> None:
    """An extraction of three shards, and a deletion that is tried until nobody refuses it (called in a child)."""
    import sys

    import merloco.flows.cli.app

    def run(*argv: str) -> int:
        sys.argv = ["merloco", *argv, "--store", root, "--catalog", str(CATALOG)]
        try:
            merloco.flows.cli.app.main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    child = os.fork()
    if not child:
        os._exit(run("extract", "--modalities", "text", "--no-flow", "--root", "meld=."))
    refused = 0
    while run("delete", "--sample", GONE[0], "--sample", GONE[2], "--yes"):
        refused += 1
        time.sleep(0.01)
    assert os.waitpid(child, 0)[1] == 0
    print(f"refused {refused} times")


def test_an_extraction_and_a_deletion_at_once(kill_server: KillServer, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=600, extracted=False)
    done = kill_server(call="tests.features.test_deletion_races:extract_and_delete_at_once", args=[str(store.root)])
    assert done["code"] == 0, done["output"]
    assert nobody_is_left(store, [GONE[0], GONE[2]])
    assert {p.state for p in store.plan([store.view("minilm")])} == {"done"}


def again_and_again(write: Callable[[int], object], root: Path) -> int:
    """Write in a child until the parent has seen enough; returns its process id."""
    child = os.fork()
    if not child:
        for number in range(10_000):
            write(number)
            if (root / "enough").exists():
                os._exit(0)
    return child


def delete_beside(write: Callable[[int], object], root: Path) -> None:
    """Delete while another process writes, and let it go on writing for a while."""
    store = FeatureStore.open(root, load_catalog(CATALOG))
    child = again_and_again(write, root)
    for target in resolve_targets(store, GONE[:1], []):
        while True:
            try:
                delete(store, target)
                break
            except DataError as error:  # a deletion may refuse while it sees somebody write
                assert "is being written" in str(error)
    time.sleep(0.2)
    (root / "enough").write_text("")
    assert os.waitpid(child, 0)[1] == 0


def write_runs_and_delete(root: str) -> None:
    """Trainings that end before, at and after a deletion, and copies of their runs (called in a child)."""

    def write(number: int) -> None:
        run = make_run(Path(root), GONE, seed=number % 5)
        adopt_run(Path(root), run, {**read_config(run)["config"], "experiment": "copies"})

    delete_beside(write, Path(root))


def ingest_and_delete(root: str, release_: str) -> None:
    """Ingests of a release that changes, before, at and after a deletion (called in a child)."""
    folder, entry = Path(release_), load_catalog(CATALOG).corpus("meld")

    def ingest(number: int) -> None:
        (folder / "change").write_text(str(number))
        ingest_corpus("meld", entry, folder, Path(root))

    delete_beside(ingest, Path(root))


def test_runs_whose_training_began_before_a_deletion_predict_nobody(kill_server: KillServer, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    call = {"call": "tests.features.test_deletion_races:write_runs_and_delete"}
    done = kill_server(**call, args=[str(store.root)])
    assert done["code"] == 0, done["output"]
    assert nobody_is_left(store, GONE[:1])
    assert store.sql("select distinct sample_id from predictions order by 1").fetchall() == [(n,) for n in GONE[1:]]


def test_an_ingest_beside_a_deletion_brings_nobody_back(kill_server: KillServer, tmp_path: Path) -> None:
    folder = release(tmp_path / "meld", [row(i, i // 2, i % 2) for i in range(4)])
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)
    call = {"call": "tests.features.test_deletion_races:ingest_and_delete"}
    done = kill_server(**call, args=[str(store.root), str(folder)])
    assert done["code"] == 0, done["output"]
    assert nobody_is_left(store, GONE[:1])
    (folder / "change").write_text("once more")
    audit = ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)
    assert audit.left_out == {"deleted": 1}


def test_who_is_on_the_list_is_read_by_nobody_before_the_files_are_rewritten(tmp_path: Path) -> None:
    """A deletion that was killed after its first step."""
    store = make_store(tmp_path / "store", n=20)
    write_json(store.root / "deletions" / "meld-1.json", {"corpus": "meld", "samples": GONE[:1], "speakers": []})
    assert GONE[0] not in read_samples(store.root, "meld")["sample_id"].to_pylist()
    assert store.sql(f"select * from samples where sample_id = '{GONE[0]}'").fetchall() == []
    assert store.sql(f"select * from labels where sample_id = '{GONE[0]}'").fetchall() == []
    assert GONE[0] in ingested_table(store.root, "meld")["sample_id"].to_pylist()


def test_transcripts_of_the_deleted_go_and_none_is_added(tmp_path: Path) -> None:
    from merloco.flows.transcribe.service import _commit

    store = make_store(tmp_path / "store", n=20)
    samples = from_table(store.samples())[:3]
    lines = [Transcript(s.sample_id, None, None, "hello", model="tiny") for s in samples]
    append_transcripts(store.root, "meld", lines[:2])
    remove(store, [samples[0].sample_id, samples[2].sample_id])
    _commit(store.root, "meld", [(samples[2], lines[2])])
    assert read_transcripts(store.root, "meld") == lines[1:2] and check_store(store) == []


def test_inputs_of_a_training_that_began_before_a_deletion_are_not_kept(tmp_path: Path) -> None:
    """The deletion looked for writers between two blocks, and puts the person on its list within the next one."""
    store = make_store(tmp_path / "store", n=80)
    records = store.samples().to_pylist()
    folder = store.root / "inputs" / "meld-video-1"

    def read(record: Mapping[str, Any]) -> Item:
        if record is records[70]:  # the first block of 64 is there by now
            with locked_tombstones(store.root, exclusive=True):
                add_tombstones(store.root, "meld", GONE[:1], [])
        return Item(record["sample_id"], 1)

    def cut(values: Any) -> Any:
        return [[[np.full(3, 1.0)]] for _ in values]

    with pytest.raises(DataError, match="deleted while they were read"):
        cache_inputs(folder, records, read, cut, store=store.root)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.bin", "00000.json"]
    remove(store, GONE[:1])
    assert not folder.exists() and nobody_is_left(store, GONE[:1])
    left = store.samples().to_pylist()
    assert len(cache_inputs(folder, left, lambda r: Item(r["sample_id"], 1), cut, store=store.root)) == 79


def exported(place: Path) -> str:
    """Everything that an export says, as text."""
    if place.suffix == ".duckdb":
        with duckdb.connect(str(place), read_only=True) as connection:
            tables = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
            return str([connection.execute(f"from {name}").fetchall() for name in tables])
    files = [path for path in (place, *place.rglob("*")) if path.is_file()]
    return str([pq.read_table(p).to_pylist() if p.suffix == ".parquet" else p.read_bytes() for p in files])


@pytest.mark.parametrize("name", ["out.parquet", "out.hf", "out.duckdb", "out.audformat"])
def test_no_export_holds_who_is_on_the_list_and_still_in_a_shard(name: str, tmp_path: Path) -> None:
    """A deletion was interrupted after the list had been written."""
    store = make_store(tmp_path / "store", n=20)
    samples = [replace(sample, audio_path=f"{i}.wav") for i, sample in enumerate(meld_samples(20))]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    make_run(store.root, GONE)
    add_tombstones(store.root, "meld", GONE[:1], [])
    selection, place = Selection("light", ["meld"], ["text"], segments=True), tmp_path / name
    if name == "out.parquet":
        write_one_parquet(store, selection, place)
    elif name == "out.hf":
        write_hf(store, selection, place)
    elif name == "out.duckdb":
        write_duckdb(store, place, segments=True)
    else:
        write_audformat(store, "meld", place)
    text = exported(place)
    assert "meld/train/dia0_utt1" in text and "meld/train/dia3_utt4" in text
    assert not any(f"{GONE[0]}{end}" in text for end in ("'", '"'))


def test_a_deletion_waits_until_an_export_is_written(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=300)
    free = []

    def try_to_delete(_: int) -> None:
        with (store.root / ".lock").open("ab") as handle:
            free.append(lock_file(handle, exclusive=True, wait=False))

    write_one_parquet(store, Selection("light", ["meld"], ["text"]), tmp_path / "out.parquet", try_to_delete)
    assert free == [False, False]
    try_to_delete(0)
    assert free[-1]


def test_what_is_made_of_many_samples_is_refused_when_one_of_them_was_deleted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    for view in ("prosody", "face_hog"):
        add_sequences(store, view)
    seen = read_tombstones(store.root, "meld")
    with pytest.raises(DataError, match="were deleted while this was made of them"):
        write_mmsa(store, "light", "meld", tmp_path / "out.pkl", lambda _: remove(store, GONE[:1]))
    assert not (tmp_path / "out.pkl").exists()
    finding = SampleFinding("meld", "x", "warning", 1, (GONE[0],), "Ann")
    with pytest.raises(DataError, match="were deleted while this was made of them"):
        write_findings(store.root, "meld", [finding], seen)
    assert not findings_path(store.root, "meld").exists()
    write_mmsa(store, "light", "meld", tmp_path / "out.pkl")
    assert pickle.loads((tmp_path / "out.pkl").read_bytes()).keys() == {"train", "valid", "test"}


def test_files_without_a_record_are_left_to_a_writer_that_is_at_work(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    folder = store.folder(store.view("minilm"))
    orphan = Path(shutil.copy(folder / "meld-00000.tar", folder / "meld-00007.tar"))
    with shard_lock([folder], "meld-00007"), pytest.raises(DataError, match="is being extracted"):
        _remove_orphans(store.root, "meld")
    assert orphan.is_file()
    _remove_orphans(store.root, "meld")
    assert not orphan.exists()


def test_broken_files_that_were_set_aside_go_with_a_person(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    aside = samples_path(store.root, "meld").with_name("meld.parquet.broken")
    aside.write_bytes(GONE[0].encode())
    remove(store, GONE[:1])
    assert not aside.exists()


def test_the_hash_of_a_person_says_nothing_outside_its_store(tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        store = FeatureStore.open(tmp_path / name, load_catalog(CATALOG), create=True)
        ingest_corpus("meld", store.catalog.corpus("meld"), release(tmp_path / f"meld {name}"), store.root)
        [person, *_] = read_samples(store.root, "meld")["speaker"].to_pylist()
        remove(store, [], [f"meld/{person}"])
        hashes += read_tombstones(store.root, "meld").speakers
        assert len(bytes.fromhex(key_path(store.root).read_text())) == 32
    assert len(set(hashes)) == 2 and speaker_key("meld", person) not in hashes


def test_a_list_with_hashes_of_an_older_version_still_holds(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    folder = release(tmp_path / "meld")
    ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)
    [person, *_] = read_samples(store.root, "meld")["speaker"].to_pylist()
    old = {"corpus": "meld", "samples": [], "speakers": [speaker_key("meld", person)]}
    write_json(store.root / "deletions" / "meld-0.json", old)
    assert person not in read_samples(store.root, "meld")["speaker"].to_pylist()
    ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)
    assert person not in ingested_table(store.root, "meld")["speaker"].to_pylist()
    remove(store, [], [f"meld/{person}"])
    assert "deleted" in audit_path(store.root, "meld").read_text()


def test_without_its_key_a_list_of_persons_stops_what_could_bring_them_back(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    folder = release(tmp_path / "meld")
    ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)
    [person, *_] = read_samples(store.root, "meld")["speaker"].to_pylist()
    remove(store, [], [f"meld/{person}"])
    key_path(store.root).unlink()
    with pytest.raises(DataError, match="which speakers were deleted"):
        ingest_corpus("meld", store.catalog.corpus("meld"), folder, store.root)


def test_new_utterances_of_a_person_that_came_between_choice_and_deletion_go_too(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    entry = store.catalog.corpus("meld")
    ingest_corpus("meld", entry, release(tmp_path / "a", [row(1, 0, 0)]), store.root)
    [person, *_] = read_samples(store.root, "meld")["speaker"].to_pylist()
    [target] = resolve_targets(store, [], [f"meld/{person}"])
    ingest_corpus("meld", entry, release(tmp_path / "b", [row(1, 0, 0), row(2, 0, 1)]), store.root)
    delete(store, target)
    assert person not in ingested_table(store.root, "meld")["speaker"].to_pylist()
    assert read_tombstones(store.root, "meld").samples > target.samples


def test_writers_share_the_list_and_a_deletion_waits_for_them(kill_server: KillServer, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    argv = ["delete", "--sample", GONE[0], "--store", str(store.root), *PLACES]
    with locked_tombstones(store.root), locked_tombstones(store.root):
        assert kill_server(*argv, after=1.5)["code"] == -9  # killed while it waited
    assert read_tombstones(store.root).samples == frozenset()
    assert kill_server(*argv)["code"] == 0


def test_findings_of_a_person_go_also_where_an_ingest_took_the_samples_out_first(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=20)
    write_findings(store.root, "meld", [SampleFinding("meld", "x", "warning", 1, (GONE[0],), "Ann")])
    [target] = resolve_targets(store, GONE[:1], [])
    write_parquet(samples_path(store.root, "meld"), to_table(from_table(store.samples())[1:]))
    delete(store, target)
    assert not findings_path(store.root, "meld").exists()


def write_what_waits(kind: str, root: str, place: str) -> None:
    """One commit of a kind of writer (called in a child of the kill server)."""
    store = FeatureStore.open(root, load_catalog(CATALOG))
    if kind == "adopt":
        [run] = run_folders(store.root)
        adopt_run(store.root, run, {**read_config(run)["config"], "experiment": "copies"})
    elif kind == "export":
        write_one_parquet(store, Selection("light", ["meld"], ["text"]), Path(place))
    elif kind == "findings":
        write_findings(store.root, "meld", [], Tombstones())


@pytest.mark.parametrize("kind", ["adopt", "export", "findings"])
def test_no_writer_commits_while_somebody_is_put_on_the_list(
    kind: str, kill_server: KillServer, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store", n=20)
    make_run(store.root, GONE)
    request = {
        "call": "tests.features.test_deletion_races:write_what_waits",
        "args": [kind, str(store.root), f"{tmp_path}/out"],
    }
    places = {"adopt": store.root / "runs" / "copies", "export": tmp_path / "out", "findings": store.root / "checks"}

    def written() -> list[Path]:
        found = [places[kind], *places[kind].rglob("*")]
        return [path for path in found if path.is_file() and ".tmp-" not in str(path)]

    with locked_tombstones(store.root, exclusive=True):
        assert kill_server(**request, after=1.5)["code"] == -9 and written() == []
    assert kill_server(**request)["code"] == 0 and written() != []

"""`merloco delete`: a person is gone from every file, nothing else changes, and nobody brings them back."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.features.maintenance.check import check_store
from merloco.features.maintenance.delete import runs_trained_on
from merloco.features.shards.commit import read_commit
from merloco.features.shards.format import read_rows
from merloco.features.shards.locks import shard_lock
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.checks.findings import SampleFinding, findings_path, write_findings
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import temporary_name
from merloco.pipelines.files.formats import write_json, write_parquet
from merloco.pipelines.samples.audit import audit_path, read_audit
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import read_samples, samples_path
from merloco.pipelines.samples.tombstones import (
    add_tombstones,
    key_path,
    read_tombstones,
    speaker_key,
    tombstones_folder,
)
from merloco.pipelines.samples.transcripts import Transcript, append_transcripts
from tests.helpers.corpora_files import merloco
from tests.helpers.deletion import GONE, KEY, content, files_that_name, remove
from tests.helpers.meld_release import release, row
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import CATALOG, add_sequences, extract_all, make_store, meld_samples, shard_bytes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store of 600 samples of three speakers, two views, a run and findings."""
    store = make_store(tmp_path_factory.mktemp("whole"), n=600, extracted=False)
    samples = [replace(s, speaker=("Ann", "Bob", "Cleo")[i % 3]) for i, s in enumerate(meld_samples(600))]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    extract_all(store)
    add_sequences(store)
    make_run(store.root, [s.sample_id for s in samples[:50]])
    write_findings(store.root, "meld", [SampleFinding("meld", "x", "warning", 1, (GONE[0],), "Ann")])
    append_transcripts(store.root, "meld", [Transcript(name, None, None, "hello", model="w") for name in GONE[1:]])
    append_transcripts(store.root, "meld", [Transcript("meld/train/dia9_utt1", None, None, "hello", model="w")])
    tombstones_folder(store.root).mkdir()
    key_path(store.root).write_text(KEY)  # so that copies of this store hash a person alike
    return store


@pytest.fixture
def store(whole: FeatureStore, tmp_path: Path) -> FeatureStore:
    shutil.copytree(whole.root, tmp_path / "store")
    return FeatureStore.open(tmp_path / "store", whole.catalog)


def test_deleted_samples_are_in_no_file_but_the_deletion_list(store: FeatureStore) -> None:
    remove(store, GONE)
    assert {Path(name).parts[0] for name in files_that_name(store, GONE)} == {"deletions"}
    for view in ("samples", "minilm", "prosody", "predictions"):
        ids = ", ".join(f"'{sample_id}'" for sample_id in GONE)
        assert store.sql(f"select count(*) from {view} where sample_id in ({ids})").fetchall() == [(0,)]
    assert store.sql("select count(*) from samples").fetchall() == [(597,)]
    assert store.sql("select count(*) from predictions").fetchall() == [(48,)]


def test_nothing_is_extracted_again_and_the_store_is_clean(store: FeatureStore) -> None:
    before = shard_bytes(store)
    remove(store, GONE)
    assert check_store(store) == []
    assert {p.state for p in store.plan([store.view("minilm"), store.view("prosody")])} == {"done"}
    after = shard_bytes(store)
    untouched = [name for name in before if "meld-00001" in name]
    assert len(untouched) == 4 and all(after[name] == before[name] for name in untouched)


def test_nothing_is_extracted_again_either_where_a_view_has_lost_its_description(store: FeatureStore) -> None:
    for path in (store.root / "views").rglob("view.json"):
        path.unlink()
    remove(store, GONE)
    assert {p.state for p in store.plan([store.view("minilm"), store.view("prosody")])} == {"done"}


def test_a_store_after_a_deletion_equals_one_extracted_without_the_samples(store: FeatureStore) -> None:
    remove(store, GONE)
    pruned = shard_bytes(store)
    shutil.rmtree(store.folder(store.view("minilm")))
    for planned in store.plan([store.view("minilm")]):
        assert planned.state == "missing"
    extract_planned(store)
    assert {k: v for k, v in shard_bytes(store).items() if "minilm" in k} == {
        k: v for k, v in pruned.items() if "minilm" in k
    }


def extract_planned(store: FeatureStore) -> None:
    from tests.helpers.store_files import extract_text

    view = store.view("minilm")
    for planned in store.plan([view]):
        extract_text(store, view, planned.shard)


@settings(max_examples=4)
@given(data=st.data())
def test_any_subset_can_go_and_the_rest_keeps_its_bytes(
    data: st.DataObject, whole: FeatureStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = [s.sample_id for s in meld_samples(600)]
    gone = data.draw(st.sets(st.sampled_from(ids), min_size=1) | st.just(set(sorted(ids)[:256])) | st.just(set(ids)))
    root = tmp_path_factory.mktemp("subset") / "store"
    shutil.copytree(whole.root, root)
    store = FeatureStore.open(root, whole.catalog)
    folder = store.folder(store.view("prosody"))
    before = {r.sample_id: r for n in range(3) for r in read_rows(folder, f"meld-{n:05d}")}
    remove(store, sorted(gone))
    left = {r.sample_id: r for p in sorted(folder.glob("*.commit.json")) for r in read_rows(folder, p.name[:10])}
    assert set(left) == set(ids) - gone
    for sample_id, now in left.items():
        then = before[sample_id]
        assert (now.status, now.error, now.info) == (then.status, then.error, then.info)
        for name in ("segments", "pooled"):
            a, b = getattr(now, name), getattr(then, name)
            assert (a is None) == (b is None) and (a is None or a.tobytes() == b.tobytes())
    assert [f for f in check_store(store) if f.severity == "error"] == []
    shutil.rmtree(root)


def test_a_person_is_deleted_by_speaker_and_the_name_is_not_kept(store: FeatureStore) -> None:
    remove(store, [], ["meld/Ann"])
    assert store.sql("select distinct speaker from samples order by 1").fetchall() == [("Bob",), ("Cleo",)]
    assert files_that_name(store, ["Ann"]) == []
    assert read_tombstones(store.root, "meld").speakers == {speaker_key("meld", "Ann", bytes.fromhex(KEY))}
    assert check_store(store) == []


def test_an_ingest_brings_nobody_back_and_its_audit_adds_up(tmp_path: Path) -> None:
    entry = load_catalog(CATALOG).corpus("meld")
    rows = [row(i, i // 2, i % 2) for i in range(4)]
    root = release(tmp_path / "meld", rows)
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    before = ingest_corpus("meld", entry, root, store.root)
    [first, *_] = read_samples(store.root, "meld")["sample_id"].to_pylist()
    remove(store, [first])
    for audit in (read_audit(store.root, "meld"), ingest_corpus("meld", entry, root, store.root)):
        assert audit.left_out == {"deleted": 1} and audit.samples == before.samples - 1
        assert audit.found == before.found == audit.samples + sum(audit.left_out.values())
        assert first not in audit_path(store.root, "meld").read_text()
    assert first not in read_samples(store.root, "meld")["sample_id"].to_pylist()


def test_an_ingest_honours_a_deletion_that_was_interrupted_and_reads_the_release_once(tmp_path: Path) -> None:
    entry = load_catalog(CATALOG).corpus("meld")
    root, store = release(tmp_path / "meld", [row(1, 0, 0), row(2, 0, 1)]), tmp_path / "store"
    ingest_corpus("meld", entry, root, store)
    [first, *_] = read_samples(store, "meld")["sample_id"].to_pylist()
    add_tombstones(store, "meld", [first], [])
    ingest_corpus("meld", entry, root, store)
    assert first not in read_samples(store, "meld")["sample_id"].to_pylist()
    written = samples_path(store, "meld").stat().st_mtime_ns
    ingest_corpus("meld", entry, root, store)
    assert samples_path(store, "meld").stat().st_mtime_ns == written


def test_new_utterances_of_a_deleted_person_stay_out(tmp_path: Path) -> None:
    entry = load_catalog(CATALOG).corpus("meld")
    store = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    ingest_corpus("meld", entry, release(tmp_path / "a", [row(1, 0, 0)]), store.root)
    speaker = read_samples(store.root, "meld")["speaker"].to_pylist()[0]
    remove(store, [], [f"meld/{speaker}"])
    audit = ingest_corpus("meld", entry, release(tmp_path / "b", [row(1, 0, 0), row(2, 0, 1)]), store.root)
    assert speaker not in read_samples(store.root, "meld")["speaker"].to_pylist()
    assert audit.left_out["deleted"] >= 2


class KilledError(BaseException):
    """Stands for the moment of death: nothing of ours catches it."""


def test_a_deletion_that_dies_at_any_step_is_completed_by_running_it_again(
    whole: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies before the n-th rename, for every n, until a deletion gets through."""
    expected = FeatureStore.open(shutil.copytree(whole.root, tmp_path / "expected"), whole.catalog)
    remove(expected, GONE)
    rename: Callable = os.replace
    for step in range(100):
        store = FeatureStore.open(shutil.copytree(whole.root, tmp_path / f"{step}"), whole.catalog)
        left = [step]

        def dies(source: Path, target: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            rename(source, target)

        monkeypatch.setattr(os, "replace", dies)
        try:
            remove(store, GONE)
            died = False
        except KilledError:
            died = True
        monkeypatch.setattr(os, "replace", rename)
        remove(store, GONE)
        assert content(store) == content(expected), f"rename {step}"
        shutil.rmtree(store.root)
        if not died:
            break
    # The list; record, tar and table of two shards in two views; the run; transcripts; samples.
    assert step == 1 + 2 * 2 * 3 + 1 + 1 + 1


def test_a_killed_deletion_is_completed_by_the_next_one(whole: FeatureStore, tmp_path: Path) -> None:
    expected = FeatureStore.open(shutil.copytree(whole.root, tmp_path / "expected"), whole.catalog)
    store = FeatureStore.open(shutil.copytree(whole.root, tmp_path / "killed"), whole.catalog)
    arguments = ["delete", "--speaker", "meld/Ann", "--yes", "--store", str(store.root)]
    command = [str(Path(sys.executable).parent / "merloco"), *arguments]
    remove(expected, [], ["meld/Ann"])
    process = subprocess.Popen(command, cwd=CATALOG.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tombstones_folder(store.root).glob("meld-*.json")):
        time.sleep(0.001)
    time.sleep(random.Random().uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=CATALOG.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert content(store) == content(expected)


def test_a_second_deletion_first_completes_the_interrupted_one(store: FeatureStore) -> None:
    """The record and the tar of the first shard are new, its table is old, and somebody else is deleted next."""
    other = FeatureStore.open(shutil.copytree(store.root, store.root.parent / "other"), store.catalog)
    remove(other, GONE)
    folder = store.folder(store.view("minilm"))
    done = other.folder(other.view("minilm"))
    shutil.copytree(tombstones_folder(other.root), tombstones_folder(store.root), dirs_exist_ok=True)
    for name in ("meld-00000.commit.json", "meld-00000.tar"):
        shutil.copy(done / name, folder / name)
    before = read_commit(folder, "meld-00000")
    remove(store, ["meld/train/dia0_utt2"])
    now = read_commit(folder, "meld-00000")
    assert before is not None and now is not None and now.rows == before.rows - 1
    assert check_store(store) == []


def test_a_damaged_shard_is_removed_because_it_may_hold_the_person(store: FeatureStore) -> None:
    folder = store.folder(store.view("minilm"))
    content_ = bytearray((folder / "meld-00000.tar").read_bytes())
    content_[600] ^= 1
    (folder / "meld-00000.tar").write_bytes(content_)
    (folder / "meld-00002.parquet").write_bytes(b"no parquet")
    remove(store, GONE)
    states = {p.shard.name: p.state for p in store.plan([store.view("minilm")])}
    assert states == {"meld-00000": "missing", "meld-00001": "done", "meld-00002": "missing"}
    assert [f.code for f in check_store(store)] == []


def test_a_shard_that_was_out_of_date_stays_out_of_date(store: FeatureStore) -> None:
    samples = from_table(store.samples())
    changed = [replace(s, text="new words") if s.sample_id == "meld/train/dia0_utt2" else s for s in samples]
    write_parquet(samples_path(store.root, "meld"), to_table(changed))
    remove(store, GONE)
    states = {p.shard.name: p.state for p in store.plan([store.view("minilm")])}
    assert states["meld-00000"] == "stale" and states["meld-00002"] == "done"


def test_superseded_fingerprints_and_orphans_lose_the_person_too(store: FeatureStore) -> None:
    current = store.folder(store.view("minilm"))
    shutil.copytree(current, current.parent / "0123456789abcdef")
    shutil.copytree(current, store.root / "views" / "forgotten" / "0123456789abcdef")
    shutil.copy(current / "meld-00000.tar", current / "meld-00007.tar")
    remove(store, GONE)
    assert {Path(name).parts[0] for name in files_that_name(store, GONE)} == {"deletions"}
    assert not (current / "meld-00007.tar").exists()


def test_decoded_inputs_of_the_person_go_and_encoders_trained_with_them_are_named(store: FeatureStore) -> None:
    for name, sample_id in (("meld-video-1", GONE[0]), ("meld-video-2", "meld/train/dia5_utt0")):
        block = {"samples": [{"id": sample_id, "status": "ok", "error": None, "units": []}]}
        write_json(store.root / "inputs" / name / "00000.json", block)
        (store.root / "inputs" / name / "00000.bin").write_bytes(b"faces")
    write_json(store.root / "encoders" / "mine" / "encoder.json", {"encoder": {"trained_on": ["meld"]}})
    remove(store, GONE)
    assert [p.name for p in (store.root / "inputs").iterdir()] == ["meld-video-2"]
    assert "encoders/mine" in runs_trained_on(store, ["meld"])


def test_nothing_is_deleted_while_somebody_extracts(store: FeatureStore) -> None:
    before = content(store)
    folder = store.folder(store.view("minilm"))
    with shard_lock([folder], "meld-00001"), pytest.raises(DataError, match="is being extracted"):
        remove(store, GONE)
    writing = folder / temporary_name("meld-00001.tar")
    writing.write_bytes(b"half")
    with pytest.raises(DataError, match="is being written"):
        remove(store, GONE)
    writing.unlink()
    assert content(store) == before


def test_without_yes_only_a_preview(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    before = content(store)
    code, out, err = merloco(capsys, store, "delete", "--sample", GONE[0], "--format", "csv")
    assert code == 0 and "Nothing was changed: run it again with --yes" in err
    assert out.splitlines()[:2] == ["where,rows", "samples/meld.parquet,1"]
    assert content(store) == before


def test_the_command_deletes_names_the_weights_that_stay_and_can_be_run_again(
    capsys: pytest.CaptureFixture, store: FeatureStore
) -> None:
    command = ["delete", "--sample", GONE[0], "--yes"]
    code, out, err = merloco(capsys, store, *command)
    assert code == 0 and "1 samples deleted" in err and "samples/meld.parquet" in out
    [run] = runs_trained_on(store, ["meld"])
    assert "Weights are not changed by a deletion" in err and run in err
    assert runs_trained_on(store, ["afew"]) == []
    code, _, err = merloco(capsys, store, *command)
    assert code == 0 and "Nothing to delete" in err
    assert findings_path(store.root, "meld").exists() is False


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "give --sample ID or --speaker CORPUS/SPEAKER"),
        (["--sample", "meld/train/dia0_utt9"], 1, "no sample 'meld/train/dia0_utt9' in corpus 'meld': did you mean"),
        (["--sample", "../../etc/passwd"], 1, "no corpus '..'"),
        (["--speaker", "Ann"], 2, "expected CORPUS/SPEAKER"),
        (["--speaker", "meld/An"], 1, "nobody called 'An' speaks in corpus 'meld': did you mean 'Ann'"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture, whole: FeatureStore, arguments: list[str], code: int, sentence: str
) -> None:
    found, _, err = merloco(capsys, whole, "delete", *arguments, "--yes")
    assert found == code and sentence in err


def test_a_broken_deletion_list_stops_everything_that_could_bring_somebody_back(store: FeatureStore) -> None:
    remove(store, GONE)
    [path] = tombstones_folder(store.root).glob("*.json")
    path.write_text("{")
    with pytest.raises(DataError, match="broken deletion list"):
        store.plan([store.view("minilm")])


def test_the_list_holds_what_it_needs_and_no_more(store: FeatureStore) -> None:
    remove(store, [], ["meld/Ann"])
    [path] = tombstones_folder(store.root).glob("*.json")
    assert set(json.loads(path.read_text())) == {"corpus", "samples", "speakers"}

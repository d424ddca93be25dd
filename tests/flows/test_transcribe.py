"""`transcribe`: samples without text are heard once, with their source, and a new ingest keeps what was heard."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from merloco.features.shards.locks import shard_lock
from merloco.features.store import FeatureStore
from merloco.flows.transcribe import service as transcription
from merloco.flows.transcribe.service import TranscribeJob
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.media.pool import DecoderPool
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import read_samples, samples_path
from merloco.pipelines.samples.tombstones import add_tombstones
from merloco.pipelines.samples.transcripts import read_transcripts
from tests.helpers.command_line import merloco
from tests.helpers.kill_server import KillServer
from tests.helpers.store_files import CATALOG
from tests.helpers.tiny_models import save_whisper

CLIPS = 6


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("asr") / "tiny-whisper")


@pytest.fixture
def afew(tmp_path: Path, demo_corpora: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A few of the demo's AFEW clips, one of them without a sound track."""
    monkeypatch.chdir(CATALOG.parent)
    clips = sorted((demo_corpora["afew"] / "Train_AFEW").glob("*/*.avi"), key=lambda p: p.stem)
    for clip in clips[:CLIPS]:
        target = tmp_path / "afew" / clip.relative_to(demo_corpora["afew"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(tmp_path / "store", catalog, create=True)
    ingest_corpus("afew", catalog.corpus("afew"), tmp_path / "afew", store.root)
    return store


def test_text_is_written_once_with_model_revision_and_source(
    capsys: pytest.CaptureFixture, afew: FeatureStore, whisper: Path
) -> None:
    arguments = ["transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow"]
    code, out, _ = merloco(capsys, *arguments)
    assert code == 0 and "merloco extract --corpora afew --modalities text" in out
    samples = from_table(read_samples(afew.root, "afew"))
    heard = [s for s in samples if s.text_source == "asr"]
    assert len(heard) == CLIPS - 1 and len(samples) == CLIPS
    for sample in heard:
        assert sample.native["asr"]["model"] == "tiny-whisper" and len(sample.native["asr"]["revision"]) == 64
        assert sample.text_status == ("no_text" if sample.native["asr"]["no_speech"] else "ok")
    code, again, _ = merloco(capsys, *arguments)
    assert from_table(read_samples(afew.root, "afew")) == samples
    assert code == 0 and f"{CLIPS - 1} of" not in again


def test_a_new_ingest_keeps_what_was_heard(
    capsys: pytest.CaptureFixture, afew: FeatureStore, whisper: Path, tmp_path: Path
) -> None:
    merloco(capsys, "transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow")
    before = {s.sample_id: s.text for s in from_table(read_samples(afew.root, "afew"))}
    extra = tmp_path / "afew" / "Val_AFEW" / "Happy" / "000900000.avi"
    extra.parent.mkdir(parents=True)
    extra.write_bytes(b"new")
    ingest_corpus("afew", afew.catalog.corpus("afew"), tmp_path / "afew", afew.root)
    after = {s.sample_id: s.text for s in from_table(read_samples(afew.root, "afew"))}
    assert after == before | {"afew/val/000900000": None}


def test_a_clip_that_was_deleted_does_not_come_back_with_its_transcript(
    capsys: pytest.CaptureFixture, afew: FeatureStore, whisper: Path
) -> None:
    [first, *rest] = read_samples(afew.root, "afew")["sample_id"].to_pylist()
    add_tombstones(afew.root, "afew", [first], [])
    merloco(capsys, "transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow")
    assert read_samples(afew.root, "afew")["sample_id"].to_pylist() == rest


def transcribe(store: str, root: str, model: str, batch: int = 2) -> None:
    """Transcribe in small batches (called in a child of the kill server)."""
    transcription.BATCH = batch
    counts = transcription.transcribe_corpus(TranscribeJob(str(CATALOG), store, "afew", root, model))
    print("done", counts)


def texts(store: FeatureStore) -> dict[str, str | None]:
    return {s.sample_id: s.text for s in from_table(read_samples(store.root, "afew"))}


def test_a_kill_costs_a_batch_and_what_was_heard_is_not_heard_again(
    kill_server: KillServer, afew: FeatureStore, whisper: Path, tmp_path: Path
) -> None:
    """Killed after the first batch, and then with the lock in hand, just before the lines of the second are added."""
    before = samples_path(afew.root, "afew").read_bytes()
    other = FeatureStore.open(shutil.copytree(afew.root, tmp_path / "whole"), afew.catalog)
    arguments = [str(afew.root), str(tmp_path / "afew"), str(whisper)]
    lines = []
    for step in (9, 8):  # three changes for the lock of the corpus, then five for each batch
        request = {"call": "tests.flows.test_transcribe:transcribe", "step": step, "within": str(afew.root)}
        killed = kill_server(**request, args=arguments)
        assert killed["code"] == -9, killed["output"]
        lines.append(len(read_transcripts(afew.root, "afew")))
    assert lines == [2, 2]
    transcribe(*arguments)
    transcribe(str(other.root), *arguments[1:])
    assert texts(afew) == texts(other)
    assert len(read_transcripts(afew.root, "afew")) == CLIPS - 1  # none twice
    assert samples_path(afew.root, "afew").read_bytes() == before


def transcribe_and_ingest_at_once(store: str, root: str, model: str) -> None:
    """Two processes: one hears a corpus, the other ingests a release that grows (called in a child)."""
    child = os.fork()
    if not child:
        transcribe(store, root, model, batch=1)
        os._exit(0)
    entry, clips = load_catalog(CATALOG).corpus("afew"), 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        clip = Path(root) / "Val_AFEW" / "Happy" / f"0009{clips:05d}.avi"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(b"new")
        clips += 1
        ingest_corpus("afew", entry, Path(root), Path(store))
    print(f"ingested {clips}")


def test_an_ingest_beside_a_transcription_loses_nothing_on_either_side(
    kill_server: KillServer, afew: FeatureStore, whisper: Path, tmp_path: Path
) -> None:
    arguments = [str(afew.root), str(tmp_path / "afew"), str(whisper)]
    done = kill_server(call="tests.flows.test_transcribe:transcribe_and_ingest_at_once", args=arguments)
    assert done["code"] == 0, done["output"]
    samples = from_table(read_samples(afew.root, "afew"))
    assert len([s for s in samples if s.text_source == "asr"]) == CLIPS - 1
    assert f"ingested {len(samples) - CLIPS}\n" in done["output"] and len(samples) > CLIPS


def test_a_second_transcription_of_a_corpus_is_refused(afew: FeatureStore, whisper: Path, tmp_path: Path) -> None:
    with (
        shard_lock([afew.root / "transcripts"], "afew"),
        pytest.raises(DataError, match="being transcribed by another"),
    ):
        transcribe(str(afew.root), str(tmp_path / "afew"), str(whisper))


def test_a_file_that_changed_is_heard_again_and_one_that_was_copied_is_not(
    capsys: pytest.CaptureFixture, afew: FeatureStore, whisper: Path, tmp_path: Path
) -> None:
    command = ["transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow"]
    merloco(capsys, *command)
    before = {s.sample_id: s for s in from_table(read_samples(afew.root, "afew")) if s.text_source == "asr"}
    changed, copied, *_ = (s for s in before.values() if s.text)
    other = next(s for s in before.values() if s.text != changed.text)
    shutil.copy(tmp_path / "afew" / other.audio_path, tmp_path / "afew" / changed.audio_path)
    os.utime(tmp_path / "afew" / copied.audio_path, ns=(1, 1))
    ingest_corpus("afew", afew.catalog.corpus("afew"), tmp_path / "afew", afew.root)
    assert texts(afew)[changed.sample_id] is None and texts(afew)[copied.sample_id] == copied.text
    assert merloco(capsys, *command)[1].splitlines()[3].split()[:2] == ["afew", "1"]  # one was heard
    assert texts(afew)[changed.sample_id] == other.text


def test_texts_in_a_samples_table_of_an_older_version_stay(
    capsys: pytest.CaptureFixture, afew: FeatureStore, whisper: Path, tmp_path: Path
) -> None:
    samples = from_table(read_samples(afew.root, "afew"))
    origin = {"model": "old-whisper", "revision": "r", "no_speech": False}
    old = replace(samples[0], text="as it was heard", text_source="asr", text_status="ok")
    old = replace(old, native={**old.native, "asr": origin})
    write_parquet(samples_path(afew.root, "afew"), to_table([old, *samples[1:]]))
    assert from_table(read_samples(afew.root, "afew"))[0] == old
    (tmp_path / "afew" / "new.txt").write_text("another release")
    ingest_corpus("afew", afew.catalog.corpus("afew"), tmp_path / "afew", afew.root)
    assert from_table(read_samples(afew.root, "afew"))[0] == old
    merloco(capsys, "transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow")
    assert from_table(read_samples(afew.root, "afew"))[0] == old


def test_a_clip_that_hangs_its_decoder_costs_itself(
    afew: FeatureStore, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = from_table(read_samples(afew.root, "afew"))[0]
    hanging = replace(first, sample_id="afew/train/hang", audio_path="hang.avi")
    shutil.copy(tmp_path / "afew" / first.audio_path, tmp_path / "afew" / "hang.avi")
    write_parquet(samples_path(afew.root, "afew"), to_table([first, hanging]))
    media = DecoderPool(time_limit=3.0, command=(sys.executable, "-m", "tests.helpers.poison_decoder"))
    monkeypatch.setattr(transcription, "decoders", lambda _limit: media)
    counts = transcription.transcribe_corpus(
        TranscribeJob(str(CATALOG), str(afew.root), "afew", str(tmp_path / "afew"), str(whisper))
    )
    media.close()
    assert counts["failed"] == 1 and counts["transcribed"] + counts["no_speech"] == 1


def test_a_model_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture, afew: FeatureStore) -> None:
    code, _, err = merloco(capsys, "transcribe", "--model", "nowhere/whisper", "--store", str(afew.root), "--no-flow")
    assert code == 1 and "nowhere/whisper" in err and "Traceback" not in err

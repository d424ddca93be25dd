"""`transcribe`: samples without text are heard once, with their source, and a new ingest keeps what was heard."""

import shutil
from pathlib import Path

import pytest

from features.store import FeatureStore
from pipelines.catalog import load_catalog
from pipelines.deletions import add_deletions
from pipelines.samples import ingest_corpus, read_samples
from pipelines.schema import from_table
from tests.store_files import CATALOG
from tests.test_cli import merloco
from tests.tiny_models import save_whisper

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
    again = merloco(capsys, *arguments)[1]
    assert from_table(read_samples(afew.root, "afew")) == samples
    assert "1" in again or "Nothing to transcribe" in again


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
    add_deletions(afew.root, "afew", [first], [])
    merloco(capsys, "transcribe", "--model", str(whisper), "--store", str(afew.root), "--no-flow")
    assert read_samples(afew.root, "afew")["sample_id"].to_pylist() == rest


def test_a_model_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture, afew: FeatureStore) -> None:
    code, _, err = merloco(capsys, "transcribe", "--model", "nowhere/whisper", "--store", str(afew.root), "--no-flow")
    assert code == 1 and "nowhere/whisper" in err and "Traceback" not in err

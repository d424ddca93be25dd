"""`predict` on new files: a clip, a sound, a sentence, a file that cannot be read."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import yaml

from merloco.features.runs import find_run, run_folders
from merloco.features.store import FeatureStore
from merloco.flows.experiments.plan import train_plan
from merloco.flows.experiments.service import execute
from merloco.flows.extract.jobs import extract_jobs
from merloco.flows.extract.service import clear_caches, extract_one
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import EMOTIONS
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.run_files import make_run
from tests.helpers.store_files import CATALOG


@pytest.fixture(scope="module")
def demo_run(demo_corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store with 36 clips of the demo's MELD, all three light views, and one trained run."""
    root = tmp_path_factory.mktemp("run")
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(root, catalog, create=True)
    ingest_corpus("meld", catalog.corpus("meld"), demo_corpora["meld"], root)
    table = read_samples(root, "meld")
    few = table.filter([i % 7 < 3 for i in range(table.num_rows)])
    write_parquet(samples_path(root, "meld"), few)
    planned = store.plan(store.views("light").values(), ["meld"])
    clear_caches()
    for job in extract_jobs(store, str(CATALOG), planned, {"meld": str(demo_corpora["meld"])}, "cpu", False):
        extract_one(job)
    execute(store, train_plan(["meld"], ["meld"], "light", None, [0], {"epochs": 3}))
    return store


@pytest.fixture(scope="module")
def two_views(
    demo_run: FeatureStore, demo_corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """A copy of the store with a second audio view, extracted, and a run of both."""
    folder = tmp_path_factory.mktemp("two")
    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    raw["views"]["prosody_mean"] = {"encoder": "prosody", "window": 4.0, "step": 2.0, "pooling": "mean"}
    raw["feature_sets"]["two"] = {"audio": ["prosody_mean", "prosody"], "text": "minilm"}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    shutil.copytree(demo_run.root, folder / "store")
    store = FeatureStore.open(folder / "store", load_catalog(folder / "catalog.yaml"))
    planned = store.plan(store.views("two").values(), ["meld"])
    roots = {"meld": str(demo_corpora["meld"])}
    for job in extract_jobs(store, str(folder / "catalog.yaml"), planned, roots, "cpu", False):
        extract_one(job)
    execute(store, train_plan(["meld"], ["meld"], "two", None, [0], {"epochs": 3}))
    return store


def predicted(capsys: pytest.CaptureFixture, store: FeatureStore, *arguments: str) -> dict:
    code, out, err = merloco(capsys, "predict", *arguments, "--store", str(store.root), "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert set(row["probabilities"]) == set(EMOTIONS)
    assert sum(row["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
    assert row["emotion"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
    return row


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)


def clip_of(corpora: dict[str, Path]) -> Path:
    return sorted((corpora["meld"] / "dev_splits_complete").glob("dia0_utt*.mp4"))[0]


def test_a_clip_uses_sound_and_face(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    row = predicted(capsys, demo_run, str(clip_of(demo_corpora)))
    assert row["statuses"] == {"audio": "ok", "video": "ok", "text": "no_text"}
    assert 0 < row["n_face_frames"] <= row["n_frames"]
    added = row["contributions"]
    assert added["text"] is None and added["audio"] is not None and added["video"] is not None
    assert abs(added["audio"]) > 1e-4 and (row["protocol"], row["feature_set"]) == ("train", "light")


def test_the_table_says_which_run_was_asked_and_what_each_modality_added(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    code, out, err = merloco(capsys, "predict", str(clip_of(demo_corpora)), "--store", str(demo_run.root))
    assert code == 0, err
    assert out.startswith("train/train-test-meld") and "protocol train, trained on meld, features light" in out
    assert "Contribution" in out and "frames with a face" in out and "Gate" not in out


def test_the_run_that_is_asked_is_never_a_point_of_a_grid(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, tmp_path: Path
) -> None:
    assert find_run(demo_run.root, trained=True, default=("loco", "train")).parent.name == "train"
    make_run(tmp_path, {"meld": {"meld/train/dia0_utt0": ("happy", "sad")}}, "grid", protocol="grid")
    assert len(run_folders(tmp_path)) == 1
    with pytest.raises(DataError, match="no run of the protocols loco, train: name one of another with --run"):
        find_run(tmp_path, trained=True, default=("loco", "train"))


def test_a_clip_with_its_transcript_uses_all_three(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    row = predicted(capsys, demo_run, str(clip_of(demo_corpora)), "--text", "I had so much fun!")
    assert set(row["statuses"].values()) == {"ok"}


def test_a_prediction_equals_that_of_the_stored_sample(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    query = """
        select video_path, text, probabilities from predictions join samples using (sample_id)
        where text is not null and video_status = 'ok' order by sample_id limit 1
    """
    path, text, stored = demo_run.sql(query).fetchall()[0]
    row = predicted(capsys, demo_run, str(demo_corpora["meld"] / path), "--text", text)
    assert all(row["probabilities"][name] == pytest.approx(stored[name], abs=1e-4) for name in EMOTIONS)


def test_a_run_on_two_audio_views_predicts_with_both_and_with_neither(
    capsys: pytest.CaptureFixture, two_views: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    query = """
        select run, audio_path, text, probabilities
        from predictions join samples using (sample_id) join runs using (run)
        where feature_set = 'two' and text is not null and audio_status = 'ok' order by sample_id limit 1
    """
    run, path, text, stored = two_views.sql(query).fetchall()[0]
    asked = ("--run", run, "--catalog", str(two_views.catalog.file))
    row = predicted(capsys, two_views, str(demo_corpora["meld"] / path), "--text", text, *asked)
    assert all(row["probabilities"][name] == pytest.approx(stored[name], abs=1e-4) for name in EMOTIONS)
    assert list(row["statuses"]) == list(row["contributions"]) == ["prosody_mean", "prosody", "text"]
    row = predicted(capsys, two_views, "--text", text, *asked)
    assert row["statuses"] == {"prosody_mean": "missing_media", "prosody": "missing_media", "text": "ok"}


def test_a_sound_alone(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", read_audio(clip_of(demo_corpora)).wave, 16000)
    row = predicted(capsys, demo_run, str(tmp_path / "a.wav"))
    assert row["statuses"] == {"audio": "ok", "video": "no_video", "text": "no_text"}


def test_a_sentence_alone_and_a_text_file(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, tmp_path: Path
) -> None:
    (tmp_path / "said.txt").write_text("You ruined it, get out of here!\n")
    one = predicted(capsys, demo_run, "--text", "You ruined it, get out of here!")
    other = predicted(capsys, demo_run, str(tmp_path / "said.txt"))
    assert one["probabilities"] == pytest.approx(other["probabilities"])
    assert one["statuses"]["audio"] == "missing_media"


SAID = "Où est le café? You ruined it!"


@pytest.mark.parametrize("name", ["said.txt", "UP.TXT", "two.Txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_text_file_keeps_its_letters_in_every_usual_encoding(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, tmp_path: Path, name: str, encoding: str
) -> None:
    (tmp_path / name).write_bytes(f"{SAID}\r\n".encode(encoding))
    row = predicted(capsys, demo_run, str(tmp_path / name))
    assert row["probabilities"] == pytest.approx(predicted(capsys, demo_run, "--text", SAID)["probabilities"])
    assert row["statuses"]["text"] == "ok"


@pytest.mark.parametrize("blank", ["   ", "\n\t", "\u200b", ""])
def test_blank_text_changes_nothing(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path], blank: str
) -> None:
    clip = str(clip_of(demo_corpora))
    row = predicted(capsys, demo_run, clip, "--text", blank)
    assert row["statuses"]["text"] == "no_text" and row["contributions"]["text"] is None
    assert row["probabilities"] == predicted(capsys, demo_run, clip)["probabilities"]
    code, _, err = merloco(capsys, "predict", "--text", blank, "--store", str(demo_run.root))
    assert code == 2 and "nothing to predict: --text is blank" in the_sentence(err)


@pytest.mark.parametrize("raw", [b"  \n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_file_without_text_is_one_sentence(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "said.txt").write_bytes(raw)
    code, _, err = merloco(capsys, "predict", str(tmp_path / "said.txt"), "--store", str(demo_run.root))
    assert code == 1 and "said.txt: nothing to predict from" in the_sentence(err) and "text: no_text" in err


def test_a_folder_is_walked(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    shutil.copy(clip_of(demo_corpora), tmp_path / "b" / "CLIP.MP4")
    (tmp_path / "b" / ".hidden" / "x.txt").write_text(SAID)
    (tmp_path / "a.TXT").write_text(SAID)
    (tmp_path / "notes.json").write_text("{}")
    arguments = ("predict", str(tmp_path), "--store", str(demo_run.root), "--format", "jsonl")
    code, out, err = merloco(capsys, *arguments)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [Path(row["file"]).name for row in rows] == ["a.TXT", "CLIP.MP4"]
    assert [row["statuses"]["video"] for row in rows] == ["missing_media", "ok"]
    assert f"neither media nor text, not predicted: 1 ({tmp_path / 'notes.json'})" in err


def test_what_is_not_there_costs_itself(capsys: pytest.CaptureFixture, demo_run: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SAID)
    (tmp_path / "empty").mkdir()
    arguments = ("nowhere.mp4", str(tmp_path / "empty"), str(tmp_path / "a.txt"), "--store", str(demo_run.root))
    code, out, err = merloco(capsys, "predict", *arguments, "--format", "csv")
    assert code == 1 and len(out.splitlines()) == 2
    assert "error: nowhere.mp4: no such file" in err and "empty: no media and no .txt file in this folder" in err


def test_a_corrupt_file_is_one_sentence_and_the_others_are_predicted(
    capsys: pytest.CaptureFixture, demo_run: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    corrupt = str(demo_corpora["meld"] / "train_splits" / "dia1_utt3.mp4")
    good = str(clip_of(demo_corpora))
    code, out, err = merloco(capsys, "predict", corrupt, good, "--store", str(demo_run.root))
    assert code == 1 and good[-40:] in out
    sentence = the_sentence(err)
    assert "dia1_utt3.mp4: nothing to predict from" in sentence and "decode_error" in sentence


def test_wrong_usage_and_unknown_runs_are_named(capsys: pytest.CaptureFixture, demo_run: FeatureStore) -> None:
    store = ("--store", str(demo_run.root))
    assert merloco(capsys, "predict", *store)[0] == 2
    code, _, err = merloco(capsys, "predict", "nowhere.mp4", *store)
    assert code == 1 and "nowhere.mp4: no such file" in the_sentence(err)
    code, _, err = merloco(capsys, "predict", "--text", "Hi.", "--run", "trian", *store)
    assert code == 2 and "no run 'trian'" in the_sentence(err)

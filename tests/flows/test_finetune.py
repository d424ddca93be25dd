"""`finetune` on the demo's MELD: better on validation, usable at once, provenance filled in, mistakes named."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.flows.finetune.snapshots import write_snapshot
from merloco.models.finetune.run import Snapshot
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.catalog.registered import registered_encoders
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.store_files import CATALOG
from tests.helpers.tiny_models import save_audio, save_roberta, save_vit


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small random checkpoints in the published formats, where the catalog looks for them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_audio(folder)
    save_roberta(folder / "emotion-english-distilroberta-base")
    save_vit(folder / "tiny-vit")
    return folder


def meld_store(root: Path, release: Path, splits: tuple[str, ...], most: int = 1000) -> FeatureStore:
    """A store with some of the demo's MELD."""
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(root, catalog, create=True)
    ingest_corpus("meld", catalog.corpus("meld"), release, root)
    table = read_samples(root, "meld")
    chosen = [i for i, split in enumerate(table["split"].to_pylist()) if split in splits][:most]
    write_parquet(samples_path(root, "meld"), table.take(chosen))
    return store


@pytest.fixture(scope="module")
def meld(demo_corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store with the training and the validation part of the demo's MELD."""
    return meld_store(tmp_path_factory.mktemp("finetune"), demo_corpora["meld"], ("train", "val"))


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.setenv("MERLOCO_CHECKPOINTS", str(checkpoints))


def finetune(capsys: pytest.CaptureFixture, store: FeatureStore, *arguments: str) -> tuple[int, str, str]:
    common = ("--corpus", "meld", "--store", str(store.root), "--device", "cpu", "--no-flow")
    return merloco(capsys, "finetune", *common, *arguments)


CASES = {
    # A pretrained text model; random weights of sound and pictures need larger steps.
    "text": ("--features light --learning-rate 3e-4 --epochs 4", "minilm_meld", "light_meld"),
    "audio": ("--learning-rate 1e-3 --epochs 10 --patience 10", "audio_published_meld", "published_meld"),
    "video": ("--features light --learning-rate 3e-3 --epochs 8 --patience 8", "tiny_vit_meld", "light_meld"),
}


@pytest.mark.parametrize("modality", CASES)
def test_a_modality_gets_better_and_its_encoder_extracts(
    modality: str,
    capsys: pytest.CaptureFixture,
    meld: FeatureStore,
    checkpoints: Path,
    demo_corpora: dict[str, Path],
    tmp_path: Path,
) -> None:
    options, name, feature_set = CASES[modality]
    base = ("--base", str(checkpoints / "tiny-vit")) if modality == "video" else ()
    catalog_file = CATALOG.read_bytes()
    code, out, err = finetune(capsys, meld, "--modality", modality, *options.split(), *base, "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert row["encoder"] == name and row["val"] == 14
    # Seven classes: always saying one of them scores 14.3.
    assert row["after"] > max(row["val UAR before"], 100 / 7) + 7
    # A corrupt clip and an absent one cost themselves.
    assert row["train"] + row["left out"] == 43
    assert row["left out"] == (0 if modality == "text" else 2)
    assert modality == "text" or "decode_error 1" in err
    assert CATALOG.read_bytes() == catalog_file
    assert str(checkpoints) not in (meld.root / "encoders" / name / "encoder.json").read_text()

    # A fine-tuned encoder is a folder: another store takes it over as it is.
    other = meld_store(tmp_path, demo_corpora["meld"], ("test",), most=4)
    weights = tmp_path / "encoders" / name / "weights"
    shutil.copytree(meld.root / "encoders" / name, weights.parent)
    extract = ("extract", "--features", feature_set, "--modalities", modality, "--store", str(other.root), "--no-flow")
    code, out, err = merloco(capsys, *extract)
    assert code == 0, err
    query = f"select count(*) from {name} where status = 'ok' and n_segments > 0"
    assert FeatureStore.open(tmp_path, load_catalog(CATALOG, tmp_path)).sql(query).fetchall() == [(4,)]

    def view() -> FeatureView:
        opened = FeatureStore.open(tmp_path, load_catalog(CATALOG, tmp_path))
        return opened.views(feature_set, [modality])[modality]

    made = view()
    assert made.name == name and made.trained_on == ("meld",)
    assert len(made.definition["encoder"]["weights"]) == 64
    # Another bit of the checkpoint is another fingerprint.
    content = (weights / "model.safetensors").read_bytes()
    (weights / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert view().fingerprint != made.fingerprint


def test_a_finished_encoder_is_not_made_again(capsys: pytest.CaptureFixture, meld: FeatureStore) -> None:
    arguments = ("--modality", "text", "--name", "again", "--epochs", "1")
    code, out, err = finetune(capsys, meld, *arguments)
    assert code == 0, err
    assert "Next: merloco extract --features published_meld --modalities text" in out
    weights = meld.root / "encoders" / "again" / "weights" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    code, out, _ = finetune(capsys, meld, *arguments)
    assert code == 0 and "nothing to do" in out and weights.stat().st_mtime_ns == made
    code, _, err = finetune(capsys, meld, *arguments, "--seed", "5")
    assert code == 1 and "made with other settings (seed 0, now 5)" in the_sentence(err)
    # Everything but the weights and their record is gone.
    assert {path.name for path in weights.parent.parent.iterdir()} == {"weights", "encoder.json", ".lock"}
    assert oct(weights.stat().st_mode)[-3:] == oct((weights.parent / "config.json").stat().st_mode)[-3:]


def test_two_processes_do_not_make_one_encoder(capsys: pytest.CaptureFixture, meld: FeatureStore) -> None:
    folder = meld.root / "encoders" / "taken"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = finetune(capsys, meld, "--modality", "text", "--name", "taken")
    assert code == 1 and "encoder 'taken' is being fine-tuned by another process" in the_sentence(err)


def test_a_file_system_without_locks_keeps_nobody_from_fine_tuning(
    capsys: pytest.CaptureFixture, meld: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)  # what such a file system answers
    code, out, err = finetune(capsys, meld, "--modality", "text", "--name", "unlocked", "--epochs", "1")
    assert code == 0 and "Next: merloco extract" in out, err


def test_a_base_of_unknown_history_is_said(
    capsys: pytest.CaptureFixture, meld: FeatureStore, checkpoints: Path
) -> None:
    base = str(checkpoints / "emotion-english-distilroberta-base")
    code, _, err = finetune(capsys, meld, "--modality", "text", "--epochs", "1", "--base", base, "--name", "stranger")
    assert code == 0 and "has seen before is not known: only meld counts" in err
    assert registered_encoders(meld.root)["stranger"].encoder.kind == "hf_text"


def test_provenance_adds_up_and_a_taken_place_is_left_alone(capsys: pytest.CaptureFixture, meld: FeatureStore) -> None:
    """Fine-tuned twice: the second one's base is the first one, and the set that has a text encoder keeps it."""
    arguments = ("--modality", "text", "--epochs", "1")
    assert finetune(capsys, meld, *arguments, "--name", "first")[0] == 0
    assert finetune(capsys, meld, *arguments, "--name", "second", "--base", "first")[0] == 0
    found = registered_encoders(meld.root)
    assert found["second"].encoder.trained_on == ("meld",) and found["second"].description["base"] == "first"
    sets = [found[name].feature_set for name in ("first", "second")]
    assert len(set(sets)) == 2 and sets[1] == "published_second"


def test_a_leaking_cell_is_known(
    capsys: pytest.CaptureFixture, meld: FeatureStore, demo_corpora: dict[str, Path]
) -> None:
    """The published text encoder has seen MELD: fine-tuned on IEMOCAP, it has seen both."""
    ingest_corpus("iemocap", meld.catalog.corpus("iemocap"), demo_corpora["iemocap"], meld.root)
    arguments = ("--modality", "text", "--corpus", "iemocap", "--epochs", "1")
    code, out, err = merloco(capsys, "finetune", *arguments, "--store", str(meld.root), "--device", "cpu", "--no-flow")
    assert code == 0, err
    assert "tested on meld, iemocap" in out
    assert load_catalog(CATALOG, meld.root).encoders["text_published_iemocap"].trained_on == ("meld", "iemocap")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("--modality sound", 2, "unknown modality 'sound'"),
        ("--modality audio --features light", 2, "encoder 'prosody' (prosody) has no weights to fine-tune"),
        ("--modality video --features light", 2, "encoder 'face_hog' (face_hog) has no weights to fine-tune"),
        ("--modality audio --base minilm", 2, "--base 'minilm' encodes text, not audio"),
        ("--modality text --base minilm2", 2, "did you mean 'minilm'?"),
        ("--modality text --name minilm", 2, "the catalog has an encoder or a view of that name"),
        ("--modality text --name a-b", 2, "expected a letter, then letters, digits and _"),
        ("--modality text --features lite", 2, "unknown feature set 'lite': did you mean 'light'?"),
        ("--modality video", 1, "encoder kind 'resnet50_affectnet' has no weights: put them at"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: str, code: int, sentence: str, capsys: pytest.CaptureFixture, meld: FeatureStore
) -> None:
    found, _, err = finetune(capsys, meld, *arguments.split())
    assert found == code and sentence in the_sentence(err)


def test_a_corpus_without_the_modality_is_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path, demo_corpora: dict[str, Path]
) -> None:
    catalog = load_catalog(CATALOG)
    FeatureStore.open(tmp_path, catalog, create=True)
    ingest_corpus("afew", catalog.corpus("afew"), demo_corpora["afew"], tmp_path)
    code, _, err = merloco(
        capsys, "finetune", "--modality", "text", "--corpus", "afew", "--store", str(tmp_path), "--no-flow"
    )
    assert code == 1 and "no labelled utterance of its train part has text to fine-tune on (no_text" in the_sentence(
        err
    )


def test_what_is_discarded_of_an_earlier_start_is_said_before_it_begins_anew(
    capsys: pytest.CaptureFixture, meld: FeatureStore
) -> None:
    path = meld.root / "encoders" / "anew" / "training.safetensors"
    path.parent.mkdir(parents=True)
    history = [{"epoch": 0, "val_uar": 0.1}, {"epoch": 1, "loss": 1.0, "val_uar": 0.2}]
    write_snapshot(path, Snapshot({"model.x": torch.zeros(1)}, history), {"settings": {"learning_rate": 0.5}})
    code, _, err = finetune(capsys, meld, "--modality", "text", "--name", "anew", "--epochs", "1")
    assert code == 0, err
    said = err.index("a snapshot of 1 epochs is discarded, and training begins anew: it was made with other base and ")
    assert "learning_rate 0.5, now 2e-05" in err and said < err.index("batches")

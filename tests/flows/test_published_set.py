"""The `published` set end to end on the demo corpora, from small random checkpoints in the published formats."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import RobertaConfig, RobertaForSequenceClassification

from merloco.features.store import FeatureStore
from merloco.features.views import resolve_view
from merloco.pipelines.catalog.entries import EncoderEntry, ViewEntry
from merloco.pipelines.catalog.loader import Catalog, load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.command_line import merloco
from tests.helpers.store_files import CATALOG
from tests.helpers.tiny_models import save_audio, save_tokenizer, seeded_state, text_config

CORPORA = ("iemocap", "meld", "mosei", "afew")
VIEWS = {"audio": ("wav2vec2_mer", 256), "video": ("resnet50_mer", 512), "text": ("roberta_mer", 768)}
POOLED = {"audio": 512, "video": 1024, "text": 768}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the catalog names, of the published widths but few layers."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_audio(folder)
    torch.save(seeded_state("face_resnet50"), folder / "FER_static_ResNet50_AffectNet.pt")
    torch.manual_seed(0)
    wide = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 64, "num_hidden_layers": 1}
    text = folder / "emotion-english-distilroberta-base"
    RobertaForSequenceClassification(RobertaConfig(**{**text_config(), **wide})).save_pretrained(text)
    save_tokenizer(text, text_config()["vocab_size"])
    return folder


@pytest.fixture(scope="module")
def catalog_file(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped catalog with the download-free detector: random RetinaFace weights find no face."""
    text = CATALOG.read_text(encoding="utf-8").replace("${MERLOCO_CHECKPOINTS:-checkpoints}", str(checkpoints))
    content = yaml.safe_load(text)
    content["encoders"]["video_published"]["parameters"]["detector"] = "mtcnn"
    path = tmp_path_factory.mktemp("catalog") / "catalog.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def extracted(
    catalog_file: Path, demo_corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """One short utterance of each demo corpus, and MELD's corrupt clip, through the command line."""
    root = tmp_path_factory.mktemp("published")
    catalog = load_catalog(catalog_file)
    store = FeatureStore.open(root, catalog, create=True)
    for name in CORPORA:
        ingest_corpus(name, catalog.corpus(name), demo_corpora[name], root)
        table = read_samples(root, name)
        usable = [
            i
            for i, row in enumerate(table.to_pylist())
            if row["video_status"] == row["audio_status"] == "ok" and (row["text"] or name == "afew")
        ]
        chosen = usable[:1] + [i for i in usable if table["sample_id"][i].as_py() == "meld/train/dia1_utt3"]
        write_parquet(samples_path(root, name), table.take(chosen))
    return store


def test_widths_segments_and_statuses(
    capsys: pytest.CaptureFixture, extracted: FeatureStore, catalog_file: Path
) -> None:
    store = ("--store", str(extracted.root), "--catalog", str(catalog_file))
    code, _, err = merloco(capsys, "extract", "--features", "published", "--no-flow", "--device", "cpu", *store)
    assert code == 0, err
    for modality, view in extracted.views("published").items():
        name, dim = VIEWS[modality]
        assert view.name == name
        folder = extracted.folder(view)
        rows = {r["sample_id"]: r for f in sorted(folder.glob("*.parquet")) for r in pq.read_table(f).to_pylist()}
        assert len(rows) == 5
        bad = {i: r["status"] for i, r in rows.items() if r["status"] != "ok"}
        (no_text,) = [i for i in rows if i.startswith("afew/")]
        assert bad == ({no_text: "no_text"} if modality == "text" else {"meld/train/dia1_utt3": "decode_error"})
        segments = arrays_of(folder, "segments.npy")
        for sample_id, row in rows.items():
            if row["status"] != "ok":
                assert row["pooled"] is None and sample_id not in segments
                continue
            found = segments[sample_id]
            assert found.shape == (row["n_segments"], dim) and len(row["pooled"]) == POOLED[modality]
            mean_std = found if modality == "text" else np.concatenate([found.mean(0), found.std(0)])
            np.testing.assert_allclose(np.ravel(mean_std), row["pooled"], rtol=1e-4, atol=1e-3)
    boxes = arrays_of(extracted.folder(extracted.views("published")["video"]), "boxes.npy")
    assert len(boxes) == 4 and all(b.ndim == 3 and b.shape[2] == 4 for b in boxes.values())


def arrays_of(folder: Path, part: str) -> dict[str, np.ndarray]:
    """Sample id -> array, from all tars of a view."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                key, _, field = member.name.partition(".")
                if field == part:
                    content = tar.extractfile(member)
                    assert content is not None
                    found[key] = np.load(io.BytesIO(content.read()), allow_pickle=False)
    return found


# ---- what is in a fingerprint


def fingerprint(catalog: Catalog, view: str) -> str:
    return resolve_view(catalog, view).fingerprint


def with_view(catalog: Catalog, name: str, **changes: Any) -> Catalog:
    entry: ViewEntry = catalog.views[name].model_copy(update=changes)
    return catalog.model_copy(update={"views": {**catalog.views, name: entry}})


def with_encoder(catalog: Catalog, view: str, **parameters: Any) -> Catalog:
    name = catalog.views[view].encoder
    old = catalog.encoders[name]
    entry: EncoderEntry = old.model_copy(update={"parameters": {**old.parameters, **parameters}})
    return catalog.model_copy(update={"encoders": {**catalog.encoders, name: entry}})


CHANGES: dict[str, tuple[str, Callable[[Catalog], Catalog]]] = {
    "window": ("wav2vec2_mer", lambda c: with_view(c, "wav2vec2_mer", window=3.0)),
    "step": ("wav2vec2_mer", lambda c: with_view(c, "wav2vec2_mer", step=1.0)),
    "pooling": ("wav2vec2_mer", lambda c: with_view(c, "wav2vec2_mer", pooling="mean")),
    "sample_rate": ("wav2vec2_mer", lambda c: with_view(c, "wav2vec2_mer", sample_rate=8000)),
    "down_mix": ("wav2vec2_mer", lambda c: with_view(c, "wav2vec2_mer", down_mix="mean")),
    "faceless_frames": ("resnet50_mer", lambda c: with_view(c, "resnet50_mer", faceless_frames="drop")),
    "fps": ("resnet50_mer", lambda c: with_view(c, "resnet50_mer", fps=10.0)),
    "faces": ("resnet50_mer", lambda c: with_encoder(c, "resnet50_mer", faces="largest")),
    "threshold": ("resnet50_mer", lambda c: with_encoder(c, "resnet50_mer", threshold=0.7)),
    "min_face": ("resnet50_mer", lambda c: with_encoder(c, "resnet50_mer", min_face=20)),
    "normalize": ("wav2vec2_mer", lambda c: with_encoder(c, "wav2vec2_mer", normalize=False)),
    "max_tokens": ("roberta_mer", lambda c: with_encoder(c, "roberta_mer", max_tokens=64)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_can_change_a_value_changes_the_fingerprint(change: str, catalog_file: Path) -> None:
    view, changed = CHANGES[change]
    catalog = load_catalog(catalog_file)
    assert fingerprint(changed(catalog), view) != fingerprint(catalog, view)


@pytest.mark.parametrize("modality", VIEWS)
def test_the_fingerprint_holds_the_checkpoints_hash_and_no_path_or_knob(modality: str, catalog_file: Path) -> None:
    view = resolve_view(load_catalog(catalog_file), VIEWS[modality][0])
    text = str(view.definition)
    assert len(view.definition["encoder"]["weights"]) == 64
    assert "checkpoints" not in text and "device" not in text and "batch" not in text and "workers" not in text

"""Small stores for tests: real samples tables, real shards, the shipped catalog."""

from pathlib import Path

import numpy as np

from merloco.features.extraction.pipeline import Item, ShardTarget, extract_views
from merloco.features.extraction.segments import pool
from merloco.features.shards.commit import Commit
from merloco.features.shards.format import Row, Shard, plan_shards, write_shard
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoding
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import samples_path

CATALOG = Path(__file__).parents[2] / "catalog.yaml"
LABELS = ("neutral", "joy", "sadness", "anger")


class LengthEncoder:
    """A text encoder of width 3 that needs no weights: lengths and counts of a sentence."""

    modality = "text"
    dim = 3

    def encode(self, items: list[str]) -> list[Encoding]:
        vectors = [np.array([[len(t), t.count(" "), sum(map(ord, t)) % 97]], dtype=np.float32) for t in items]
        return [Encoding(vector, np.ones(1, dtype=bool)) for vector in vectors]


def meld_samples(n: int, corpus: str = "meld") -> list[Sample]:
    """Text samples of a MELD-like corpus: four classes, three splits, every tenth without text."""
    splits = ("train", "train", "train", "val", "test")
    return [
        Sample(
            sample_id=f"{corpus}/train/dia{i // 5}_utt{i % 5}",
            corpus=corpus,
            split=splits[i % 5],
            label=LABELS[(i * 7) % 4],
            dialogue=f"train/dia{i // 5}",
            text=None if i % 10 == 9 else f"line {i} says {LABELS[(i * 7) % 4]}",
            text_status="no_text" if i % 10 == 9 else "ok",
            audio_status="missing_media",
            video_status="missing_media",
        )
        for i in range(n)
    ]


def make_store(root: Path, n: int = 600, extracted: bool = True) -> FeatureStore:
    """A store with `n` samples of one corpus and, if asked, the committed shards of the text view."""
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    write_parquet(samples_path(root, "meld"), to_table(meld_samples(n)))
    if extracted:
        extract_all(store)
    return store


def extract_all(store: FeatureStore, view_name: str = "minilm") -> list[Commit]:
    """Extract every shard of the text view with the length encoder."""
    view = store.view(view_name)
    store.write_view_manifest(view)
    shards = plan_shards("meld", store.samples(["meld"]), "text")
    return [extract_text(store, view, shard) for shard in shards]


def extract_text(store: FeatureStore, view: FeatureView, shard: Shard) -> Commit:
    """Extract one shard of a text view with the length encoder; no deletion list is obeyed."""
    target = ShardTarget(view, LengthEncoder(), shard, store.folder(view))
    return extract_views([target], lambda record: {view.name: read_text(record)})[0]


def read_text(record: dict) -> Item:
    """The text of a record, or its status."""
    if record["text_status"] != "ok":
        return Item(record["sample_id"], status=record["text_status"])
    return Item(record["sample_id"], record["text"])


def add_sequences(store: FeatureStore, view_name: str = "prosody", dim: int = 3) -> list[Commit]:
    """Shards of a view with windows for every sample: one to four random segments, every seventh sample silent."""
    view = store.view(view_name)
    store.write_view_manifest(view)
    generator = np.random.default_rng(5)
    commits = []
    for planned in store.plan([view]):
        rows = []
        for i, sample_id in enumerate(planned.shard.samples["sample_id"].to_pylist()):
            segments = generator.normal(size=(i % 4 + 1, dim)).astype(np.float32)
            silent = i % 7 == 6
            rows.append(
                Row(sample_id, "silent")
                if silent
                else Row(sample_id, "ok", None, segments, pool(segments, view.pooling))
            )
        width = dim * (2 if view.pooling == "mean_std" else 1)
        commits.append(write_shard(store.folder(view), planned.shard, rows, width, {}))
    return commits


def make_sequence_store(root: Path) -> FeatureStore:
    """300 samples in three splits with text, sound and pictures; every kind is lacking somewhere."""
    store = make_store(root, n=300)
    add_sequences(store, "prosody", 3)
    add_sequences(store, "face_hog", 2)
    return store


def shard_bytes(store: FeatureStore) -> dict[str, bytes]:
    """Content of every tar and Parquet file of the views, by path in the store."""
    files = [p for p in sorted((store.root / "views").rglob("*")) if p.suffix in (".tar", ".parquet")]
    return {str(p.relative_to(store.root)): p.read_bytes() for p in files}

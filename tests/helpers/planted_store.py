"""Four small corpora with planted features: the text tells, the sound says nothing, pictures help a little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from merloco.features.extraction.segments import pool
from merloco.features.shards.format import OK, Row, plan_shards, write_shard
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import Catalog, load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.store_files import CATALOG

CORPORA = ("iemocap", "mosei", "meld", "afew")
EMOTIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
STRENGTH = {"text": 4.0, "video": 0.4, "audio": 0.0}
"""How far apart the emotions lie in a modality, in standard deviations."""
DIM = 8


def planted_catalog(folder: Path, **changes: Any) -> Path:
    """A copy of the catalog with quick training and changed sections, `encoders__minilm={"trained_on": [...]}`."""
    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    raw["training"]["light"] = {"standardize": True, "learning_rate": 1e-2, "epochs": 20, "patience": 8, "gated_dim": 8}
    for path, values in changes.items():
        section, _, name = path.partition("__")
        raw[section].setdefault(name, {}).update(values)
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def planted_samples(catalog: Catalog, corpus: str, n: int, generator: np.random.Generator) -> list[Sample]:
    """Samples whose labels are uniform over the corpus's native names; MOSEI has intensities, some of two emotions."""
    native = [k for k, v in catalog.corpus(corpus).maps[catalog.corpus(corpus).map].labels.items() if v != "drop"]
    samples = []
    for i in range(n):
        label = native[int(generator.integers(len(native)))]
        intensities = None
        if corpus == "mosei":
            intensities = dict.fromkeys(native, 0.0) | {label: 2.0}
            if generator.random() < 0.2:
                intensities[native[int(generator.integers(len(native)))]] += 0.5
        samples.append(
            Sample(
                sample_id=f"{corpus}/d{i // 6}/u{i:04d}",
                corpus=corpus,
                split=("train", "train", "train", "val", "test")[i // 6 % 5],
                label=None if intensities else label,
                intensities=intensities,
                dialogue=f"{corpus}/d{i // 6}",
                text=f"sentence {i} of {corpus}",
            )
        )
    return samples


def planted_vector(sample_id: str, modality: str, emotion: str | None) -> np.ndarray:
    """One segment (1, DIM): noise drawn from the sample's id around the emotion's centre in this modality."""
    centres = np.random.default_rng([3, len(modality)]).normal(size=(len(EMOTIONS), DIM))
    centres *= STRENGTH[modality] * 2 / np.linalg.norm(centres, axis=1, keepdims=True)
    noise = np.random.default_rng([ord(c) for c in sample_id + modality]).normal(size=(1, DIM))
    return (noise + (0 if emotion is None else centres[EMOTIONS.index(emotion)])).astype(np.float32)


def planted_store(
    root: Path,
    catalog: Path,
    n: int = 300,
    telling: bool = True,
    lacking: Mapping[str, str] | None = None,
    features: str = "light",
) -> FeatureStore:
    """Samples and features written by the store's own writer, with the views of a feature set.

    Args:
        root: Folder of the store.
        catalog: The catalog file.
        n: Samples per corpus.
        telling: Whether the features know the labels at all.
        lacking: Corpus -> a modality, or one of its views, that none of its samples has.
        features: The feature set.
    """
    loaded = load_catalog(catalog)
    store = FeatureStore.open(root, loaded, create=True)
    for number, corpus in enumerate(CORPORA):
        samples = planted_samples(loaded, corpus, n, np.random.default_rng([5, number]))
        write_parquet(samples_path(root, corpus), to_table(samples))
    emotions = dict(store.sql("select sample_id, emotion from labels").fetchall())
    for name, view in store.views(features).items():
        modality = view.modality
        for corpus in CORPORA:
            for shard in plan_shards(corpus, store.samples([corpus]), modality):
                rows = []
                for sample_id in shard.samples["sample_id"].to_pylist():
                    if (lacking or {}).get(corpus) == name:
                        rows.append(Row(sample_id, f"no_{modality}"))
                        continue
                    segments = planted_vector(sample_id, modality, emotions[sample_id] if telling else None)
                    rows.append(Row(sample_id, OK, None, segments, pool(segments, view.pooling)))
                width = 2 * DIM if view.pooling == "mean_std" else DIM
                write_shard(store.folder(view), shard, rows, width, {})
    return store

"""Folds of a corpus of the store: what a group is, which samples are labelled, and rows with the parts of one fold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.store import FeatureStore
from merloco.models.folds import FoldRows, make_folds
from merloco.models.fusion.dataset import Dataset
from merloco.pipelines.catalog.entries import Folds
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map

UNKNOWN = "unknown"
"""Group of the samples that have none, in a corpus where others have."""


def corpus_folds(store: FeatureStore, corpus: str, folds: Folds) -> dict[str, Mapping[str, str]]:
    """The folds of a corpus under its active label map.

    They are over all samples with a single label, whatever features these have, so that systems with other features
    are tested on the same folds.

    Returns:
        Name of a fold -> sample id -> `train`, `val` or `test`.

    Raises:
        DataError: The store does not have the corpus, or the corpus has no such groups.
        ModelError: See `make_folds`.
    """
    samples = store.samples([corpus])
    labels = apply_map(samples, corpus, store.catalog.corpus(corpus).active_map)
    labelled = pc.is_valid(labels["emotion"])
    samples, emotions = samples.filter(labelled), labels["emotion"].filter(labelled)
    ids = samples["sample_id"].to_pylist()
    groups = ids if folds.by == "random" else _groups(samples, corpus, folds.by)
    dialogues = [dialogue or name for dialogue, name in zip(samples["dialogue"].to_pylist(), ids, strict=True)]
    columns = (np.array(column, dtype=str) for column in (ids, groups, dialogues, emotions.to_pylist()))
    rows = FoldRows(corpus, folds.by, *columns)
    made = make_folds(rows, folds.k, folds.stratified, folds.seed)
    return {name: dict(zip(ids, split.tolist(), strict=True)) for name, split in made.items()}


def _groups(samples: pa.Table, corpus: str, by: str) -> list[str]:
    """The session, speaker or dialogue of each sample; sessions are among the native fields of a release."""
    if by == "session":
        found = [json.loads(native).get("session") for native in samples["native"].to_pylist()]
    else:
        found = samples[by].to_pylist()
    groups = [UNKNOWN if group in (None, "") else str(group) for group in found]
    if groups and set(groups) == {UNKNOWN}:
        older = f", or an older version ingested it: run `merloco ingest {corpus}` once more" if by == "session" else ""
        raise DataError(f"{corpus} has no {by}s, and the experiment's folds are by {by}: the release has none{older}")
    return groups


def with_splits(dataset: Dataset, splits: Mapping[str, str]) -> Dataset:
    """The same rows in the parts of a fold (sample id -> part), or in none; nothing else is copied."""
    return replace(dataset, split=np.array([splits.get(name, "none") for name in dataset.sample_id.tolist()]))

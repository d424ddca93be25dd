"""`merloco export --to mmsa`: segment sequences padded into the pickle that MMSA-style code reads."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.export.parquet import refuse_existing
from merloco.features.progress import RowProgress
from merloco.features.query.matrices import require_extracted
from merloco.features.query.streaming import stream_segments
from merloco.features.store import FeatureStore
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import MODALITIES
from merloco.pipelines.samples.tombstones import read_tombstones, unchanged_tombstones

PARTS = {"train": "train", "val": "valid", "test": "test"}
FIELDS = {"audio": "audio", "video": "vision", "text": "text"}


def mmsa_parts(
    store: FeatureStore, feature_set: str, corpus: str, progress: RowProgress | None = None
) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """The dictionary that MMSA reads from a pickle, of one corpus: the format holds one data set.

    Returns:
        train, valid and test -> `raw_text`, `id` (`video$_$clip`), `audio`, `vision`, `text` (float32, N x T x D,
        zeros behind a sequence's end), `audio_lengths`, `vision_lengths`, `text_lengths`, `annotations` (class names),
        `classification_labels` (places in the class order) and, where the release has a sentiment for every row,
        `regression_labels`. Beside it, the samples that are not in it by reason: the format has no mask, so a sample
        needs a class and all three modalities.

    Raises:
        DataError: The feature set lacks a modality, or a view is not extracted.
    """
    views = store.views(feature_set, MODALITIES)
    samples = store.samples([corpus])
    entry = store.catalog.corpus(corpus)
    label_map = entry.maps[entry.map]
    emotions = apply_map(samples, corpus, label_map)["emotion"].to_pylist()
    sequences: dict[str, dict[str, np.ndarray]] = {}
    for modality, view in views.items():
        require_extracted(store, view, [corpus])
        sequences[modality] = {}
        for sample in stream_segments(store, view, [corpus]):
            sequences[modality][sample.sample_id] = sample.segments
            if progress:
                progress(1)
    left_out: Counter[str] = Counter()
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS.values()}
    for record, emotion in zip(samples.to_pylist(), emotions, strict=True):
        missing = [modality for modality in views if record["sample_id"] not in sequences[modality]]
        if record["split"] not in PARTS:
            left_out["no split"] += 1
        elif emotion is None:
            left_out["no class"] += 1
        elif missing:
            left_out[f"no {' and '.join(missing)}"] += 1
        else:
            rows[PARTS[record["split"]]].append({**record, "emotion": emotion})
    longest = {
        m: max((len(sequences[m][r["sample_id"]]) for part in rows.values() for r in part), default=0) for m in views
    }
    parts = {p: _part(rows[p], sequences, longest, label_map.classes) for p in rows}
    complete = not any(None in part["regression_labels"] for part in parts.values())
    for part in parts.values():
        if complete:
            part["regression_labels"] = np.array(part["regression_labels"], dtype=np.float32)
        else:
            del part["regression_labels"]
    return parts, left_out


def _part(
    rows: Sequence[dict[str, Any]],
    sequences: dict[str, dict[str, np.ndarray]],
    longest: dict[str, int],
    classes: Sequence[str],
) -> dict[str, Any]:
    part: dict[str, Any] = {
        "raw_text": [row["text"] or "" for row in rows],
        # `mosei/VIDEO/3` -> VIDEO$_$3; the corpus is that of the file.
        "id": ["$_$".join(row["sample_id"].partition("/")[2].rpartition("/")[::2]) for row in rows],
        "annotations": [row["emotion"] for row in rows],
        "classification_labels": np.array([classes.index(row["emotion"]) for row in rows], dtype=np.float32),
        "regression_labels": [json.loads(row["native"]).get("sentiment") for row in rows],
    }
    part["regression_labels"] = [v if isinstance(v, (int, float)) else None for v in part["regression_labels"]]
    for modality, field in FIELDS.items():
        selected = [sequences[modality][row["sample_id"]] for row in rows]
        dim = next((s.shape[1] for s in sequences[modality].values()), 0)
        padded = np.zeros((len(rows), longest[modality], dim), dtype=np.float32)
        for i, sequence in enumerate(selected):
            padded[i, : len(sequence)] = sequence
        part[field] = padded
        part[f"{field}_lengths"] = [len(sequence) for sequence in selected]
    return part


def write_mmsa(
    store: FeatureStore, feature_set: str, corpus: str, path: Path, progress: RowProgress | None = None
) -> tuple[dict[str, int], Counter[str]]:
    """Write the pickle (merloco itself never reads one); returns rows per part, and what is not in them by reason.

    Raises:
        DataError: See `mmsa_parts`; or samples were deleted meanwhile.
    """
    refuse_existing(path)
    deleted = read_tombstones(store.root, corpus)
    parts, left_out = mmsa_parts(store, feature_set, corpus, progress)
    unchanged = unchanged_tombstones(store.root, deleted, corpus)
    with unchanged, atomic_path(path) as temporary, temporary.open("wb") as stream:
        pickle.dump(parts, stream, protocol=4)
    return {name: len(part["id"]) for name, part in parts.items()}, left_out

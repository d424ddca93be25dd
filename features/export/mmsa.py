"""`merloco export mmsa`: segment sequences padded into the pickle that MMSA-style code reads."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.export.regression_labels import regression_labels
from merloco.features.export.rows import refuse_existing
from merloco.features.progress import RowProgress
from merloco.features.query.matrices import require_extracted
from merloco.features.query.streaming import stream_segments
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import MODALITIES
from merloco.pipelines.samples.tombstones import read_tombstones, unchanged_tombstones

PARTS = {"train": "train", "val": "valid", "test": "test"}
FIELDS = {"audio": "audio", "video": "vision", "text": "text"}
NO_CLASS = -1.0

Tokenize = Callable[[Sequence[str]], np.ndarray]
"""Texts -> int64 (N, 3, L): ids, mask and types of bert-base-uncased's word pieces, zeros behind a text's end."""


@dataclass(frozen=True, slots=True)
class MmsaData:
    """What a pickle holds, and what it does not."""

    parts: dict[str, dict[str, Any]]
    regression: str
    """What its `regression_labels` are."""
    left_out: Counter[str]
    """Samples by the reason why they are not in it."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {name: len(part["id"]) for name, part in self.parts.items()}


def mmsa_data(
    store: FeatureStore,
    feature_set: str,
    corpus: str,
    progress: RowProgress | None = None,
    tokenize: Tokenize | None = None,
) -> MmsaData:
    """The dictionary that MMSA reads from a pickle, of one corpus: the format holds one data set.

    It has no mask, so a sample needs all three modalities and a regression label; it needs no class.

    Returns:
        `parts` maps train, valid and test to `raw_text`, `id` (`video$_$clip`), `audio`, `vision`, `text` (float32,
        N x T x D, zeros behind a sequence's end), `audio_lengths`, `vision_lengths`, `text_lengths`,
        `regression_labels` (float32, see `regression_labels`), `annotations` (class names, empty without one),
        `classification_labels` (places in the class order, -1 without a class), `speaker` (empty where nobody knows),
        `duration` (float32, seconds, NaN where nobody knows), and `text_bert` if there is a tokenizer.

    Raises:
        DataError: The feature set lacks a modality, a view is not extracted, or no sample can be in it.
    """
    views = store.views(feature_set, MODALITIES)
    if several := sorted(views.keys() - set(MODALITIES)):
        raise DataError(
            f"feature set {feature_set!r} has several views of a modality ({', '.join(several)}), and an MMSA pickle "
            "holds one of each: name another set with --features"
        )
    samples = store.samples([corpus])
    entry = store.catalog.corpus(corpus)
    label_map = entry.active_map
    emotions = apply_map(samples, corpus, label_map)["emotion"].to_pylist()
    records = samples.to_pylist()
    regression, values = regression_labels([json.loads(record["native"]) for record in records], emotions)
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
    for record, emotion, value in zip(records, emotions, values, strict=True):
        missing = [modality for modality in views if record["sample_id"] not in sequences[modality]]
        if record["split"] not in PARTS:
            left_out["no split"] += 1
        elif missing:
            left_out[f"no {' and '.join(missing)}"] += 1
        elif value is None:
            left_out[f"no {regression}"] += 1
        else:
            rows[PARTS[record["split"]]].append({**record, "emotion": emotion, "value": value})
    if not any(rows.values()):
        raise _nothing_left(corpus, left_out)
    longest = {
        m: max((len(sequences[m][r["sample_id"]]) for part in rows.values() for r in part), default=0) for m in views
    }
    parts = {p: _part(rows[p], sequences, longest, label_map.classes) for p in rows}
    if tokenize:
        tokens = tokenize([text for part in parts.values() for text in part["raw_text"]])
        ends = np.cumsum([len(part["id"]) for part in parts.values()])[:-1]
        for part, of_part in zip(parts.values(), np.split(tokens, ends), strict=True):
            part["text_bert"] = of_part
    return MmsaData(parts, regression, left_out)


def _nothing_left(corpus: str, left_out: Mapping[str, int]) -> DataError:
    reasons = Counter(left_out).most_common()
    most = reasons[0][0] if reasons else ""
    if "text" in most:
        step = f"give it texts with `merloco transcribe --corpora {corpus}` and run `merloco extract` again"
    elif most == "no split":
        step = "give the corpus splits in its annotation or in the catalog"
    elif most.startswith("no polarity"):
        step = f"look at the label map with `merloco labels show {corpus}`"
    else:
        step = 'see why with `merloco sql "select view, status, error, count(*) from failures group by all"`'
    counted = ", ".join(f"{reason} {n}" for reason, n in reasons) or "no samples"
    return DataError(
        f"no sample of corpus {corpus!r} can be in an MMSA pickle, whose rows have audio, video, text and a label: "
        f"{counted}: {step}"
    )


def _part(
    rows: Sequence[dict[str, Any]],
    sequences: dict[str, dict[str, np.ndarray]],
    longest: dict[str, int],
    classes: Sequence[str],
) -> dict[str, Any]:
    emotions = [row["emotion"] for row in rows]
    part: dict[str, Any] = {
        "raw_text": [row["text"] or "" for row in rows],
        # `mosei/VIDEO/3` -> VIDEO$_$3; the corpus is that of the file.
        "id": ["$_$".join(row["sample_id"].partition("/")[2].rpartition("/")[::2]) for row in rows],
        "annotations": [emotion or "" for emotion in emotions],
        "classification_labels": np.array([classes.index(e) if e else NO_CLASS for e in emotions], dtype=np.float32),
        "regression_labels": np.array([row["value"] for row in rows], dtype=np.float32),
        "speaker": [row["speaker"] or "" for row in rows],
        "duration": np.array([row["duration"] for row in rows], dtype=np.float32),
    }
    for modality, field in FIELDS.items():
        selected = [sequences[modality][row["sample_id"]] for row in rows]
        dim = next((s.shape[1] for s in sequences[modality].values()), 0)
        padded = np.zeros((len(rows), longest[modality], dim), dtype=np.float32)
        for i, sequence in enumerate(selected):
            padded[i, : len(sequence)] = sequence
        part[field] = padded
        part[f"{field}_lengths"] = [len(sequence) for sequence in selected]
    return part


class _PortablePickler(pickle.Pickler):
    """Pickles arrays by public names: numpy 2 names a private module (`numpy._core`) that numpy 1 does not have."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray:
            return np.ndarray, ((0,), "f4"), value.__reduce__()[2]
        return NotImplemented


def write_mmsa(
    store: FeatureStore,
    feature_set: str,
    corpus: str,
    path: Path,
    progress: RowProgress | None = None,
    tokenize: Tokenize | None = None,
) -> MmsaData:
    """Write `mmsa_data` as a pickle for Python 3.4 and numpy 1 onwards; merloco itself never reads one.

    Raises:
        DataError: See `mmsa_data`; or samples were deleted meanwhile.
    """
    refuse_existing(path)
    deleted = read_tombstones(store.root, corpus)
    data = mmsa_data(store, feature_set, corpus, progress, tokenize)
    unchanged = unchanged_tombstones(store.root, deleted, corpus)
    with unchanged, atomic_path(path) as temporary, temporary.open("wb") as stream:
        _PortablePickler(stream, protocol=4).dump(data.parts)
    return data

"""Units to fine-tune on: the labelled utterances of a corpus, read, cut and kept on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.extraction.input_cache import InputCache, cache_inputs
from merloco.features.extraction.reader import Reader, decoders, make_reader
from merloco.features.shards.format import OK
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.flows.finetune.plan import FinetuneJob, classes_of
from merloco.models.finetune.run import TrainingUnits
from merloco.models.finetune.trainable import Trainable
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.hashing import canonical_json, sha256_text
from merloco.pipelines.media.pool import TIME_LIMIT
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.table import read_samples

Progress = Callable[[int, int], None]
"""Called with samples done and samples in all."""


def read_units(
    store: FeatureStore, job: FinetuneJob, view: FeatureView, trainable: Trainable, progress: Progress | None
) -> tuple[TrainingUnits, TrainingUnits, dict[str, int]]:
    """Read the labelled utterances of the training and the validation part of a corpus.

    Args:
        store: The store.
        job: What is fine-tuned.
        view: How sound and pictures are read.
        trainable: Cuts them into units.
        progress: See `Progress`.

    Returns:
        Units to train and to validate on, and the utterances that had to be left out by status.

    Raises:
        DataError: One of the parts has no labelled utterance.
    """
    table = read_samples(store.root, job.corpus)
    entry = store.catalog.corpus(job.corpus)
    emotions = apply_map(table, job.corpus, entry.active_map)["emotion"].to_pylist()
    rows = [
        (record, emotion)
        for record, emotion in zip(table.to_pylist(), emotions, strict=True)
        if emotion is not None and record["split"] in ("train", "val")
    ]
    for split in ("train", "val"):
        if not any(record["split"] == split for record, _ in rows):
            raise DataError(
                f"corpus {job.corpus!r} has no labelled utterance in its {split} part: nothing to fine-tune on"
            )
    records = [record for record, _ in rows]
    reader = make_reader(view, Path(job.root), decoders(TIME_LIMIT))
    units: Sequence[Any]
    if job.modality == "text":
        items = [reader(record) for record in records]
        cut = trainable.cut([item.value for item in items if item.status == OK])
        sample_index = np.array([i for i, item in enumerate(items) if item.status == OK], dtype=np.int64)
        units, statuses = [unit for one in cut for unit in one], [item.status for item in items]
    else:
        cache = _cached(store, job, view, trainable, records, reader, progress)
        units, sample_index, statuses = cache, cache.sample_index, cache.statuses
    index = {name: position for position, name in enumerate(classes_of(store, job.corpus))}
    label = np.array([index[emotion] for _, emotion in rows], dtype=np.int64)
    split_of = np.array([record["split"] for record in records])
    parts = [_part(units, sample_index, label, split_of == split) for split in ("train", "val")]
    left_out = Counter(status for status in statuses if status != OK)
    for split, part in zip(("train", "val"), parts, strict=True):
        if len(part.units) == 0:
            reasons = ", ".join(f"{status} {count}" for status, count in left_out.most_common())
            raise DataError(
                f"corpus {job.corpus!r}: no labelled utterance of its {split} part has {job.modality} to fine-tune on "
                f"({reasons})"
            )
    return parts[0], parts[1], dict(left_out.most_common())


def _cached(
    store: FeatureStore,
    job: FinetuneJob,
    view: FeatureView,
    trainable: Trainable,
    records: list[dict[str, Any]],
    reader: Reader,
    progress: Progress | None,
) -> InputCache:
    """Windows or face crops from the disk, read and detected once for all trainings that see the same ones."""
    reading = {name: value for name, value in view.definition.items() if name not in ("encoder", "pooling")}
    columns = ("sample_id", *(f"{job.modality}_{part}" for part in ("path", "start", "end", "status")), "video_side")
    about = {"reading": reading, "cutting": trainable.cutting, "rows": [[r[c] for c in columns] for r in records]}
    folder = store.root / "inputs" / f"{job.corpus}-{job.modality}-{sha256_text(canonical_json(about))[:12]}"
    done = 0

    def moved(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(done, len(records))

    empty = "no_face" if job.modality == "video" else "no_features"
    return cache_inputs(folder, records, reader, trainable.cut, empty, moved, store.root)


class _Subset(Sequence[Any]):
    """Some units of a sequence, read when they are asked for."""

    def __init__(self, units: Sequence[Any], chosen: np.ndarray) -> None:
        self.units, self.chosen = units, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Any:  # type: ignore[override]
        return self.units[int(self.chosen[number])]


def _part(units: Sequence[Any], sample_index: np.ndarray, label: np.ndarray, chosen: np.ndarray) -> TrainingUnits:
    """The units whose utterances are chosen, utterances numbered anew."""
    number = np.cumsum(chosen) - 1
    here = np.flatnonzero(chosen[sample_index])
    return TrainingUnits(_Subset(units, here), number[sample_index[here]], label[chosen])

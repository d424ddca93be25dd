"""Extraction of one shard: read -> encode -> write, timed per leg. Every input gets a row, whatever happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from features.segments import audio_windows, frame_segments, pool, pooled_dim
from features.shards import OK, Commit, Row, Shard, write_shard
from features.view import FeatureView
from models.encoders import Encoder, Encoding

BATCH_ITEMS = 64
"""Samples per encoder call; does not change a value."""
BATCH_FRAMES = 256
"""Frames held for one encoder call."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was read for one sample: an item for the encoder, or a status."""

    sample_id: str
    value: Any = None
    status: str = OK
    error: str | None = None
    decode_errors: int = 0


Reader = Callable[[Mapping[str, Any]], Item]
Progress = Callable[[int], None]


def extract_shard(
    view: FeatureView,
    encoder: Encoder,
    shard: Shard,
    reader: Reader,
    folder: Path,
    *,
    keep: Mapping[str, Row] | None = None,
    readers: int = 2,
    progress: Progress | None = None,
) -> Commit:
    """Extract and commit one shard.

    Args:
        view: The feature view.
        encoder: Its encoder.
        shard: The plan.
        reader: Turns a samples-table record into an item (`features.reading.make_reader`).
        folder: `store/views/<view>/<fingerprint>`.
        keep: Rows of an earlier commit to take over as they are (`--retry-failed`).
        readers: Threads that decode ahead of the encoder.
        progress: Called with the number of samples done since the last call.

    Returns:
        The commit record.
    """
    keep = keep or {}
    rows = dict(keep)
    seconds = {"read": 0.0, "encode": 0.0}
    records = [record for record in shard.samples.to_pylist() if record["sample_id"] not in keep]
    for batch in _batches(_read_ahead(records, reader, readers, seconds)):
        begun = time.perf_counter()
        for row in encode_items(view, encoder, batch):
            rows[row.sample_id] = row
        seconds["encode"] += time.perf_counter() - begun
        if progress:
            progress(len(batch))
    if progress and keep:
        progress(len(keep))
    ordered = [rows[sample_id] for sample_id in shard.samples["sample_id"].to_pylist()]
    return write_shard(folder, shard, ordered, pooled_dim(encoder.dim, view.pooling), seconds)


def _read_ahead(
    records: Sequence[Mapping[str, Any]], reader: Reader, readers: int, seconds: dict[str, float]
) -> Iterator[Item]:
    """Read in threads, a bounded number of samples ahead, in order; time spent waiting counts as reading."""
    with ThreadPoolExecutor(max_workers=readers) as pool_:
        pending: list[Future[Item]] = []
        source = iter(records)
        pending.extend(pool_.submit(reader, record) for record in islice(source, 4 * readers))
        while pending:
            begun = time.perf_counter()
            item = pending.pop(0).result()
            seconds["read"] += time.perf_counter() - begun
            pending.extend(pool_.submit(reader, record) for record in islice(source, 1))
            yield item


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    frames = 0
    for item in items:
        batch.append(item)
        frames += len(item.value) if isinstance(item.value, np.ndarray) else 1
        if len(batch) >= BATCH_ITEMS or frames >= BATCH_FRAMES:
            yield batch
            batch, frames = [], 0
    if batch:
        yield batch


def encode_items(view: FeatureView, encoder: Encoder, items: Sequence[Item]) -> list[Row]:
    """Encode a batch of items into rows, one row per item in the given order."""
    readable = [item for item in items if item.status == OK]
    encodings = dict(zip((i.sample_id for i in readable), encoder.encode([i.value for i in readable]), strict=True))
    return [
        _row(view, item, encodings[item.sample_id])
        if item.status == OK
        else Row(item.sample_id, item.status, item.error, decode_errors=item.decode_errors)
        for item in items
    ]


def prepare(view: FeatureView, value: Any) -> Any:
    """Cut what was read into what the encoder takes: sound into windows; pictures and text stay as they are."""
    if view.modality == "audio":
        return audio_windows(value, *view.window_and_step(view.definition["sample_rate"]))
    return value


def _row(view: FeatureView, item: Item, encoding: Encoding) -> Row:
    if view.modality == "video":
        window, step = view.window_and_step(view.definition["fps"])
        segments = frame_segments(encoding.vectors, encoding.valid, window, step)
    else:
        segments = encoding.vectors[encoding.valid]
    if len(segments) == 0:
        status = "no_face" if view.modality == "video" else "no_features"
        return Row(item.sample_id, status, decode_errors=item.decode_errors)
    segments = np.ascontiguousarray(segments, dtype=np.float32)
    pooled = pool(segments, view.pooling)
    if not np.isfinite(pooled).all():
        return Row(item.sample_id, "not_finite", "the encoder gave NaN or infinity", decode_errors=item.decode_errors)
    return Row(item.sample_id, OK, None, segments, pooled, dict(encoding.extras), item.decode_errors)

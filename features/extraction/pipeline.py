"""Extraction of one shard for one or several views: read, detect, encode and write overlap, each stage timed.

Every input gets a row, whatever happens to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from merloco.features.extraction.bounded_queue import BoundedQueue, QueueCancelled
from merloco.features.extraction.reader import Item as Item
from merloco.features.extraction.reader import Reader as Reader
from merloco.features.extraction.segments import pooled_dim
from merloco.features.extraction.stages import StageTimings, encode_rows
from merloco.features.progress import RowProgress
from merloco.features.shards.commit import Commit, drop_shard
from merloco.features.shards.format import MISSING, OK, Row, Shard, lost_media, write_shard
from merloco.features.shards.rewrite import drop_deleted
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoder, shared_cores
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.tombstones import locked_tombstones

MAX_WAITING_BYTES = 256 * 2**20
"""Bytes of decoded media that wait for one view's encoder."""

SampleReader = Callable[[Mapping[str, Any]], Mapping[str, Item]]
"""Reads one record of the samples table: view name -> item."""


@dataclass(frozen=True, slots=True)
class ShardTarget:
    """One view of a shard: what encodes it and where its rows go."""

    view: FeatureView
    encoder: Encoder
    shard: Shard
    """The same samples for every target of an extraction."""
    folder: Path
    """`store/views/<view>/<fingerprint>`."""
    reuse_rows: Mapping[str, Row] = field(default_factory=dict)
    """Rows of an earlier commit to take over as they are (`--retry-failed`)."""
    store: Path | None = None
    """Root of the store whose deletion list is obeyed when the shard is committed."""
    root: Path | None = None
    """Root of the corpus: a shard that lacks media which the ingest saw is not committed if it is gone."""


def extract_views(
    targets: Sequence[ShardTarget],
    read: SampleReader,
    *,
    readers: int = 2,
    detectors: int = 1,
    progress: RowProgress | None = None,
    device_lock: Any = None,
) -> list[Commit]:
    """Extract and commit one shard of several views that are read together; returns one commit record per target.

    Args:
        targets: The views.
        read: Reads a sample (`merloco.features.extraction.reader.read_sample`).
        readers: Threads that read ahead of the encoders.
        detectors: Threads that look for faces, for every view of faces.
        progress: Called from one thread at a time.
        device_lock: A lock that is held while the encoders work, so that jobs take turns on a device but read and write
            beside each other.
    """
    report = _serial(progress)
    queues: dict[str, BoundedQueue[Item]] = {target.view.name: BoundedQueue(MAX_WAITING_BYTES) for target in targets}
    timings = {target.view.name: StageTimings(readers, detectors) for target in targets}
    with shared_cores(), ThreadPoolExecutor(2 * len(targets) + 1) as pool:
        feeder = pool.submit(_feed, targets, read, queues, timings, readers)
        with device_lock or nullcontext():
            encoders = [
                pool.submit(_encode, target, queues[target.view.name], timings[target.view.name], pool, report)
                for target in targets
            ]
            # The lock is released when the encoders are done; the last files may still be on their way to the disk.
            outcomes = [encoder.exception() for encoder in encoders]
        problem = feeder.exception() or next((error for error in outcomes if error), None)
        if problem:
            raise problem
        return [encoder.result().result() for encoder in encoders]


def _feed(
    targets: Sequence[ShardTarget],
    read: SampleReader,
    queues: Mapping[str, BoundedQueue[Item]],
    timings: Mapping[str, StageTimings],
    readers: int,
) -> None:
    """Read samples in order and hand each view its item; a view takes nothing for rows that it reuses."""
    samples = targets[0].shard.samples.to_pylist()
    records = [r for r in samples if any(r["sample_id"] not in target.reuse_rows for target in targets)]
    open_queues = dict(queues)
    try:
        for items in _read_ahead(records, read, readers):
            for target in targets:
                name = target.view.name
                item = items[name]
                timings[name].add("decode", item.seconds)
                if item.sample_id not in target.reuse_rows and name in open_queues:
                    try:
                        open_queues[name].put(item, item.size)
                    except QueueCancelled:
                        del open_queues[name]
            if not open_queues:
                return
    finally:
        for queue in queues.values():
            queue.close()


def _read_ahead(records: Sequence[Mapping[str, Any]], read: SampleReader, readers: int) -> Iterator[Mapping[str, Item]]:
    """Read in threads, a bounded number of samples ahead, in order."""
    with ThreadPoolExecutor(readers) as pool:
        submitted = (pool.submit(read, record) for record in records)
        pending = deque(islice(submitted, 2 * readers))
        try:
            while pending:
                items = pending.popleft().result()
                pending.extend(islice(submitted, 1))
                yield items
        finally:
            for future in pending:
                future.cancel()


def _encode(
    target: ShardTarget, queue: BoundedQueue[Item], timings: StageTimings, pool: ThreadPoolExecutor, report: RowProgress
) -> Future[Commit]:
    """Encode what comes through the queue and start writing it; the result is the commit to come."""
    rows = dict(target.reuse_rows)
    try:
        for done in encode_rows(target.view, target.encoder, queue, timings):
            rows.update((row.sample_id, row) for row in done)
            report(len(done))
    finally:
        queue.cancel()
    report(len(target.reuse_rows))
    ordered = [rows[sample_id] for sample_id in target.shard.samples["sample_id"].to_pylist()]
    width = pooled_dim(target.encoder.dim, target.view.pooling)
    return pool.submit(_commit, target, ordered, width, timings.seconds())


def _commit(target: ShardTarget, rows: Sequence[Row], width: int, seconds: Mapping[str, float]) -> Commit:
    """Write the shard without what was deleted since its plan; one of which nothing is left is not kept.

    Raises:
        DataError: Media that the ingest saw are not there, and the corpus as a whole is not: a disk may be unmounted.
    """
    lost = _lost(target.shard, target, rows)
    if lost and target.root is not None:
        _require_release(target, target.root, lost)
    if target.store is None:
        return write_shard(target.folder, target.shard, rows, width, seconds, lost)
    with locked_tombstones(target.store, target.shard.corpus) as deleted:
        shard, rows = drop_deleted(target.shard, target.view.modality, rows, deleted)
        commit = write_shard(target.folder, shard, rows, width, seconds, _lost(shard, target, rows))
        if not rows:
            drop_shard(target.folder, shard.name)
        return commit


def _lost(shard: Shard, target: ShardTarget, rows: Sequence[Row]) -> int:
    return lost_media(shard.samples, target.view.modality, sum(row.status == MISSING for row in rows))


def _require_release(target: ShardTarget, root: Path, lost: int) -> None:
    """Raise `DataError` if no file of the shard that the ingest saw is there: not they are gone, but their disk is."""
    modality, samples = target.view.modality, target.shard.samples
    seen = samples.filter(pc.equal(samples[f"{modality}_status"], OK))[f"{modality}_path"].unique().to_pylist()
    if not any((root / path).is_file() for path in seen):
        raise DataError(
            f"shard {target.shard.name}: the media of {lost} samples, which the ingest saw, are not under "
            f"{str(root)!r}, nor is any other file of the shard, so it is not committed: mount the disk, or give "
            f"--root {target.shard.corpus}=FOLDER where the release lies now, and run the same command again"
        )


_PROGRESS_LOCK = threading.Lock()


def _serial(progress: RowProgress | None) -> RowProgress:
    """Call `progress` from one thread at a time, and not for nothing."""

    def report(count: int) -> None:
        if progress and count:
            with _PROGRESS_LOCK:
                progress(count)

    return report

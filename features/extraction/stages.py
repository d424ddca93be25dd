"""The stages behind the reader: batches, detection, encoding; each in its own thread, each stage timed."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from merloco.features.extraction.bounded_queue import BoundedQueue, QueueCancelled
from merloco.features.extraction.encoder import detect_batch, encode_detections, encode_items
from merloco.features.extraction.reader import Item
from merloco.features.shards.format import STAGES, Row
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoder, FaceEncoder

BATCH_ITEMS = 256
"""Samples per encoder call; does not change a value."""
BATCH_ROWS = 128
"""Frames, windows or texts from which a batch is full; does not change a value."""


class StageTimings:
    """Seconds per stage of one view, added up by several threads.

    Args:
        readers: Threads that decode.
        detectors: Threads that look for faces.
    """

    def __init__(self, readers: int, detectors: int = 1) -> None:
        self.readers, self.detectors = readers, detectors
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds of one thread to a stage: it takes as long as its threads do beside each other."""
        share = seconds / {"decode": self.readers, "detect": self.detectors}.get(stage, 1)
        with self._lock:
            self._seconds[stage] += share

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begun)

    def seconds(self) -> dict[str, float]:
        """The stages that this view has, in their order."""
        return {stage: self._seconds[stage] for stage in STAGES if stage in self._seconds}


def encode_rows(
    view: FeatureView, encoder: Encoder, queue: BoundedQueue[Item], timings: StageTimings
) -> Iterator[list[Row]]:
    """Encode the items of a queue batch by batch; an encoder that detects first does so one batch ahead."""
    if isinstance(encoder, FaceEncoder):
        yield from _detect_and_encode(view, encoder, queue, timings)
    else:
        for batch in batches(queue):
            with timings.time("encode"):
                rows = encode_items(view, encoder, batch)
            yield rows
    timings.add("wait", queue.idle_seconds)


def _detect_and_encode(
    view: FeatureView, encoder: FaceEncoder, queue: BoundedQueue[Item], timings: StageTimings
) -> Iterator[list[Row]]:
    ready: BoundedQueue[tuple[list[Item], dict[str, Any]]] = BoundedQueue(max_bytes=1)
    waiting, turn = batches(queue), threading.Lock()

    def next_batch() -> list[Item] | None:
        with turn:
            return next(waiting, None)

    def detect() -> None:
        try:
            while batch := next_batch():
                with timings.time("detect"):
                    detections = detect_batch(encoder, batch)
                ready.put((batch, detections))
        except QueueCancelled:
            pass
        except BaseException:
            ready.cancel()
            raise

    with ThreadPoolExecutor(timings.detectors + 1) as pool:
        detectors = [pool.submit(detect) for _ in range(timings.detectors)]
        pool.submit(_close_after, detectors, ready)
        try:
            for batch, detections in ready:
                with timings.time("encode"):
                    rows = encode_detections(view, encoder, batch, detections)
                yield rows
        finally:
            ready.cancel()
            queue.cancel()
        for detector in detectors:
            detector.result()


def _close_after(senders: Sequence[Future[None]], queue: BoundedQueue[Any]) -> None:
    """Close a queue when all who send to it are done."""
    wait(senders)
    queue.close()


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Group items into batches of bounded size, in order."""
    batch: list[Item] = []
    rows = 0
    for item in items:
        batch.append(item)
        rows += item.rows
        if len(batch) >= BATCH_ITEMS or rows >= BATCH_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch

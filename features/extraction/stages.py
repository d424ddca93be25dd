"""The stages behind the reader: batches, detection, encoding; each in its own thread, each leg timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from merloco.features.extraction.encoder import encode_found, encode_items, find_items
from merloco.features.extraction.queue import Abandoned, Channel
from merloco.features.extraction.reader import Item
from merloco.features.shards.format import LEGS, Row
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoder, FaceEncoder

BATCH_ITEMS = 256
"""Samples per encoder call; does not change a value."""
BATCH_ROWS = 128
"""Frames, windows or texts from which a batch is full; does not change a value."""


class Legs:
    """Seconds per leg of one view, added up by several threads."""

    def __init__(self, readers: int) -> None:
        self.readers = readers
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, leg: str, seconds: float) -> None:
        """Add seconds to a leg."""
        with self._lock:
            self._seconds[leg] = self._seconds.get(leg, 0.0) + (seconds / self.readers if leg == "decode" else seconds)

    @contextmanager
    def time(self, leg: str) -> Iterator[None]:
        """Add the time of the block to a leg."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(leg, time.perf_counter() - begun)

    def seconds(self) -> dict[str, float]:
        """The legs that this view has, in their order."""
        return {leg: self._seconds[leg] for leg in LEGS if leg in self._seconds}


def encode_rows(view: FeatureView, encoder: Encoder, channel: Channel[Item], legs: Legs) -> Iterator[list[Row]]:
    """Encode the items of a channel batch by batch; an encoder that detects first does so one batch ahead.

    Yields:
        The rows of a batch.
    """
    if isinstance(encoder, FaceEncoder):
        yield from _found_rows(view, encoder, channel, legs)
        return
    for batch in batches(channel):
        with legs.time("encode"):
            rows = encode_items(view, encoder, batch)
        yield rows
    legs.add("wait", channel.waited)


def _found_rows(view: FeatureView, encoder: FaceEncoder, channel: Channel[Item], legs: Legs) -> Iterator[list[Row]]:
    ready: Channel[tuple[list[Item], dict[str, Any]]] = Channel(room=1)

    def detect() -> None:
        try:
            for batch in batches(channel):
                with legs.time("detect"):
                    found = find_items(encoder, batch)
                ready.put((batch, found))
        except Abandoned:
            pass
        finally:
            channel.abandon()
            ready.end()

    with ThreadPoolExecutor(1) as pool:
        detector = pool.submit(detect)
        try:
            for batch, found in ready:
                with legs.time("encode"):
                    rows = encode_found(view, encoder, batch, found)
                yield rows
        finally:
            ready.abandon()
        detector.result()
    legs.add("wait", channel.waited)


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

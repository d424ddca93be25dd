"""A bounded queue between two stages of a pipeline: full stops the sender, and a stage that fails stops the others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueCancelled(Exception):  # noqa: N818 - a signal to the sender, not a fault
    """The receiver takes nothing more."""


class BoundedQueue(Generic[T]):
    """A queue of items with a size."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Sum of the sizes that may wait; an item larger than it passes alone."""
        self.idle_seconds = 0.0
        """Seconds that the receiver had nothing to do."""
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._closed = self._cancelled = False
        self._changed = threading.Condition()

    def put(self, item: T, size: int = 1) -> None:
        """Add an item as soon as there is space; raises `QueueCancelled` where the receiver has given up."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or not self._items or self._bytes + size <= self.max_bytes)
            if self._cancelled:
                raise QueueCancelled
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Nothing more is taken: the next `put` raises."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                begun = time.perf_counter()
                self._changed.wait_for(lambda: self._items or self._closed or self._cancelled)
                self.idle_seconds += time.perf_counter() - begun
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item

"""A bounded queue between two stages of a pipeline: full stops the sender, and a stage that fails stops the others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Abandoned(Exception):  # noqa: N818 - a signal to the sender, not a fault
    """The receiver takes nothing more."""


class Channel(Generic[T]):
    """A queue of things with a size.

    Args:
        room: Sum of the sizes that may wait; a thing larger than it passes alone.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.waited = 0.0
        """Seconds that the receiver had nothing to do."""
        self._things: deque[tuple[T, int]] = deque()
        self._held = 0
        self._ended = self._abandoned = False
        self._changed = threading.Condition()

    def put(self, thing: T, size: int = 1) -> None:
        """Add a thing, after waiting for room.

        Raises:
            Abandoned: The receiver has given up.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or not self._things or self._held + size <= self.room)
            if self._abandoned:
                raise Abandoned
            self._things.append((thing, size))
            self._held += size
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more is taken: the next `put` raises."""
        with self._changed:
            self._abandoned = True
            self._things.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                begun = time.perf_counter()
                self._changed.wait_for(lambda: self._things or self._ended or self._abandoned)
                self.waited += time.perf_counter() - begun
                if not self._things:
                    return
                thing, size = self._things.popleft()
                self._held -= size
                self._changed.notify_all()
            yield thing

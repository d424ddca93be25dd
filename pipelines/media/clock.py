"""The one time line of a container: zero is its start, and jumps of the time stamps cost no memory.

An interval is annotated in a player, which shows the stamps: within an interval they are the truth, and a gap is as
long as it says. A whole file has no such bound, and a recorder that was restarted or a stream that was cut leaves
stamps that leap by hours; there a leap is taken out and the time goes on.
"""

from __future__ import annotations

MAX_GAP = 10.0
"""Seconds by which the stamps of a whole file may leap forward and still mean a gap."""
MAX_OVERLAP = 1.0
"""Seconds by which stamps may fall back and still mean disorder; beyond it, the time goes on where it was."""


class Clock:
    """Seconds since the container's start, for the stamps of one stream in decoding order.

    Args:
        zero: See `merloco.pipelines.media.probe.container_start`.
        leaps_out: Whether leaps forward are taken out: where a file is read to its end.
        begin: The time at which reading begins; None where that is not known, after a seek.
    """

    def __init__(self, zero: float, leaps_out: bool, begin: float | None) -> None:
        self._zero = zero
        self._leaps_out = leaps_out
        self._next = begin
        """The time at which what was read so far ends."""

    def read(self, stamp: float | None, length: float) -> float:
        """The time of a frame of `length` seconds; one without a stamp follows the last one."""
        time = (self._next or 0.0) if stamp is None else stamp - self._zero
        if self._next is not None:
            leap = time - self._next
            if leap < -MAX_OVERLAP or (self._leaps_out and leap > MAX_GAP):
                self._zero += leap
                time = self._next
        self._next = time + length
        return time

"""Which pictures of a file are wanted: a grid on the container's time line, and what the header says of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from merloco.pipelines.media.clock import Clock
from merloco.pipelines.media.probe import MediaError, container_start, open_container, picture_track

TAIL = 1e-3
"""Seconds of tolerance at the edges of an interval: annotation times are rounded to milliseconds."""
ROUNDING = TAIL / 10
"""Seconds by which a picture may come after a point of the grid and still be shown there: containers round stamps."""
MAX_LENGTH = 0.2
"""Seconds of a picture at most: where stamps leap, the header's mean is of no use."""
MAX_BYTES = 4 * 2**30
"""Pictures of one sample may take this much memory; beyond it, the status is `too_long`."""
MAX_PIXELS = 2**26
"""A picture may have this many pixels (8192 x 8192)."""
INDEXED = {"mp4", "matroska", "avi"}
"""FFmpeg's names of the containers with an index of their frames (mov and webm are read as mp4 and matroska)."""


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """Which pictures of a file are wanted, and what its header says about them."""

    path: Path
    start: float | None
    end: float | None
    fps: float
    side: str
    track: int
    zero: float
    """See `merloco.pipelines.media.probe.container_start`."""
    first_tick: int
    """Stamp of the first picture by the header, in ticks."""
    tick: float
    """Seconds of the stream's unit of time."""
    length: float
    """Seconds of a picture."""
    width: int
    height: int
    aspect: Fraction
    """Width of a pixel by its height."""
    indexed: bool
    """Whether the container has an index of its frames."""

    def clock(self, begin: float | None) -> Clock:
        """A clock for the video stream (`Clock`)."""
        return Clock(self.zero, leaps_out=self.end is None, begin=begin)

    def grid_begin(self, first: float) -> float:
        """The first point of the grid: the begin of the interval, or of a whole file the time of the first picture."""
        return first if self.start is None else max(self.start, 0.0)

    def grid(self, first: float, last: float) -> np.ndarray:
        """Points of the grid in the interval at which a picture is shown, for the times of the first and the last."""
        begin = self.grid_begin(first)
        stop = last + 1e-6 if self.end is None else min(self.end - TAIL, last + 1e-6)
        count = int(np.floor((stop - begin) * self.fps + 1e-6)) + 1 if stop >= begin else 0
        return begin + np.arange(self.first_point(first), count) / self.fps

    def first_point(self, first: float) -> int:
        """Number of the first point of the grid at which there is a picture, for the time of the first picture."""
        # A player shows the first picture at once: sound often begins a little before it.
        return max(math.ceil((first - max(self.length, ROUNDING) - self.grid_begin(first)) * self.fps), 0)

    def require_size(self, count: int) -> None:
        """Raise `MediaError` where `count` pictures are more than one sample may have."""
        if count * self.width * self.height * 3 * max(float(self.aspect), 1.0) > MAX_BYTES:
            found = f"{count} pictures of {self.width} x {self.height}"
            raise MediaError("too_long", f"{self.path.name}: {found}; expected at most {MAX_BYTES >> 30} GiB a sample")

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Of frames (n, height, width, 3) the side that is wanted."""
        half = frames.shape[2] // 2
        cut = {"full": slice(None), "left": slice(None, half), "right": slice(half, None)}[self.side]
        return np.ascontiguousarray(frames[:, :, cut])


def open_clip(path: Path, start: float | None, end: float | None, fps: float, side: str) -> ClipRequest:
    """Read the header of a file for a request (see `merloco.pipelines.media.video.read_frames`).

    Raises:
        MediaError: No file, no video stream, or pictures that are too large.
    """
    with open_container(path) as container:
        stream = picture_track(container)
        if stream is None:
            raise MediaError("no_video", f"{path.name} has no video stream")
        zero = container_start(container)
        first_tick, tick = stream.start_time or 0, float(stream.time_base)
        track, width, height = stream.index, stream.width, stream.height
        length = min(1 / float(stream.average_rate), MAX_LENGTH) if stream.average_rate else 0.0
        aspect = stream.sample_aspect_ratio or Fraction(1)
        indexed = bool(INDEXED & set(container.format.name.split(",")))
    if width * height > MAX_PIXELS:
        message = f"{path.name}: pictures of {width} x {height}; expected at most {MAX_PIXELS} pixels"
        raise MediaError("too_long", message)
    if not Fraction(1, 8) <= aspect <= 8:  # no camera's: a header that cannot be right
        aspect = Fraction(1)
    return ClipRequest(
        path, start, end, fps, side, track, zero, first_tick, tick, length, width, height, aspect, indexed
    )


def nothing_decoded(clip: ClipRequest, first: float | None, last: float, errors: int = 0) -> MediaError:
    """The error of a clip that gives no picture; `first` and `last` are the times of the pictures that were met."""
    name = clip.path.name
    if first is not None and clip.end is not None and first > clip.end - TAIL:
        return MediaError("no_video", f"{name}: the pictures begin at {first:.3f} s, after the interval")
    if first is not None and clip.start is not None and last < clip.start:
        return MediaError("decode_error", f"{name}: the pictures end at {last:.3f} s, before the interval")
    return MediaError("decode_error", f"{name}: no picture decodes in the interval ({errors} bad packets)")

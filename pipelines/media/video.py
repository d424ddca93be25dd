"""Pictures by time: RGB frames on a grid over the container's time line. decord by timestamp, PyAV where decord cannot.

Both turn frames as the file says, put them on the same time line and give the same values; which of them read a clip,
and why the other did not, is in the clip's `DecodeInfo`.
"""

from __future__ import annotations

import ctypes
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.media.clips import DecodeInfo, Frames
from merloco.pipelines.media.clock import Clock
from merloco.pipelines.media.probe import MediaError, container_start, open_container, packets, picture_track, seek

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
BATCH = 64
"""Pictures that decord decodes at a time."""
_LOG_PREFIX = re.compile(r"^(\[[^\]]*\]\s*(/\S+: )?)*")
"""Of decord's messages: a clock time, a line of its source, the file's path."""


@dataclass(frozen=True, slots=True)
class _Clip:
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

    def grid(self, first: float, last: float) -> np.ndarray:
        """Points of the grid in the interval at which a picture is shown, for the times of the first and the last."""
        begin = first if self.start is None else max(self.start, 0.0)
        stop = last + 1e-6 if self.end is None else min(self.end - TAIL, last + 1e-6)
        count = int(np.floor((stop - begin) * self.fps + 1e-6)) + 1 if stop >= begin else 0
        return begin + np.arange(self.first_point(first), count) / self.fps

    def first_point(self, first: float) -> int:
        """Number of the first point of the grid at which there is a picture, for the time of the first picture."""
        begin = first if self.start is None else max(self.start, 0.0)
        # A player shows the first picture at once: sound often begins a little before it.
        return max(math.ceil((first - max(self.length, ROUNDING) - begin) * self.fps), 0)

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


def read_frames(
    path: Path, start: float | None = None, end: float | None = None, fps: float = 5.0, side: str = "full"
) -> Frames:
    """Read frames on the time grid `start + i / fps`: at each point the last frame shown by then.

    Args:
        path: Any container with a video stream.
        start: Begin of the interval in seconds since the container's start; None is the first picture.
        end: End of the interval in seconds (exclusive); None is the end of the file.
        fps: Grid points per second, whatever the native rate: sampled by time, never by stride.
        side: `full`, or the `left` or `right` half of a split screen, cut at width // 2.

    Returns:
        Turned as the file says and with square pixels; no frame for points before the first picture.

    Raises:
        MediaError: No file, no video stream or none yet in the interval, too long, or nothing in the interval decodes.
    """
    clip = _open(path, start, end, fps, side)
    # decord leaves pixels as they are, and where it has no index to seek by, it puts other frames for those it misses.
    if clip.aspect != 1 or not clip.indexed:
        return _with_pyav(clip, note="pixels that are not square" if clip.indexed else "a container without an index")
    try:
        return _with_decord(clip)
    except MediaError:
        raise
    except Exception as error:  # decord raises RuntimeError and DECORDError for what PyAV may still read
        reason = _LOG_PREFIX.sub("", str(error).strip().split("\n")[0])
        return _with_pyav(clip, note=f"decord: {reason[:120]}")


def _open(path: Path, start: float | None, end: float | None, fps: float, side: str) -> _Clip:
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
    return _Clip(path, start, end, fps, side, track, zero, first_tick, tick, length, width, height, aspect, indexed)


def _nothing(clip: _Clip, first: float | None, last: float, errors: int = 0) -> MediaError:
    """The error of a clip that gives no picture; `first` and `last` are the times of the pictures that were met."""
    name = clip.path.name
    if first is not None and clip.end is not None and first > clip.end - TAIL:
        return MediaError("no_video", f"{name}: the pictures begin at {first:.3f} s, after the interval")
    if first is not None and clip.start is not None and last < clip.start:
        return MediaError("decode_error", f"{name}: the pictures end at {last:.3f} s, before the interval")
    return MediaError("decode_error", f"{name}: no picture decodes in the interval ({errors} bad packets)")


@lru_cache(maxsize=1)
def _decord() -> Any:
    """Import decord without making its libraries global.

    Its loader asks for RTLD_GLOBAL; libraries that it brings then stand in for those of torch, and torch crashes in
    its first matrix product if it is imported later.
    """
    asked = ctypes.RTLD_GLOBAL
    ctypes.RTLD_GLOBAL = ctypes.RTLD_LOCAL  # type: ignore[misc]
    try:
        import decord
    finally:
        ctypes.RTLD_GLOBAL = asked  # type: ignore[misc]
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _with_decord(clip: _Clip) -> Frames:
    reader = _decord().VideoReader(str(clip.path), num_threads=1)
    # decord's times begin with the first picture and are float32: as whole ticks they are the stamps themselves.
    ticks = np.rint(reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64) / clip.tick)
    stamps = (clip.first_tick + ticks) * clip.tick
    clock = clip.clock(begin=0.0)
    times = np.maximum.accumulate([clock.read(stamp, clip.length) for stamp in stamps.tolist()])
    grid = clip.grid(times[0], times[-1])
    if len(grid) == 0:
        raise _nothing(clip, times[0], times[-1])
    clip.require_size(len(grid))
    chosen = np.clip(np.searchsorted(times, grid + ROUNDING, side="right") - 1, 0, None)
    needed, position = np.unique(chosen, return_inverse=True)
    batches = [needed[begin : begin + BATCH].tolist() for begin in range(0, len(needed), BATCH)]
    frames = np.concatenate([clip.cut(reader.get_batch(batch).asnumpy()) for batch in batches])
    if len(position) > len(needed):
        frames = frames[position]
    return Frames(frames, clip.fps, DecodeInfo(decoder="decord"))


def _with_pyav(clip: _Clip, note: str | None = None) -> Frames:
    """The same pictures in one pass over the interval."""
    sampler, errors = _pass(clip, from_start=False) or _pass(clip, from_start=True) or (_Sampler(clip), 0)
    if not sampler.pictures:
        raise _nothing(clip, sampler.first, sampler.last, errors)
    info = DecodeInfo(decoder="pyav", decode_errors=errors, decode_notes=note)
    return Frames(np.stack(sampler.pictures), clip.fps, info)


def _pass(clip: _Clip, from_start: bool) -> tuple[_Sampler, int] | None:
    """Pictures of the grid and bad packets; None where a seek missed the begin of the interval."""
    sampler, errors = _Sampler(clip), 0
    with open_container(clip.path) as container:
        stream = container.streams[clip.track]
        sought = not from_start and seek(container, stream, clip.zero + (clip.start or 0.0))
        clock = clip.clock(begin=None if sought else 0.0)
        for packet in packets(container, stream):
            try:
                frames = packet.decode() if packet is not None else []
                errors += packet is None
            except Exception:  # one bad packet costs its own frames
                errors += 1
                continue
            for frame in frames:
                time = clock.read(frame.time, clip.length)
                if sought and sampler.first is None and time > (clip.start or 0.0) + ROUNDING:
                    return None
                if not sampler.add(frame, time):
                    return sampler, errors  # what follows is another interval's
        if sought and sampler.first is None:
            return None
    sampler.finish()
    return sampler, errors


class _Sampler:
    """Keeps of decoded frames, in their order, those that the grid shows: the last one before each point."""

    def __init__(self, clip: _Clip) -> None:
        self.pictures: list[np.ndarray] = []
        self.first: float | None = None
        """Time of the first frame; `last`, of the last one."""
        self.last = 0.0
        self._clip = clip
        self._begin = 0.0
        self._point = 0
        self._frame: Any = None
        self._picture: np.ndarray | None = None

    def add(self, frame: Any, time: float) -> bool:
        """Take a frame; False when the interval is over."""
        if self.first is None:
            self.first = time
            self._begin = time if self._clip.start is None else max(self._clip.start, 0.0)
            self._point = self._clip.first_point(time)
        while self._frame is not None and time > (point := self._begin + self._point / self._clip.fps) + ROUNDING:
            if self._clip.end is not None and point > self._clip.end - TAIL:
                return False
            self._show()
        self._frame, self.last, self._picture = frame, time, None
        return True

    def finish(self) -> None:
        """The points up to the last frame."""
        if self.first is not None:
            for _ in range(len(self._clip.grid(self.first, self.last)) - len(self.pictures)):
                self._show()

    def _show(self) -> None:
        if self._picture is None:
            self._picture = self._clip.cut(_square_and_upright(self._frame, self._clip)[None])[0]
        self.pictures.append(self._picture)
        self._point += 1
        self._clip.require_size(len(self.pictures))


def _square_and_upright(frame: Any, clip: _Clip) -> np.ndarray:
    """RGB of a PyAV frame, uint8 (height, width, 3), with square pixels and turned as the file says."""
    size = round(clip.width * clip.aspect), clip.height
    if (frame.width, frame.height) != size:  # also where a stream changes its size on the way
        frame = frame.reformat(*size, format="rgb24", interpolation="BICUBIC")
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned)

"""Pictures by time: RGB frames on a grid over the container's time line. decord by timestamp, PyAV where decord cannot.

Both turn frames as the file says, put them on the same time line and give the same values; which of them read a clip,
and why the other did not, is in the clip's `DecodeInfo`.
"""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.media.clips import DecodeInfo, Frames
from merloco.pipelines.media.frame_grid import ROUNDING, TAIL, ClipRequest, nothing_decoded, open_clip
from merloco.pipelines.media.probe import MediaError, decode, open_container, seek

BATCH = 64
"""Pictures that decord decodes at a time."""
_LOG_PREFIX = re.compile(r"^(\[[^\]]*\]\s*(/\S+: )?)*")
"""Of decord's messages: a clock time, a line of its source, the file's path."""


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
    clip = open_clip(path, start, end, fps, side)
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


def _with_decord(clip: ClipRequest) -> Frames:
    reader = _decord().VideoReader(str(clip.path), num_threads=1)
    # decord's times begin with the first picture and are float32: as whole ticks they are the stamps themselves.
    ticks = np.rint(reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64) / clip.tick)
    stamps = (clip.first_tick + ticks) * clip.tick
    clock = clip.clock(begin=0.0)
    times = np.maximum.accumulate([clock.read(stamp, clip.length) for stamp in stamps.tolist()])
    grid = clip.grid(times[0], times[-1])
    if len(grid) == 0:
        raise nothing_decoded(clip, times[0], times[-1])
    clip.require_size(len(grid))
    chosen = np.clip(np.searchsorted(times, grid + ROUNDING, side="right") - 1, 0, None)
    needed, position = np.unique(chosen, return_inverse=True)
    batches = [needed[begin : begin + BATCH].tolist() for begin in range(0, len(needed), BATCH)]
    frames = np.concatenate([clip.cut(reader.get_batch(batch).asnumpy()) for batch in batches])
    if len(position) > len(needed):
        frames = frames[position]
    return Frames(frames, clip.fps, DecodeInfo(decoder="decord"))


def _with_pyav(clip: ClipRequest, note: str | None = None) -> Frames:
    """The same pictures in one pass over the interval."""
    sampler, errors = _pass(clip, from_start=False) or _pass(clip, from_start=True) or (_Sampler(clip), 0)
    if not sampler.pictures:
        raise nothing_decoded(clip, sampler.first, sampler.last, errors)
    info = DecodeInfo(decoder="pyav", decode_errors=errors, decode_notes=note)
    return Frames(np.stack(sampler.pictures), clip.fps, info)


def _pass(clip: ClipRequest, from_start: bool) -> tuple[_Sampler, int] | None:
    """Pictures of the grid and bad packets; None where a seek missed the begin of the interval."""
    sampler, errors = _Sampler(clip), 0
    with open_container(clip.path) as container:
        stream = container.streams[clip.track]
        sought = not from_start and seek(container, stream, clip.zero + (clip.start or 0.0))
        clock = clip.clock(begin=None if sought else 0.0)
        for frames in decode(container, stream):
            if frames is None:
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

    def __init__(self, clip: ClipRequest) -> None:
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
            self._begin = self._clip.grid_begin(time)
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


def _square_and_upright(frame: Any, clip: ClipRequest) -> np.ndarray:
    """RGB of a PyAV frame, uint8 (height, width, 3), with square pixels and turned as the file says."""
    size = round(clip.width * clip.aspect), clip.height
    if (frame.width, frame.height) != size:  # also where a stream changes its size on the way
        frame = frame.reformat(*size, format="rgb24", interpolation="BICUBIC")
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned)

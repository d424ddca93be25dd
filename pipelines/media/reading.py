"""Decoding by time: mono sound at one rate, RGB frames on a time grid. Nothing is written beside the raw data.

Sound: PyAV at the native rate, mean over the channels, one soxr call. Pictures: decord by timestamp, PyAV where
decord cannot. Single bad packets are skipped and counted; a file that gives nothing raises `MediaError` with a code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.media.probe import MediaError, open_container, stream_length

TAIL = 1e-3
"""Seconds of tolerance at the edges of an interval: annotation times are rounded to milliseconds."""
LEAD = 1.0
"""Seconds before an interval at which decoding begins: codecs need earlier packets, and a container goes to the nearest
key frame only."""
SILENCE = 1e-4
"""Peak below which sound counts as silent (-80 dB full scale)."""


@dataclass(frozen=True, slots=True)
class AudioClip:
    """Mono sound."""

    wave: np.ndarray
    """float32 (n,), full scale is 1."""
    sample_rate: int
    decode_errors: int = 0

    @property
    def silent(self) -> bool:
        """No sample rises above -80 dB full scale."""
        return bool(np.abs(self.wave).max(initial=0.0) < SILENCE)


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames on a regular time grid."""

    frames: np.ndarray
    """uint8 RGB (n, height, width, 3)."""
    fps: float
    decode_errors: int = 0


def read_audio(path: Path, start: float | None = None, end: float | None = None, sample_rate: int = 16000) -> AudioClip:
    """Read sound as the mean of its channels.

    Args:
        path: Any container with an audio stream.
        start: Begin of the interval in seconds; None is the begin of the file.
        end: End of the interval in seconds; None is the end of the file.
        sample_rate: Hertz of the result.

    Raises:
        MediaError: No file, no audio stream, or nothing in the interval decodes.
    """
    import soxr

    begin = max(start or 0.0, 0.0)
    with open_container(path) as container:
        if not container.streams.audio:
            raise MediaError("no_audio", f"{path.name} has no audio stream")
        stream = container.streams.audio[0]
        native = stream.rate
        until = end if end is not None else stream_length(stream, container)
        pieces, first, errors = _decode_audio(container, stream, begin, until)
    if not pieces:
        raise MediaError("decode_error", f"{path.name}: no sound decodes in the interval ({errors} bad packets)")
    wave = np.concatenate(pieces)
    offset = round((begin - first) * native)
    wave = wave[offset:] if offset >= 0 else np.concatenate([np.zeros(-offset, np.float32), wave])
    if until is not None:
        wave = wave[: max(round((until - begin) * native), 0)]
    if len(wave) == 0:
        raise MediaError("decode_error", f"{path.name}: the interval {begin:.3f}-{end} s lies outside the sound")
    if native != sample_rate:
        wave = soxr.resample(wave, native, sample_rate)
    return AudioClip(np.ascontiguousarray(wave, dtype=np.float32), sample_rate, errors)


def _decode_audio(
    container: Any, stream: Any, begin: float, until: float | None
) -> tuple[list[np.ndarray], float, int]:
    """Mono pieces from the packet that holds `begin`; time of the first sample; bad packets skipped."""
    if begin > LEAD:
        container.seek(int((begin - LEAD) / stream.time_base), stream=stream)
    pieces: list[np.ndarray] = []
    first, errors = 0.0, 0
    for packet in _packets(container, stream):
        if packet is None:
            errors += 1
            continue
        try:
            frames = packet.decode()
        except Exception:  # one bad packet costs its own samples: PyAV raises a dozen types for them
            errors += 1
            continue
        for frame in frames:
            time = frame.time if frame.time is not None else first
            if time + frame.samples / frame.rate <= begin:
                continue
            if until is not None and time >= until:
                return pieces, first, errors
            if not pieces:
                first = time
            pieces.append(_mono(frame))
    return pieces, first, errors


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of a stream; None for a demuxer error, after which a container cannot go on."""
    demuxed = container.demux(stream)
    while True:
        try:
            yield next(demuxed)
        except StopIteration:
            return
        except Exception:  # see above: FFmpeg's errors have no common type
            yield None
            return


def _mono(frame: Any) -> np.ndarray:
    """Mean over the channels as float32: FFmpeg's own down-mix is louder than the mean and can clip."""
    array = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar and channels > 1:
        array = array.reshape(-1, channels).T
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        middle = 128.0 if array.dtype.kind == "u" else 0.0
        array = (array.astype(np.float32) - middle) / (128.0 if array.dtype.kind == "u" else float(info.max) + 1.0)
    return np.asarray(array.reshape(channels, -1).mean(axis=0), dtype=np.float32)


def read_frames(
    path: Path, start: float | None = None, end: float | None = None, fps: float = 5.0, side: str = "full"
) -> Frames:
    """Read frames on the time grid `start + i / fps`: at each point the last frame shown by then.

    Args:
        path: Any container with a video stream.
        start: Begin of the interval in seconds; None is the begin of the file.
        end: End of the interval in seconds (exclusive); None is the end of the file.
        fps: Grid points per second, whatever the native rate: sampled by time, never by stride.
        side: `full`, or the `left` or `right` half of a split screen, cut at width // 2.

    Raises:
        MediaError: No file, no video stream, or nothing in the interval decodes.
    """
    with open_container(path) as container:
        if not container.streams.video:
            raise MediaError("no_video", f"{path.name} has no video stream")
    try:
        return _with_decord(path, start, end, fps, side)
    except MediaError:
        raise
    except Exception:  # decord raises RuntimeError and DECORDError for what PyAV may still read
        return _with_pyav(path, start, end, fps, side)


def _grid(first: float, last: float, start: float | None, end: float | None, fps: float) -> np.ndarray:
    """Grid points within the interval and within the pictures, seconds."""
    begin = first if start is None else max(start, 0.0)
    stop = last + 1e-6 if end is None else min(end - TAIL, last + 1e-6)
    count = int(np.floor((stop - begin) * fps + 1e-6)) + 1 if stop >= begin else 0
    return begin + np.arange(count) / fps


def _side(frames: np.ndarray, side: str) -> np.ndarray:
    half = frames.shape[2] // 2
    cut = {"full": slice(None), "left": slice(None, half), "right": slice(half, None)}[side]
    return np.ascontiguousarray(frames[:, :, cut])


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


def _with_decord(path: Path, start: float | None, end: float | None, fps: float, side: str) -> Frames:
    reader = _decord().VideoReader(str(path), num_threads=1)
    times = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
    grid = _grid(times[0], times[-1], start, end, fps)
    if len(grid) == 0:
        raise MediaError("decode_error", f"{path.name}: the interval begins after the last picture")
    chosen = np.clip(np.searchsorted(times, grid + TAIL / 10, side="right") - 1, 0, None)
    needed, position = np.unique(chosen, return_inverse=True)
    frames = reader.get_batch(needed.tolist()).asnumpy()
    return Frames(_side(frames, side)[position], fps)


def _with_pyav(path: Path, start: float | None, end: float | None, fps: float, side: str) -> Frames:
    """The same grid in one pass over the interval: a frame is kept when the next one shows that it was the last."""
    result = _pass(path, start, end, fps, side, seek=start is not None and start > LEAD)
    if result is None:  # the container went to a picture behind the interval's begin
        result = _pass(path, start, end, fps, side, seek=False)
    frames, errors = result or ([], 0)
    if not frames:
        raise MediaError("decode_error", f"{path.name}: no picture decodes in the interval ({errors} bad packets)")
    return Frames(np.stack(frames), fps, errors)


def _pass(
    path: Path, start: float | None, end: float | None, fps: float, side: str, seek: bool
) -> tuple[list[np.ndarray], int] | None:
    """Frames of the grid and bad packets; None where a seek missed the begin of the interval."""
    frames: list[np.ndarray] = []
    last: Any = None
    begin = start
    errors = 0
    with open_container(path) as container:
        stream = container.streams.video[0]
        if seek:
            container.seek(int(((start or 0.0) - LEAD) / stream.time_base), stream=stream)
        for packet in _packets(container, stream):
            try:
                decoded = packet.decode() if packet is not None else []
                errors += packet is None
            except Exception:  # one bad packet costs its own frames
                errors += 1
                continue
            for frame in decoded:
                if frame.time is None:
                    continue
                if last is None and seek and frame.time > (start or 0.0):
                    return None
                begin = frame.time if begin is None else begin
                while last is not None and frame.time > (point := begin + len(frames) / fps) + TAIL / 10:
                    if end is not None and point > end - TAIL:
                        return frames, errors  # what follows is another interval's
                    frames.append(_side(last.to_ndarray(format="rgb24")[None], side)[0])
                last = frame
        if last is None and seek:
            return None
        if last is not None and begin is not None:
            for _ in range(max(len(_grid(begin, last.time, start, end, fps)) - len(frames), 0)):
                frames.append(_side(last.to_ndarray(format="rgb24")[None], side)[0])
    return frames, errors

"""Sound by time: mono at one rate, on the container's time line. PyAV at the native rate, then one soxr call.

Of several sound tracks the default one is read, and where it has no signal in the interval, the first that has one.
Gaps between stamps are silence. Single bad packets are skipped and counted, and what they held is silence too, so that
sound stays beside its pictures; a file that gives nothing raises `MediaError` with a code.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.media.channels import DownMix, Mixer
from merloco.pipelines.media.clips import AudioClip, DecodeInfo, is_silent
from merloco.pipelines.media.clock import Clock
from merloco.pipelines.media.probe import (
    MediaError,
    container_start,
    decode,
    open_container,
    seek,
    sound_tracks,
    stream_end,
)

BLOCK = 64
"""Frames that are mixed at a time."""
GAP = 0.1
"""Seconds without sound from which a gap between stamps is filled: containers round them, some by a packet's length."""
PADDING = 1.0
"""Seconds of sound behind the end by the header that are a decoder's padding; more of it, and the header is wrong."""
MAX_SECONDS = 3600.0
"""Sound of one sample may last this long; beyond it, the status is `too_long`."""


@dataclass(frozen=True, slots=True)
class _Sound:
    """Mono sound at the native rate, cut to the interval."""

    wave: np.ndarray
    rate: int
    errors: int
    mixer: Mixer


def read_audio(
    path: Path,
    start: float | None = None,
    end: float | None = None,
    sample_rate: int = 16000,
    down_mix: DownMix = "itu",
) -> AudioClip:
    """Read mono sound.

    Args:
        path: Any container with an audio stream.
        start: Begin of the interval in seconds since the container's start; None is the begin of the file.
        end: End of the interval in seconds; None is the end of the file.
        sample_rate: Hertz of the result.
        down_mix: How channels become one (`merloco.pipelines.media.channels`).

    Returns:
        The sound. It begins with silence where the interval begins before the sound does; a file's end ends it.

    Raises:
        MediaError: No file, no audio stream, too long, or nothing in the interval decodes.
    """
    import soxr

    if start is not None and end is not None and end - start > MAX_SECONDS:
        raise _too_long(path)
    sound, notes = _first_with_signal(path, max(start or 0.0, 0.0), end, down_mix)
    if not np.isfinite(sound.wave).all():
        raise MediaError("not_finite", f"{path.name}: the sound holds NaN or infinity")
    wave = sound.wave if sound.rate == sample_rate else soxr.resample(sound.wave, sound.rate, sample_rate)
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    info = DecodeInfo(
        decoder="pyav",
        decode_errors=sound.errors,
        decode_notes="; ".join(notes) or None,
        n_channels=len(sound.mixer.names),
        level_dbfs=10 * math.log10(power) if power else None,
        clipped_share=sound.mixer.clipped_share,
    )
    return AudioClip(wave, sample_rate, info)


def _first_with_signal(path: Path, begin: float, end: float | None, down_mix: DownMix) -> tuple[_Sound, list[str]]:
    """The first track that has a signal, or else the first that decodes, and notes about the choice."""
    chosen: tuple[_Sound, list[str]] | None = None
    error: MediaError | None = None
    with open_container(path) as container:
        tracks = [stream.index for stream in sound_tracks(container)]
        if not tracks:
            raise MediaError("no_audio", f"{path.name} has no audio stream")
        for number, track in enumerate(tracks):
            note = [f"sound track {sorted(tracks).index(track) + 1} of {len(tracks)}"] if len(tracks) > 1 else []
            try:
                with nullcontext(container) if number == 0 else open_container(path) as fresh:
                    sound, notes = _mixed(path, fresh, track, begin, end, down_mix)
            except MediaError as problem:
                error = error or problem
                continue
            if not is_silent(sound.wave):
                return sound, note + notes
            chosen = chosen or (sound, note + notes)
    if chosen is None:
        assert error is not None
        raise error
    return chosen


def _mixed(
    path: Path, container: Any, track: int, begin: float, end: float | None, down_mix: DownMix
) -> tuple[_Sound, list[str]]:
    """One track, read again where a seek missed its interval, or where the mixer turns out to do it no right."""
    mixer, notes = Mixer(down_mix), list[str]()
    sound = _read_track(container, track, begin, end, mixer, path, from_start=False)
    from_start = sound is None
    while True:
        if sound is not None:
            better = mixer.better()
            if better is None:
                return sound, notes
            mixer, note = better
            notes.append(note)
        with open_container(path) as again:
            sound = _read_track(again, track, begin, end, mixer, path, from_start)


def _read_track(
    container: Any, track: int, begin: float, end: float | None, mixer: Mixer, path: Path, from_start: bool
) -> _Sound | None:
    """Decode the interval of a track of a fresh container; None where a seek went to a packet behind its begin."""
    stream = container.streams[track]
    zero = container_start(container)
    sought = not from_start and seek(container, stream, zero + begin)
    clock = Clock(zero, leaps_out=end is None, begin=None if sought else 0.0)
    recording, errors = _Recording(begin, end, mixer), 0
    for frames in decode(container, stream):
        if frames is None:
            errors += 1
            continue
        times = [clock.read(frame.time, frame.samples / frame.rate) for frame in frames]
        if sought and times and times[0] > begin + GAP:
            return None
        sought = sought and not times
        for frame, time in zip(frames, times, strict=True):
            recording.add(time, frame)
        if recording.seconds > MAX_SECONDS:
            raise _too_long(path)
        if times and end is not None and times[-1] >= end:
            break
    wave = recording.cut(stream_end(stream, container))
    if len(wave) == 0:
        interval = f"the interval {begin:.3f}-{end} s" if begin or end else "the file"
        raise MediaError("decode_error", f"{path.name}: no sound decodes in {interval} ({errors} bad packets)")
    return _Sound(wave, recording.rate, errors, mixer)


class _Recording:
    """Mono sound put on the time line, frame by frame, from the frame that holds `begin` to the one before `end`."""

    def __init__(self, begin: float, end: float | None, mixer: Mixer) -> None:
        self.begin = begin
        self.end = end
        self.mixer = mixer
        self.rate = 0
        self._first = 0.0
        self._pieces: list[np.ndarray] = []
        self._frames: list[Any] = []
        """Not mixed yet: a block of frames is mixed at a time, for they are short."""
        self._length = 0
        self._later = False

    @property
    def seconds(self) -> float:
        """Length of what is held."""
        return self._length / self.rate if self.rate else 0.0

    def add(self, time: float, frame: Any) -> None:
        """Put a frame at its time; a gap before it is silence."""
        if time + frame.samples / frame.rate <= self.begin:
            return
        self.rate = self.rate or frame.rate
        if self.end is not None and time >= self.end:
            self._later = True
            return
        if not self._length:
            self._first = time
        elif time - self._first - self.seconds > GAP:
            self._silence_until(time)
        if self._frames and frame.layout.nb_channels != self._frames[0].layout.nb_channels:
            self._mix()
        self._frames.append(frame)
        self._length += frame.samples
        if len(self._frames) == BLOCK:
            self._mix()

    def _mix(self) -> None:
        if self._frames:
            self._pieces.append(self.mixer.mix(self._frames))
            self._frames = []

    def _silence_until(self, time: float) -> None:
        self._mix()
        silence = np.zeros(round((time - self._first) * self.rate) - self._length, np.float32)
        self._pieces.append(silence)
        self._length += len(silence)

    def cut(self, header_end: float | None) -> np.ndarray:
        """The interval's sound; of a whole file without what decoders add behind its end by the header."""
        if not self._length:  # before the sound begins there is silence
            silence = (self.end or 0.0) - self.begin if self._later else 0.0
            return np.zeros(max(round(silence * self.rate), 0), np.float32)
        if self._later and self.end is not None and self.end - self._first - self.seconds > GAP:
            self._silence_until(self.end)
        self._mix()
        wave = np.concatenate(self._pieces)
        offset = round((self.begin - self._first) * self.rate)
        wave = wave[offset:] if offset >= 0 else np.concatenate([np.zeros(-offset, np.float32), wave])
        end = self.end
        if end is None and header_end is not None and header_end - self.begin - len(wave) / self.rate > -PADDING:
            end = header_end
        return wave if end is None else wave[: max(round((end - self.begin) * self.rate), 0)]


def _too_long(path: Path) -> MediaError:
    return MediaError("too_long", f"{path.name}: more than {MAX_SECONDS:g} s of sound in one sample")

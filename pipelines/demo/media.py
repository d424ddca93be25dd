"""The demo's media files: heads that speak on a time line, encoded as the releases are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.demo.face import Actor, render_face
from merloco.pipelines.demo.voice import RATE, add_room, speak

RENDERS = 10
"""Drawn pictures per second; files hold each for as long as their frame rate asks."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a corpus looks and sounds."""

    size: tuple[int, int]
    """Width and height of a (half) picture in pixels."""
    fps: Fraction
    background: tuple[int, int, int]
    brightness: float
    blur: float
    face: float
    """Height of the head as a share of the picture."""
    level: float
    """Factor on the sound."""
    echo: float
    noise: float
    rate: int
    """Hertz of the sound in the file."""
    video_codec: str
    audio_codec: str


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance on a time line."""

    start: float
    seconds: float
    emotion: str
    voice: float
    """How far the voice follows the emotion, 0 to 1."""
    face: float
    """How far the face follows it."""
    seed: int


@dataclass(frozen=True, slots=True)
class Track:
    """One actor's utterances."""

    actor: Actor
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """One media file, and sounds to cut out of it."""

    path: Path
    seconds: float
    tracks: tuple[Track, ...]
    """One, or two side by side."""
    look: Look
    seed: int
    channels: int = 2
    face: bool = True
    sound: bool = True
    cuts: tuple[tuple[Path, float, float], ...] = field(default=())
    """wav files: path, start, end."""


def record(recording: Recording) -> None:
    """Render and encode one recording."""
    generator = np.random.default_rng(recording.seed)
    wave = _mix(recording, generator)
    for path, start, end in recording.cuts:
        _write_wav(path, wave[round(start * RATE) : round(end * RATE)])
    recording.path.parent.mkdir(parents=True, exist_ok=True)
    _encode(recording, _pictures(recording, generator), wave if recording.sound else None)


def _mix(recording: Recording, generator: np.random.Generator) -> np.ndarray:
    wave = np.zeros(round(recording.seconds * RATE), dtype=np.float32)
    for track in recording.tracks:
        for line in track.lines:
            speech = speak(track.actor, line.emotion, line.voice, line.seconds, np.random.default_rng(line.seed))
            begin = round(line.start * RATE)
            wave[begin : begin + len(speech)] += speech[: len(wave) - begin]
    return add_room(wave * recording.look.level, recording.look.echo, recording.look.noise, generator)


def _write_wav(path: Path, wave: np.ndarray) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE, subtype="PCM_16")


def _pictures(recording: Recording, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Pictures uint8 (height, width, 3), `RENDERS` per second."""
    look = recording.look
    stages = [_background(look, generator) for _ in recording.tracks]
    sway = generator.uniform(0, 2 * np.pi, size=(len(recording.tracks), 2))
    for i in range(int(np.ceil(recording.seconds * RENDERS)) + 1):
        time = i / RENDERS
        halves = [
            _half(recording, track, stage, time, swing)
            for track, stage, swing in zip(recording.tracks, stages, sway, strict=True)
        ]
        picture = np.concatenate(halves, axis=1) * look.brightness
        picture += generator.normal(0, 3, size=picture.shape).astype(np.float32)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def _background(look: Look, generator: np.random.Generator) -> np.ndarray:
    width, height = look.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin(x / generator.uniform(20, 60)) + np.sin(y / generator.uniform(20, 60))
    return np.array(look.background, np.float32) + 8 * wave[..., None]


def _half(recording: Recording, track: Track, stage: np.ndarray, time: float, swing: np.ndarray) -> np.ndarray:
    import cv2

    picture = stage.copy()
    if not recording.face:
        return picture
    look = recording.look
    line = next((x for x in track.lines if x.start - 0.2 <= time < x.start + x.seconds + 0.2), None)
    expression, strength, talking = "neutral", 0.0, 0.0
    if line is not None:
        ramp = np.clip(min(time - line.start + 0.2, line.start + line.seconds + 0.2 - time) / 0.4, 0.0, 1.0)
        pulse = 0.85 + 0.15 * np.sin(2 * np.pi * 0.7 * time + swing[0])
        expression, strength = line.emotion, float(line.face * ramp * pulse)
        talking = float(0.5 + 0.5 * np.sin(2 * np.pi * 4 * time + swing[1]))
    tilt = 4.0 * np.sin(2 * np.pi * 0.25 * time + swing[0])
    face, mask = render_face(track.actor, expression, strength, talking, float(tilt), round(look.face * look.size[1]))
    x = (look.size[0] - face.shape[1]) // 2 + round(6 * np.sin(0.9 * time + swing[1]))
    y = (look.size[1] - face.shape[0]) // 2 + round(3 * np.sin(1.3 * time + swing[0]))
    x, y = max(x, 0), max(y, 0)
    region = picture[y : y + face.shape[0], x : x + face.shape[1]]
    face, mask = face[: region.shape[0], : region.shape[1]], mask[: region.shape[0], : region.shape[1]]
    region[:] = region * (1 - mask) + face * mask
    return cv2.GaussianBlur(picture, (0, 0), look.blur) if look.blur > 0 else picture


def _encode(recording: Recording, pictures: Iterator[np.ndarray], wave: np.ndarray | None) -> None:
    """Encode deterministically: one thread, no dates, no encoder versions in the container."""
    import av

    look = recording.look
    width, height = look.size[0] * len(recording.tracks), look.size[1]
    with av.open(str(recording.path), "w", options={"fflags": "+bitexact"}) as container:
        video: Any = container.add_stream(look.video_codec, rate=look.fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1
        quality = {"crf": "26", "preset": "veryfast"} if look.video_codec == "libx264" else {"b": "900k"}
        video.options = {"flags": "+bitexact", **quality}
        audio: Any = None
        if wave is not None:
            audio = container.add_stream(look.audio_codec, rate=look.rate)
            audio.layout = {1: "mono", 2: "stereo", 6: "5.1"}[recording.channels]
            audio.options = {"flags": "+bitexact"}
        # FFmpeg's headers are written with the first packet, so every stream is declared before.
        _encode_pictures(container, video, pictures, recording)
        if wave is not None:
            _encode_sound(container, audio, wave, recording)


def _encode_pictures(container: Any, stream: Any, pictures: Iterator[np.ndarray], recording: Recording) -> None:
    import av

    fps = recording.look.fps
    drawn, at = next(pictures), 0
    for number in range(round(recording.seconds * fps)):
        while at < int(number / fps * RENDERS):
            drawn, at = next(pictures), at + 1
        frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
        frame.pts, frame.time_base = number, 1 / fps
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _encode_sound(container: Any, stream: Any, wave: np.ndarray, recording: Recording) -> None:
    import av
    import soxr

    rate, channels = recording.look.rate, recording.channels
    resampled = soxr.resample(wave, RATE, rate).astype(np.float32)
    planes = np.tile(resampled, (channels, 1))
    if channels == 6:  # dialogue sits in the centre channel, the others carry room only
        planes *= np.array([0.2, 0.2, 1.0, 0.0, 0.1, 0.1], np.float32)[:, None]
    resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate)
    for begin in range(0, planes.shape[1], 4096):
        block = np.ascontiguousarray(planes[:, begin : begin + 4096])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        for ready in resampler.resample(frame):
            container.mux(stream.encode(ready))
    container.mux(stream.encode())

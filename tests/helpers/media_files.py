"""Tiny real media for tests, encoded with PyAV."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48000


def write_media(
    path: Path,
    seconds: float = 3.0,
    fps: Fraction | int = 25,
    size: tuple[int, int] = (64, 48),
    wave: np.ndarray | None = None,
    picture: bool = True,
    codecs: tuple[str, str] = ("libx264", "aac"),
    split: bool = False,
) -> Path:
    """Write a clip whose frame number is its brightness (8 per frame step of 0.2 s) and whose sound is `wave`.

    Args:
        path: mp4 or avi file.
        seconds: Length.
        fps: Frames per second.
        size: Width and height.
        wave: float32 (channels, n) at 48 kHz, or None for no sound.
        picture: Whether there is a video stream.
        codecs: Video and audio codec.
        split: Darken the left half to 0 and lighten the right half to 255.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fps = Fraction(fps)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codecs[0], rate=fps) if picture else None
        if video is not None:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream(codecs[1], rate=RATE) if wave is not None else None
        if audio is not None:
            audio.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(wave)]
        if video is not None:
            for i in range(round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(_picture(float(i / fps), size, split), format="rgb24")
                frame.pts, frame.time_base = i, 1 / fps
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if audio is not None:
            resampler = av.AudioResampler(format=audio.format, layout=audio.layout, rate=RATE)
            for begin in range(0, wave.shape[1], 1024):
                block = np.ascontiguousarray(wave[:, begin : begin + 1024], dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout.name)
                frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
                for ready in resampler.resample(frame):
                    container.mux(audio.encode(ready))
            container.mux(audio.encode())
    return path


def _picture(time: float, size: tuple[int, int], split: bool) -> np.ndarray:
    picture = np.full((size[1], size[0], 3), 20 + 8 * int(time * 5 + 1e-6), dtype=np.uint8)
    if split:
        picture[:, : size[0] // 2], picture[:, size[0] // 2 :] = 0, 255
    return picture


def clicks(seconds: float, at: list[float], channels: int = 2) -> np.ndarray:
    """Silence with short bursts of a 1 kHz tone, float32 (channels, n) at 48 kHz."""
    wave = np.zeros(round(seconds * RATE), dtype=np.float32)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(480) / RATE)
    for begin in at:
        wave[round(begin * RATE) : round(begin * RATE) + 480] = tone
    return np.tile(wave, (channels, 1))


@dataclass
class Track:
    """A sound track: float32 (channels, n) at 48 kHz."""

    wave: np.ndarray
    start: float = 0.0
    layout: str | None = None
    default: bool = False
    gap: tuple[float, float] | None = None
    """(at, seconds): the stamps leap at a time."""


def write_streams(
    path: Path,
    times: Sequence[float] | None = None,
    tracks: Sequence[Track] = (),
    *,
    size: tuple[int, int] = (64, 48),
    codecs: tuple[str, str] = ("libx264", "aac"),
    aspect: Fraction | None = None,
    turned: int = 0,
    cover: bool = False,
    colors: tuple[int, int] | None = None,
) -> Path:
    """Write a clip with the given time of every picture and the given sound tracks.

    Args:
        path: Any container.
        times: Seconds of the pictures, of which number i has the brightness `20 + 8 * (i // 5)`, its upper left quarter
            is red; none without.
        tracks: Sound.
        size: Width and height as coded.
        codecs: Video and audio codec.
        aspect: Width of a pixel by its height.
        turned: Degrees (counter-clockwise) by which a player turns the picture.
        cover: Whether a cover picture is attached.
        colors: Colour range and colour space of the pictures, as FFmpeg numbers them.
    """
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".ts" else None) as container:
        art = container.add_stream("mjpeg", rate=1) if cover else None
        if art is not None:
            art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream(codecs[0], rate=25) if times is not None else None
        if video is not None:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.time_base = video.codec_context.time_base = Fraction(1, 12800 if path.suffix != ".avi" else 25)
            if aspect:
                video.codec_context.sample_aspect_ratio = aspect
            if turned:
                video.set_display_rotation(turned)
            if colors:
                video.codec_context.color_range, video.codec_context.colorspace = colors
        voices = []
        for track in tracks:
            layout = track.layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(track.wave)]
            voice = container.add_stream(codecs[1], rate=RATE, layout=layout)
            if len(tracks) > 1:
                voice.disposition = av.stream.Disposition.default if track.default else av.stream.Disposition(0)
            voices.append(voice)
        if art is not None:
            red = av.VideoFrame.from_ndarray(np.full((32, 32, 3), (255, 0, 0), np.uint8), format="rgb24")
            container.mux(art.encode(red))
            container.mux(art.encode())
        if video is not None:
            for i, time in enumerate(times or ()):
                picture = np.full((size[1], size[0], 3), 20 + 8 * (i // 5), np.uint8)
                picture[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time / video.time_base), video.time_base
                container.mux(video.encode(frame))
            container.mux(video.encode())
        for voice, track in zip(voices, tracks, strict=True):
            _encode_track(container, voice, track)
    return path


def _encode_track(container: Any, voice: Any, track: Track) -> None:
    resampler = av.AudioResampler(format=voice.format, layout=voice.layout, rate=RATE)
    for begin in range(0, track.wave.shape[1], 1024):
        block = np.ascontiguousarray(track.wave[:, begin : begin + 1024], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=voice.layout.name)
        leap = track.gap[1] if track.gap and begin / RATE >= track.gap[0] else 0.0
        stamp = begin + round((track.start + leap) * RATE)
        frame.sample_rate, frame.pts, frame.time_base = RATE, stamp, Fraction(1, RATE)
        for ready in resampler.resample(frame):
            container.mux(voice.encode(ready))
    container.mux(voice.encode())


def noise(seconds: float, channels: int = 1, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """White noise, float32 (channels, n) at 48 kHz."""
    shape = channels, round(seconds * RATE)
    return np.random.default_rng(seed).normal(0, level, shape).astype(np.float32)

"""Tiny real media for tests, encoded with PyAV."""

from fractions import Fraction
from pathlib import Path

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

"""A MELD release of generated clips: pictures that move, sound, a sentence each; a few files under many names."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.helpers.media_files import RATE, noise
from tests.helpers.meld_release import release, row
from tests.helpers.tiny_models import SENTENCES

FPS = 25
BLOCK = 16
"""Pixels that share a colour, but for a little noise: so that the codec has something to do, and not too much."""
UTTERANCES = 10
"""Of a dialogue."""


def write_clip(path: Path, seconds: float, size: tuple[int, int], seed: int) -> None:
    """An mp4 with H.264 and AAC.

    Args:
        path: Where to.
        seconds: Length.
        size: Width and height.
        seed: Of what it shows.
    """
    generator = np.random.default_rng(seed)
    blocks = generator.integers(40, 200, (-(-size[1] // BLOCK), -(-size[0] // BLOCK), 3), np.uint8)
    scene = np.kron(blocks, np.ones((BLOCK, BLOCK, 1), np.uint8))[: size[1], : size[0]]
    scene += generator.integers(0, 16, scene.shape, np.uint8)
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=FPS), container.add_stream("aac", rate=RATE, layout="mono")
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for number in range(round(seconds * FPS)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(scene, 4 * number, axis=1)), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        wave = noise(seconds, seed=seed)
        for begin in range(0, wave.shape[1], 1024):
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, begin : begin + 1024]), "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = RATE, begin, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())


def write_release(root: Path, clips: list[Path], count: int) -> Path:
    """A release whose training part has `count` utterances; their clips are links to the given ones."""
    names = [divmod(i, UTTERANCES) for i in range(count)]
    sentences = [SENTENCES[i % len(SENTENCES)] for i in range(count)]
    release(root, [row(i, *name, text=said) for i, (name, said) in enumerate(zip(names, sentences, strict=True))])
    folder = root / "train_splits"
    folder.mkdir()
    for i, (dialogue, utterance) in enumerate(names):
        os.link(clips[i % len(clips)], folder / f"dia{dialogue}_utt{utterance}.mp4")
    return root

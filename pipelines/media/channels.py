"""Channels of sound to one, and what they are like.

`itu` weighs channels by their place, as ITU-R BS.775 and FFmpeg's mono do: the centre, where films have their speech,
at 0 dB, front channels at -3 dB, surround channels at -6 dB, no low-frequency channel; weights add up to 1, so that
nothing clips and two channels are their mean. A file that names no places gets the plain mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

DownMix = Literal["itu", "mean", "first"]

_FRONT, _SURROUND = math.sqrt(0.5), 0.5
ITU = {
    "FC": 1.0,
    **dict.fromkeys(("FL", "FR", "FLC", "FRC"), _FRONT),
    **dict.fromkeys(("BL", "BR", "SL", "SR", "BC"), _SURROUND),
    "LFE": 0.0,
}
"""Channel -> weight, for layouts from mono to 7.1."""
CLIPPED = 0.999
"""Level from which a sample counts as clipped."""
CANCELS = 0.01
"""Share of the energy that its channels would have if they had nothing in common, below which a down-mix cancels."""
OVER = 8.0
"""Peak of floats beyond which their full scale is not 1: decoders overshoot, but not by 18 dB."""
INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)


def mix_weights(names: list[str], down_mix: DownMix) -> np.ndarray:
    """Weights of channels, float32 (channels,), sum 1."""
    weights = np.ones(len(names))
    if down_mix == "first":
        weights[1:] = 0.0
    elif down_mix == "itu" and all(name in ITU for name in names):
        weights = np.array([ITU[name] for name in names])
        weights = weights if weights.any() else np.ones(len(names))
    return (weights / weights.sum()).astype(np.float32)


class Mixer:
    """Mixes the frames of one sound track to mono and measures them.

    Args:
        down_mix: See `mix_weights`.
        channel: Take this channel alone.
        scale: Full scale of the samples.
    """

    def __init__(self, down_mix: DownMix, channel: int | None = None, scale: float = 1.0) -> None:
        self.down_mix = down_mix
        self.channel = channel
        self.scale = scale
        self.names: list[str] = []
        self.peak = 0.0
        self._weights = np.zeros(0, np.float32)
        self._energy = np.zeros(0)
        self._mixed = 0.0
        self._clipped = 0
        self._samples = 0

    def mix(self, frames: Sequence[Any]) -> np.ndarray:
        """float32 (n,) of PyAV frames with the same channels, full scale 1."""
        array = _samples(frames)
        if self.scale != 1.0:
            array /= np.float32(self.scale)
        if len(array) != len(self.names):  # the first frames; a broadcast changes its channels between programmes
            self._begin([channel.name for channel in frames[0].layout.channels])
        mono = self._weights @ array
        self._energy += np.einsum("ij,ij->i", array, array)
        self._mixed += float(mono @ mono)
        level = np.abs(array)
        self.peak = max(self.peak, float(level.max(initial=0.0)))
        self._clipped += int((level >= CLIPPED).sum())
        self._samples += array.size
        return mono

    def _begin(self, names: list[str]) -> None:
        self.names = names
        self._energy, self._mixed = np.zeros(len(names)), 0.0
        if self.channel is None:
            self._weights = mix_weights(names, self.down_mix)
        else:
            self._weights = np.zeros(len(names), np.float32)
            self._weights[min(self.channel, len(names) - 1)] = 1.0

    @property
    def clipped_share(self) -> float:
        """Share of the samples of all channels that stand at full scale."""
        return self._clipped / self._samples if self._samples else 0.0

    def better(self) -> tuple[Mixer, str] | None:
        """A mixer that does right by what this one has met, and the note that says why; None if this one does."""
        if self.scale == 1.0 and OVER < self.peak < math.inf:
            scale = next((s for s in INTEGER_SCALES if self.peak <= s), self.peak)
            return Mixer(self.down_mix, self.channel, scale), f"floats up to {self.peak:.0f}: full scale is {scale:.0f}"
        apart = self._weights.astype(float) ** 2 * self._energy
        if self.channel is None and self._mixed < CANCELS * apart.sum():
            loudest = int(apart.argmax())
            name = f"channel {loudest + 1} of {len(self.names)}"
            return Mixer(self.down_mix, loudest, self.scale), f"the down-mix cancels: {name} alone"
        return None


def _samples(frames: Sequence[Any]) -> np.ndarray:
    """Samples of PyAV frames, float32 (channels, n); integers by their full scale."""
    channels, planar = frames[0].layout.nb_channels, frames[0].format.is_planar
    arrays = [frame.to_ndarray() for frame in frames]
    if planar or channels == 1:
        array = np.concatenate([part.reshape(channels, -1) for part in arrays], axis=1)
    else:
        array = np.ascontiguousarray(np.concatenate(arrays, axis=1).reshape(-1, channels).T)
    if array.dtype.kind in "iu":
        info = np.iinfo(array.dtype)
        middle = 128.0 if array.dtype.kind == "u" else 0.0
        array = (array.astype(np.float32) - middle) / (128.0 if array.dtype.kind == "u" else float(info.max) + 1.0)
    return np.asarray(array, dtype=np.float32)

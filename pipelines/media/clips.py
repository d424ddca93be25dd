"""What decoding gives: sound or pictures, and how they came to be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SILENCE = 1e-4
"""Peak below which sound counts as silent (-80 dB full scale)."""


@dataclass(frozen=True, slots=True)
class DecodeInfo:
    """How a clip was decoded and what its sound is like: columns of the feature views of that name."""

    decoder: str | None = None
    """`pyav` or `decord`."""
    decode_errors: int = 0
    """Bad packets that were skipped: a quality mark, not a failure."""
    decode_notes: str | None = None
    """What was chosen or repaired on the way, joined by `; `: the sound track of several, the channel of a down-mix
    that cancels, the full scale of floats, why the first decoder failed."""
    n_channels: int | None = None
    """Channels of the sound before the down-mix."""
    level_dbfs: float | None = None
    """Root mean square of the mono sound in decibels below full scale; null where every sample is zero."""
    clipped_share: float | None = None
    """Share of the samples of all channels that stand at full scale."""


@dataclass(frozen=True, slots=True)
class AudioClip:
    """Mono sound."""

    wave: np.ndarray
    """float32 (n,), full scale is 1."""
    sample_rate: int
    info: DecodeInfo = field(default_factory=DecodeInfo)

    @property
    def silent(self) -> bool:
        """No sample rises above -80 dB full scale."""
        return is_silent(self.wave)


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames on a regular time grid."""

    frames: np.ndarray
    """uint8 RGB (n, height, width, 3)."""
    fps: float
    info: DecodeInfo = field(default_factory=DecodeInfo)


def is_silent(wave: np.ndarray) -> bool:
    """No sample rises above -80 dB full scale."""
    return bool(np.abs(wave).max(initial=0.0) < SILENCE)

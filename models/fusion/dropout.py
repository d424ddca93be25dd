"""What dropout multiplies with: every run has random numbers of its own, whoever trains beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

DRAWN = 8
"""Steps for which generators draw at once."""
WEYL, MIX1, MIX2 = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""Constants of SplitMix64 (Steele, Lea and Flood 2014), as signed 64-bit numbers."""


class DropoutNoise(Protocol):
    """Random numbers of R runs, step by step."""

    def next(self) -> dict[str, Tensor]:
        """Place -> 0 for dropped values, 1 / (1 - rate) for the others, float32 (R, B, width), of the next step."""

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""


class GeneratorNoise:
    """Noise that torch's generators draw, one for each run: fastest on a CPU.

    Args:
        seeds: Of every run.
        widths: Place where dropout acts -> how many values of a row it may drop there.
        rows: Rows of a batch.
        rate: Share of dropped values, exact to 1 / 65,536.
        device: Where the numbers are drawn.
    """

    def __init__(self, seeds: Sequence[int], widths: Mapping[str, int], rows: int, rate: float, device: str) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.widths, self.rate = widths, rate
        self.noise = torch.empty(len(seeds), DRAWN, rows, sum(widths.values()), device=device)
        self.used = DRAWN

    def next(self) -> dict[str, Tensor]:
        """See `DropoutNoise`; valid until the numbers of another `DRAWN` steps are drawn."""
        if self.used == DRAWN:
            self._draw()
        self.used += 1
        return _by_place(self.noise[:, self.used - 1], self.widths)

    def _draw(self) -> None:
        """Draw for the next steps: 16 random bits a value cost a third of torch's own draw."""
        for run, generator in zip(self.noise, self.generators, strict=True):
            bits = torch.empty(-(-run.numel() // 4), dtype=torch.int64, device=run.device)
            bits.random_(-(2**63), None, generator=generator)
            torch.ge(bits.view(torch.int16)[: run.numel()].view(run.shape), _dropped(self.rate), out=run)
        self.noise *= 1 / (1 - self.rate)
        self.used = 0

    def select(self, runs: Tensor) -> None:
        """See `DropoutNoise`."""
        self.noise = self.noise[runs]
        self.generators = [self.generators[run] for run in runs.tolist()]


class CounterNoise:
    """Noise that is a function of seed, step and place, for all runs in one go: what a captured step can compute.

    Args:
        seeds: Of every run.
        widths: Place where dropout acts -> how many values of a row it may drop there.
        rows: Rows of a batch.
        rate: Share of dropped values, exact to 1 / 65,536.
        device: Where the numbers are computed.
    """

    def __init__(self, seeds: Sequence[int], widths: Mapping[str, int], rows: int, rate: float, device: str) -> None:
        self.widths, self.rate, self.rows = widths, rate, rows
        self.values = rows * sum(widths.values())
        self.keys = _mixed(torch.tensor(seeds, device=device)[:, None] * WEYL)
        self.places = torch.arange(1, -(-self.values // 4) + 1, device=device) * WEYL
        self.step = torch.zeros(1, dtype=torch.int64, device=device)

    def next(self) -> dict[str, Tensor]:
        """See `DropoutNoise`."""
        self.step += 1
        words = _mixed(_mixed(self.keys + self.step) + self.places)
        kept = words.view(torch.int16)[:, : self.values].reshape(len(words), self.rows, -1) >= _dropped(self.rate)
        return _by_place(kept.float().mul_(1 / (1 - self.rate)), self.widths)

    def select(self, runs: Tensor) -> None:
        """See `DropoutNoise`."""
        self.keys = self.keys[runs]


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finalizer: int64 whose every bit depends on all bits of the given ones.

    Its shifts are logical, torch's arithmetic: what they fill in from the left is masked out.
    """
    words = (words ^ (words >> 30 & (1 << 34) - 1)).mul_(MIX1)
    words = (words ^ (words >> 27 & (1 << 37) - 1)).mul_(MIX2)
    return words ^ (words >> 31 & (1 << 33) - 1)


def _dropped(rate: float) -> int:
    """The first of the 16-bit numbers that are kept."""
    return round(rate * 2**16) - 2**15


def _by_place(noise: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Split (R, B, width) into one part per place where dropout acts."""
    return dict(zip(widths, noise.split(list(widths.values()), dim=-1), strict=True))

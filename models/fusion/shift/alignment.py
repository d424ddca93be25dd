"""Losses that make the corpora alike in front of the classifier: CORAL, and a domain adversary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from merloco.models.errors import ModelError
from merloco.models.fusion.spec import TrainConfig

WIDTH = 64
"""Of the adversary's hidden layer."""


def coral_loss(hidden: Tensor, corpus: Tensor, counts: Tensor, corpora: int) -> Tensor:
    """Mean squared difference of the covariances of every two corpora in a batch (Sun and Saenko 2016), (R,).

    Args:
        hidden: float32 (R, B, H).
        corpus: int64 (R, B).
        counts: float32 (R, B), 0 for rows that only fill a batch up.
        corpora: How many there are.
    """
    members = nn.functional.one_hot(corpus, corpora).float() * counts.unsqueeze(-1)
    sizes = members.sum(1)
    means = torch.einsum("rbc,rbh->rch", members, hidden) / sizes.clamp(min=1).unsqueeze(-1)
    centred = hidden.unsqueeze(2) - means.unsqueeze(1)
    covariances = torch.einsum("rbc,rbch,rbcg->rchg", members, centred, centred)
    covariances = covariances / (sizes - 1).clamp(min=1)[..., None, None]
    loss, pairs = torch.zeros_like(sizes[:, 0]), torch.zeros_like(sizes[:, 0])
    for first in range(corpora):
        for second in range(first):
            both = ((sizes[:, first] > 1) & (sizes[:, second] > 1)).float()
            apart = (covariances[:, first] - covariances[:, second]).square().sum((-2, -1))
            loss, pairs = loss + both * apart / (4 * hidden.shape[-1] ** 2), pairs + both
    return loss / pairs.clamp(min=1)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round and weighted (Ganin et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


class Alignment:
    """CORAL and the domain adversary of R runs.

    The adversary tells the corpora apart, one hidden layer, while the network is trained against it: its gradient
    arrives there reversed. Its weights are the training's alone, no part of what a run stores.

    Args:
        seeds: Of every run.
        config: Settings that the runs have in common.
        corpora: How many corpora the rows are of.
        device: Where to compute.
    """

    def __init__(self, seeds: Sequence[int], config: TrainConfig, corpora: int, device: str) -> None:
        self.coral, self.adversarial = config.coral, config.adversarial
        self.seeds, self.corpora, self.device = tuple(seeds), corpora, device
        self.parameters: dict[str, nn.Parameter] = {}
        """Of the adversary, by names that no network has; empty until the first batch has told their widths."""

    def prepare(self, width: int) -> None:
        """Draw the adversary's weights for a representation of this width."""
        if not self.adversarial:
            return
        drawn: dict[str, list[Tensor]] = {}
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(seed)
            for name, out, into in (("hidden", WIDTH, width), ("corpus", self.corpora, WIDTH)):
                weight = nn.init.xavier_uniform_(torch.empty(out, into), generator=generator)
                drawn.setdefault(f"adversary.{name}.weight", []).append(weight)
                drawn.setdefault(f"adversary.{name}.bias", []).append(torch.zeros(out))
        self.parameters = {name: nn.Parameter(torch.stack(values).to(self.device)) for name, values in drawn.items()}

    def __call__(self, hidden: Tensor, corpus: Tensor, counts: Tensor) -> Tensor:
        """What is added to the losses of the runs (R,); for the arguments see `coral_loss`."""
        loss = torch.zeros(len(hidden), device=hidden.device)
        if self.coral:
            loss = loss + self.coral * coral_loss(hidden, corpus, counts, self.corpora)
        if self.adversarial:
            each = nn.functional.cross_entropy(
                self.corpus_logits(_reverse(hidden, self.adversarial)).flatten(0, 1), corpus.flatten(), reduction="none"
            ).view_as(counts)
            loss = loss + (each * counts).sum(1) / counts.sum(1)
        return loss

    def corpus_logits(self, hidden: Tensor) -> Tensor:
        """What the adversary says of rows (R, B, H): (R, B, corpora)."""
        rows = hidden
        for name in ("hidden", "corpus"):
            weight, bias = self.parameters[f"adversary.{name}.weight"], self.parameters[f"adversary.{name}.bias"]
            rows = torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
            rows = torch.relu(rows) if name == "hidden" else rows
        return rows

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.parameters = {name: nn.Parameter(value.detach()[runs]) for name, value in self.parameters.items()}
        self.seeds = tuple(self.seeds[run] for run in runs.tolist())


def _reverse(rows: Tensor, weight: float) -> Tensor:
    reversed_: Tensor = _Reversed.apply(rows, weight)
    return reversed_


def alignment_of(
    seeds: Sequence[int], config: TrainConfig, corpora: int, width: int | None, device: str
) -> Alignment | None:
    """What a configuration asks for; None if it asks for nothing.

    Args:
        seeds: Of every run.
        config: Settings.
        corpora: How many corpora the rows are of.
        width: Of the network's representation in front of its classifier; None if it has none.
        device: Where to compute.

    Raises:
        ModelError: The network has no representation.
    """
    if not config.coral and not config.adversarial:
        return None
    if width is None:
        raise ModelError(
            f"fusion {config.fusion!r} has no representation in front of its classifier, which `coral` and "
            "`adversarial` need: expected one that calls `drop` at the place 'fused'"
        )
    alignment = Alignment(seeds, config, corpora, device)
    alignment.prepare(width)
    return alignment

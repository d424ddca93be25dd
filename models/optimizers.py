"""Optimizers over a stack of runs: one update for all, each run with its own learning rate and weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import ModelError
from models.stack import Stack

OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
SCHEDULES = ("none", "cosine_restarts", "step")
BETA1, BETA2 = 0.9, 0.999
LION_BETA1, LION_BETA2 = 0.9, 0.99
EPSILON = 1e-8
MOMENTUM = 0.9
PERIOD = 10
"""Epochs until the cosine restarts, and between two steps of the step schedule."""
DECAY = 0.1
"""Factor of the step schedule."""


def learning_rate(base: float, schedule: str, epoch: int) -> float:
    """Learning rate of an epoch (from 1): constant, cosine annealing with warm restarts, or steps.

    Raises:
        ModelError: No such schedule.
    """
    passed = epoch - 1
    if schedule == "none":
        return base
    if schedule == "cosine_restarts":
        return base * (1 + math.cos(math.pi * (passed % PERIOD) / PERIOD)) / 2
    if schedule == "step":
        return base * DECAY ** (passed // PERIOD)
    raise ModelError(f"unknown schedule {schedule!r}: known: {', '.join(SCHEDULES)}")


class StackOptimizer:
    """Adam (L2 in the gradient), AdamW and Lion (decoupled decay), SGD with momentum (L2).

    Args:
        kind: One of `OPTIMIZERS`.
        stack: The weights.

    Raises:
        ModelError: No such optimizer.
    """

    def __init__(self, kind: str, stack: Stack) -> None:
        if kind not in OPTIMIZERS:
            raise ModelError(f"unknown optimizer {kind!r}: known: {', '.join(OPTIMIZERS)}")
        self.kind, self.stack = kind, stack
        self.first = {name: torch.zeros_like(weight) for name, weight in stack.weights.items()}
        needs_second = kind in ("adam", "adamw")
        self.second = {name: torch.zeros_like(w) for name, w in stack.weights.items()} if needs_second else {}
        self.steps = 0
        self.settings: list[tuple[float, float]] = []
        self.counts: dict[int, Tensor] = {}
        """Step that has begun -> how many it makes, for torch's updates."""

    def begin(self, steps: int, rates: Sequence[float], decays: Sequence[float]) -> None:
        """Begin some steps.

        Args:
            steps: How many are done.
            rates: (R,) learning rates.
            decays: (R,) weight decays.
        """
        self.settings = list(zip(rates, decays, strict=True))
        self.steps = steps
        self.counts = {}

    def update(self, step: int, names: tuple[str, ...], runs: slice, gradients: list[Tensor]) -> None:
        """Update some weights of some runs.

        Args:
            step: Which of the steps that have begun, from 0.
            names: Weights of the stack.
            runs: The runs.
            gradients: For each weight (runs, ...).
        """
        settings = self.settings[runs]
        if len(set(settings)) == 1:
            self._update(step, names, runs, gradients, *settings[0])
            return
        for r, own in enumerate(settings):
            start = runs.start + r
            self._update(step, names, slice(start, start + 1), [g[r : r + 1] for g in gradients], *own)

    def _update(
        self, step: int, names: tuple[str, ...], runs: slice, gradients: list[Tensor], rate: float, decay: float
    ) -> None:
        # torch's own fused updates, called without the wrappers that sort tensors by device and type: for one layer
        # of one run these take longer than the update.
        weights = [self.stack.weights[name][runs] for name in names]
        first = [self.first[name][runs] for name in names]
        if self.kind == "lion":
            _lion(weights, gradients, first, rate, decay)
        elif self.kind == "sgd":
            torch._fused_sgd_(
                weights, gradients, first, weight_decay=decay, momentum=MOMENTUM, lr=rate, dampening=0.0,
                nesterov=False, maximize=False, is_first_step=False,
            )  # fmt: skip
        else:
            fused = torch._fused_adam_ if self.kind == "adam" else torch._fused_adamw_
            count = self.counts.get(step)
            if count is None:
                count = self.counts[step] = torch.tensor(float(self.steps + step + 1), device=weights[0].device)
            fused(
                weights, gradients, first, [self.second[name][runs] for name in names], [], [count] * len(names),
                lr=rate, beta1=BETA1, beta2=BETA2, weight_decay=decay, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip

    def keep(self, runs: Sequence[int]) -> None:
        """Drop the state of all runs but these."""
        chosen = torch.tensor(runs, device=next(iter(self.first.values())).device)
        self.first = {name: tensor[chosen] for name, tensor in self.first.items()}
        self.second = {name: tensor[chosen] for name, tensor in self.second.items()}


def _lion(weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], rate: float, decay: float) -> None:
    """Chen et al. 2023, algorithm 2: the sign of an interpolation, decoupled weight decay."""
    for weight, gradient, momentum in zip(weights, gradients, momenta, strict=True):
        direction = torch.lerp(gradient, momentum, LION_BETA1).sign_()
        weight.mul_(1 - rate * decay).sub_(direction, alpha=rate)
        momentum.lerp_(gradient, 1 - LION_BETA2)

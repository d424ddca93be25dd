"""Optimizers over a stack of runs: one update for all, each run with its own learning rate and weight decay."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from models.errors import ModelError
from models.stack import Stack

OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
SCHEDULES = ("none", "cosine_restarts", "step")
BETA1, BETA2 = 0.9, 0.999
LION_BETA1, LION_BETA2 = 0.9, 0.99
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
        stack: The weights and their gradients.

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

    @torch.no_grad()
    def step(self, rates: Sequence[float], decays: Sequence[float]) -> None:
        """Update every run.

        Args:
            rates: (R,) learning rates.
            decays: (R,) weight decays.
        """
        settings = sorted(set(zip(rates, decays, strict=True)))
        for rate, decay in settings:
            # A run alone and a run in a stack of equal settings take the same path; mixed stacks go run by run.
            runs = (
                [None]
                if len(settings) == 1
                else [r for r, s in enumerate(zip(rates, decays, strict=True)) if s == (rate, decay)]
            )
            self._update(runs, rate, decay)
        self.steps += 1

    def _update(self, runs: Sequence[int | None], rate: float, decay: float) -> None:
        def parts(tensors: dict[str, Tensor]) -> list[Tensor]:
            return [t.detach() if run is None else t.detach()[run] for t in tensors.values() for run in runs]

        weights, gradients, first = parts(self.stack.weights), parts(self.stack.gradients), parts(self.first)
        if self.kind == "sgd":
            sgd(
                weights,
                gradients,
                list[Tensor | None](first),
                fused=True,
                weight_decay=decay,
                momentum=MOMENTUM,
                lr=rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
            return
        if self.kind == "lion":
            _lion(weights, gradients, first, rate, decay)
            return
        # The count of steps is one number; torch adds to one tensor per weight.
        counts = list(torch.full((len(weights),), float(self.steps), device=weights[0].device).unbind())
        update = adam if self.kind == "adam" else adamw
        update(
            weights,
            gradients,
            first,
            parts(self.second),
            [],
            counts,
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=rate,
            weight_decay=decay,
            eps=1e-8,
            maximize=False,
        )

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

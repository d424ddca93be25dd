"""Optimizers and learning-rate schedules by the names that a catalog gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from merloco.models.errors import ModelError
from merloco.models.fusion.spec import TrainConfig

OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
SCHEDULES = ("none", "cosine_restarts", "step")
BETA1, BETA2 = 0.9, 0.999
LION_BETA1, LION_BETA2 = 0.9, 0.99
EPSILON = 1e-8
PERIOD, GROWTH = 10, 20
"""Epochs until the cosine restarts for the first time, and by what the time to the next restart grows each time."""
STEP, DECAY = 30, 0.1
"""Epochs between two steps of the step schedule, and their factor."""


def learning_rate(base: float, schedule: str, batch: int, batches: int) -> float:
    """Learning rate of a batch: constant, cosine annealing with warm restarts, or steps, with the published settings.

    Args:
        base: The rate to begin with.
        schedule: One of `SCHEDULES`.
        batch: Batches of all epochs before this one.
        batches: Batches of an epoch.

    Raises:
        ModelError: No such schedule.
    """
    if schedule == "none":
        return base
    if schedule == "cosine_restarts":  # set after every batch for the next one, as torch's own is used there
        passed, period = max(batch - 1, 0) / batches, PERIOD
        while passed >= period:
            passed, period = passed - period, period * GROWTH
        return base * (1 + math.cos(math.pi * passed / period)) / 2
    if schedule == "step":
        return base * DECAY ** (batch // batches // STEP)
    raise ModelError(f"unknown schedule {schedule!r}: known: {', '.join(SCHEDULES)}")


class Optimizer:
    """Adam (L2 in the gradient), AdamW and Lion (decoupled decay), or SGD (L2).

    Updates are torch's functional ones: the first `torch.optim.Optimizer` of a process imports torch's compiler, which
    takes longer than a small training; and weights can be updated part by part, while their gradients are in the cache.

    Args:
        parameters: Name -> parameter.
        config: Kind, learning rate and weight decay.

    Raises:
        ModelError: No such optimizer.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> None:
        if config.optimizer not in OPTIMIZERS:
            raise ModelError(f"unknown optimizer {config.optimizer!r}: known: {', '.join(OPTIMIZERS)}")
        self.kind, self.weight_decay = config.optimizer, config.weight_decay
        self.learning_rate: float | Tensor = config.learning_rate
        self.parameters = parameters
        first = {} if self.kind == "sgd" else parameters
        self.first = {name: torch.zeros_like(weight) for name, weight in first.items()}
        second = parameters if self.kind in ("adam", "adamw") else {}
        self.second = {name: torch.zeros_like(weight) for name, weight in second.items()}
        self.steps = {name: torch.zeros((), device=weight.device) for name, weight in second.items()}

    @torch.no_grad()
    def update(self, names: Iterable[str]) -> None:
        """Update some parameters from their gradients, which are dropped."""
        pairs = [(name, gradient) for name in names if (gradient := self.parameters[name].grad) is not None]
        named, gradients = [name for name, _ in pairs], [gradient for _, gradient in pairs]
        weights = [self.parameters[name].detach() for name in named]
        first = [self.first[name] for name in named if name in self.first]
        settings: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "maximize": False}
        if self.kind == "lion":
            _lion(weights, gradients, first, self.learning_rate, self.weight_decay)
        elif self.kind == "sgd":
            nothing: list[Tensor | None] = [None] * len(weights)
            sgd(weights, gradients, nothing, momentum=0.0, dampening=0.0, nesterov=False, fused=True, **settings)
        else:
            update, second = adam if self.kind == "adam" else adamw, [self.second[name] for name in named]
            update(
                weights, gradients, first, second, [], [self.steps[name] for name in named], fused=True,
                amsgrad=False, beta1=BETA1, beta2=BETA2, eps=EPSILON, **settings,
            )  # fmt: skip
        for name in named:
            self.parameters[name].grad = None

    def select(self, parameters: Mapping[str, nn.Parameter], runs: Tensor) -> None:
        """Go on with stacked parameters (R, ...) from which all runs but these have been dropped."""
        self.parameters = parameters
        self.first = {name: value[runs] for name, value in self.first.items()}
        self.second = {name: value[runs] for name, value in self.second.items()}


def _lion(
    weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], rate: float | Tensor, decay: float
) -> None:
    """Chen et al. 2023, algorithm 2: the sign of an interpolation, decoupled weight decay."""
    for weight, gradient, momentum in zip(weights, gradients, momenta, strict=True):
        direction = torch.lerp(gradient, momentum, LION_BETA1).sign_()
        weight.mul_(1 - rate * decay).sub_(direction * rate)
        momentum.lerp_(gradient, 1 - LION_BETA2)

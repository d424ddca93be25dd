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


class Optimizer:
    """Adam (L2 in the gradient), AdamW and Lion (decoupled decay), or SGD with momentum (L2).

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
        self.kind, self.learning_rate, self.weight_decay = config.optimizer, config.learning_rate, config.weight_decay
        self.parameters = parameters
        self.first = {name: torch.zeros_like(weight) for name, weight in parameters.items()}
        second = parameters if self.kind in ("adam", "adamw") else {}
        self.second = {name: torch.zeros_like(weight) for name, weight in second.items()}
        self.steps = {name: torch.zeros((), device=weight.device) for name, weight in second.items()}

    @torch.no_grad()
    def update(self, names: Iterable[str]) -> None:
        """Update some parameters from their gradients, which are dropped."""
        pairs = [(name, gradient) for name in names if (gradient := self.parameters[name].grad) is not None]
        named, gradients = [name for name, _ in pairs], [gradient for _, gradient in pairs]
        weights, first = [self.parameters[name].detach() for name in named], [self.first[name] for name in named]
        settings: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "maximize": False}
        if self.kind == "lion":
            _lion(weights, gradients, first, self.learning_rate, self.weight_decay)
        elif self.kind == "sgd":
            sgd(weights, gradients, [*first], momentum=MOMENTUM, dampening=0.0, nesterov=False, fused=True, **settings)
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


def _lion(weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], rate: float, decay: float) -> None:
    """Chen et al. 2023, algorithm 2: the sign of an interpolation, decoupled weight decay."""
    for weight, gradient, momentum in zip(weights, gradients, momenta, strict=True):
        direction = torch.lerp(gradient, momentum, LION_BETA1).sign_()
        weight.mul_(1 - rate * decay).sub_(direction, alpha=rate)
        momentum.lerp_(gradient, 1 - LION_BETA2)

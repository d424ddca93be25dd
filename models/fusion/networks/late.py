"""Late fusion: every modality has a classifier of its own, and what they say is averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from merloco.models.fusion.networks.base import register_fusion
from merloco.models.fusion.networks.module import FusionModule


@register_fusion("late")
class LateFusion(FusionModule):
    """FC -> ReLU -> classifier per modality; the logits of those that a row has are averaged.

    Args:
        dims: Modality -> width.
        classes: Their number.
        hidden: Width of each hidden layer.
        dropout: Of the hidden layers.
    """

    options: ClassVar[dict[str, Any]] = {"hidden": 128, "dropout": 0.1}

    def __init__(self, dims: Mapping[str, int], classes: int, hidden: int, dropout: float) -> None:
        super().__init__(dims, dropout, dict.fromkeys(dims, hidden))
        self.hidden = nn.ModuleDict({m: nn.Linear(width, hidden) for m, width in dims.items()})
        self.classifiers = nn.ModuleDict({m: nn.Linear(hidden, classes) for m in dims})

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (n, K); for the arguments see `merloco.models.fusion.networks.base`."""
        said = [
            self.classifiers[m](self.drop(torch.relu(self.hidden[m](features[m])), m, noise)) for m in self.modalities
        ]
        there = self.presence(features, present).unsqueeze(-1)
        return (torch.stack(said, dim=-2) * there).sum(-2) / there.sum(-2).clamp(min=1)

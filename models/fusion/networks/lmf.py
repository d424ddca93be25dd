"""Low-rank multimodal fusion: the tensor of all products across modalities, by factors (Liu et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from merloco.models.fusion.networks.base import register_fusion
from merloco.models.fusion.networks.module import FusionModule


@register_fusion("lmf")
class LowRankFusion(FusionModule):
    """FC -> ReLU per modality; products of its low-rank factors across modalities, summed over ranks -> classifier.

    A modality that is missing is the factor 1: the products of the others stay as they are.

    Args:
        dims: Modality -> width.
        classes: Their number.
        hidden: Width of a modality's hidden layer.
        fused: Width of the fused features.
        rank: How many factors.
        dropout: Of the hidden layers and of the fused features.
    """

    options: ClassVar[dict[str, Any]] = {"hidden": 64, "fused": 64, "rank": 4, "dropout": 0.1}

    def __init__(
        self, dims: Mapping[str, int], classes: int, hidden: int, fused: int, rank: int, dropout: float
    ) -> None:
        super().__init__(dims, dropout, {**dict.fromkeys(dims, hidden), "fused": fused})
        self.shape = (rank, fused)
        self.hidden = nn.ModuleDict({m: nn.Linear(width, hidden) for m, width in dims.items()})
        # The bias of a factor is the constant 1 that the source appends to every modality.
        self.factors = nn.ModuleDict({m: nn.Linear(hidden, rank * fused) for m in dims})
        for name, bias in self.factors.named_parameters():  # products of several small numbers vanish: begin around 1
            if name.endswith("bias"):
                nn.init.ones_(bias)
        self.classifier = nn.Linear(fused, classes)

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (n, K); for the arguments see `merloco.models.fusion.networks.base`."""
        there = self.presence(features, present)
        product: Tensor | None = None
        for i, m in enumerate(self.modalities):
            hidden = self.drop(torch.relu(self.hidden[m](features[m])), m, noise)
            factor = self.factors[m](hidden)
            factor = torch.where(there[:, i : i + 1] > 0, factor, torch.ones_like(factor))
            product = factor if product is None else product * factor
        assert product is not None
        fused = product.unflatten(-1, self.shape).mean(-2)
        logits: Tensor = self.classifier(self.drop(fused, "fused", noise))
        return logits

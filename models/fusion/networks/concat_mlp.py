"""Early fusion: the features of all modalities side by side, and a perceptron with one hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from merloco.models.fusion.networks.base import register_fusion
from merloco.models.fusion.networks.module import FusionModule


@register_fusion("concat_mlp")
class ConcatMLP(FusionModule):
    """Concatenation -> FC -> ReLU -> classifier; a missing modality is zeros, and which are there is told beside them.

    Args:
        dims: Modality -> width.
        classes: Their number.
        hidden: Width of the hidden layer.
        dropout: Of the features and of the hidden layer.
    """

    options: ClassVar[dict[str, Any]] = {"hidden": 256, "dropout": 0.1}

    def __init__(self, dims: Mapping[str, int], classes: int, hidden: int, dropout: float) -> None:
        width = sum(dims.values()) + len(dims)
        super().__init__(dims, dropout, {"features": width, "fused": hidden})
        self.hidden = nn.Linear(width, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (n, K); for the arguments see `merloco.models.fusion.networks.base`."""
        rows = torch.cat([*(features[m] for m in self.modalities), self.presence(features, present)], dim=-1)
        hidden = torch.relu(self.hidden(self.drop(rows, "features", noise)))
        logits: Tensor = self.classifier(self.drop(hidden, "fused", noise))
        return logits

"""Attention over modalities: each is a token, tokens attend to those that are there (Vaswani et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from merloco.models.errors import ModelError
from merloco.models.fusion.networks.base import register_fusion
from merloco.models.fusion.networks.module import FusionModule


@register_fusion("attention")
class AttentionFusion(FusionModule):
    """FC per modality -> masked self-attention, residual -> mean over the modalities that are there -> classifier.

    Args:
        dims: Modality -> width.
        classes: Their number.
        width: Of a token.
        heads: Of the attention.
        dropout: Of the tokens and of their mean.
    """

    options: ClassVar[dict[str, Any]] = {"width": 128, "heads": 4, "dropout": 0.1}

    def __init__(self, dims: Mapping[str, int], classes: int, width: int, heads: int, dropout: float) -> None:
        if heads < 1 or width % heads:
            raise ModelError(f"fusion attention: a width of {width} with {heads} heads: expected a multiple")
        super().__init__(dims, dropout, {**dict.fromkeys(dims, width), "fused": width})
        self.heads = heads
        self.tokens = nn.ModuleDict({m: nn.Linear(size, width) for m, size in dims.items()})
        self.attention = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (n, K); for the arguments see `merloco.models.fusion.networks.base`."""
        there = self.presence(features, present)
        tokens = torch.stack([self.drop(self.tokens[m](features[m]), m, noise) for m in self.modalities], dim=-2)
        query, key, value = self.attention(tokens).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        scores = query @ key.mT / query.shape[-1] ** 0.5
        # A large number in place of infinity: a row without any modality has no token to attend to.
        scores = scores - 1e9 * (1 - there)[:, None, None, :]
        attended = (torch.softmax(scores, dim=-1) @ value).transpose(-3, -2).flatten(-2)
        tokens = self.norm(tokens + self.output(attended)) * there.unsqueeze(-1)
        fused = tokens.sum(-2) / there.sum(-1, keepdim=True).clamp(min=1)
        logits: Tensor = self.classifier(self.drop(fused, "fused", noise))
        return logits

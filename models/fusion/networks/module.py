"""What built-in networks share: dropout that the training loop draws, so that a run's numbers are its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from merloco.models.fusion.networks.base import GATED, registered_fusion
from merloco.models.fusion.spec import TrainConfig

FUSED = "fused"
"""Place of dropout in front of the classifier."""


class FusionModule(nn.Module):
    """A network whose dropout acts at named places.

    It holds no random state of its own: many of one shape can train as one stack (`torch.func`).

    Args:
        dims: Modality -> width.
        dropout: Share of values that are dropped where `drop` is called.
        places: Place -> width of what is dropped there.
    """

    def __init__(self, dims: Mapping[str, int], dropout: float, places: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(dims)
        self.dropout = dropout
        self.dropout_widths = dict(places)
        self.representation: Tensor | None = None

    def drop(self, rows: Tensor, place: str, noise: Mapping[str, Tensor] | None) -> Tensor:
        """Drop values of rows (n, width): by what the loop has drawn, else, in training, by torch's own draw.

        What is in front of the classifier has the place `fused`: methods against corpus shift find it there.
        """
        dropped = self._dropped(rows, place, noise)
        if place == FUSED:
            self.representation = dropped
        return dropped

    def _dropped(self, rows: Tensor, place: str, noise: Mapping[str, Tensor] | None) -> Tensor:
        if noise is not None:
            return rows * noise[place]
        return nn.functional.dropout(rows, self.dropout) if self.training and self.dropout else rows

    def presence(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """float32 (n, modalities): 1 where a row has the modality, in the order of `modalities`."""
        if present is None:
            first = features[self.modalities[0]]
            return torch.ones(len(first), len(self.modalities), device=first.device)
        return torch.stack([present[m] for m in self.modalities], dim=-1).float()


def stackable(config: TrainConfig) -> bool:
    """Whether runs of these settings can train as one stack.

    Raises:
        ModelError: There is no network of that name.
    """
    factory = registered_fusion(config.fusion).factory
    if config.fusion == GATED:
        return True
    # A representation is taken out of a forward pass, which one that is mapped over runs does not allow.
    aligned = config.coral or config.adversarial
    return isinstance(factory, type) and issubclass(factory, FusionModule) and not aligned

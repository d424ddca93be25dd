"""Context-independent cross-modal gated attention fusion (paper: GFL and the multimodal model).

The arithmetic is in `fuse`, which takes its matrix products as a function: one network (`FusionNet`) and a stack of
networks that train together (`models.stack`) compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.gates import (
    GATES,
    ORDER,
    gated_features,
    layer_of,
    meet,
    pair_weights,
    pairs_of,
    presence,
)

Product = Callable[[Tensor, str], Tensor]
"""Rows (..., n, d) and the name of a layer -> rows times that layer's weights (..., n, d').

Layers are `fc_<modality>`, `fc_avt` and `classifier`, as published, and `pairs_<modality>`: all products of a modality
with the weights of its gated layers side by side, for each pair its W and then its part of the gate's W.
"""
Dropout = Callable[[Tensor, str], Tensor]
"""Rows and the name of the place (a modality, or `fused`) -> rows with some values dropped."""


def fuse(
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None,
    modalities: tuple[str, ...],
    kind: str,
    product: Product,
    dropout: Dropout,
) -> Tensor:
    """FC per modality -> dropout -> GFL per pair -> concatenation -> ReLU -> FC -> dropout -> classifier.

    With one modality there is no pair: its FC takes the place of the fused features.

    Args:
        features: Modality -> float32 (..., n, D).
        present: Modality -> bool (..., n), or None where every modality of every row is there.
        modalities: In the order of `ORDER`.
        kind: The gate.
        product: Products with the layers.
        dropout: What drops values in training.

    Returns:
        Logits (..., n, K).
    """
    hidden = {m: dropout(product(features[m], f"fc_{m}"), m) for m in modalities}
    if pairs_of(modalities):
        joined = {m: product(hidden[m], f"pairs_{m}") for m in modalities}
        out, _ = gated_features(*meet(joined, modalities), *presence(present, modalities), kind)
        fused = out.flatten(-2)
    else:
        (only,) = modalities
        fused = hidden[only] if present is None else hidden[only] * present[only].unsqueeze(-1)
    return product(dropout(product(torch.relu(fused), "fc_avt"), "fused"), "classifier")


class GatedFeatureLayer(nn.Module):
    """Weights of one gated layer, under their published names."""

    def __init__(self, dim1: int, dim2: int, gated_dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.WF1 = nn.Parameter(torch.empty(dim1, gated_dim))
        self.WF2 = nn.Parameter(torch.empty(dim2, gated_dim))
        self.WF = nn.Parameter(torch.empty(dim1 + dim2, gated_dim))
        for weight in (self.WF1, self.WF2, self.WF):
            nn.init.xavier_normal_(weight, generator=generator)


def _linear(width: int, out: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer with weights as torch draws them, but from a generator: the layer would take the global one."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, out)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.uniform_(layer.bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
    return layer


class FusionNet(nn.Module):
    """The fusion of one run.

    Args:
        dims: Modality -> feature width, one to three of audio, video, text.
        gated_dim: Width of the gated features.
        classes: Number of classes.
        gate: `softmax` (published code and checkpoints) or `sigmoid` (the paper's figure).
        dropout: Share of dropped values.
        generator: Draws the weights; None takes torch's global one, which all threads share.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        gated_dim: int,
        classes: int,
        gate: str = "softmax",
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(dims) - set(ORDER))
        if unknown or not dims:
            raise ModelError(
                f"fusion of {', '.join(unknown) or 'nothing'}: expected one to three of {', '.join(ORDER)}"
            )
        if gate not in GATES:
            raise ModelError(f"unknown gate {gate!r}: known: {', '.join(GATES)}")
        self.gate = gate
        self.modalities = tuple(m for m in ORDER if m in dims)
        for modality in self.modalities:
            setattr(self, f"fc_{modality}", _linear(dims[modality], dims[modality], generator))
        pairs = pairs_of(self.modalities)
        for first, second in pairs:
            setattr(self, layer_of((first, second)), GatedFeatureLayer(dims[first], dims[second], gated_dim, generator))
        width = len(pairs) * gated_dim or dims[self.modalities[0]]
        self.dropout = nn.Dropout(dropout)
        self.fc_avt = _linear(width, gated_dim, generator)
        self.classifier = _linear(gated_dim, classes, generator)

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(weight.nbytes for weight in self.parameters())

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Classify rows: logits (n, K)."""
        return fuse(features, present, self.modalities, self.gate, self._product, lambda x, _: self.dropout(x))

    def _product(self, x: Tensor, name: str) -> Tensor:
        if not name.startswith("pairs_"):
            linear: Tensor = self.get_submodule(name)(x)
            return linear
        weights = {key: weight for key, weight in self.named_parameters() if key.startswith("gal_")}
        return torch.cat([x @ w for w in pair_weights(weights, name.removeprefix("pairs_"), self.modalities)], dim=-1)

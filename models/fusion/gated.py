"""Context-independent cross-modal gated attention fusion (paper: GFL and the multimodal model).

The arithmetic is in `fuse`, which takes its matrix products as functions: one network (`FusionNet`) and a stack of
networks that train together (`StackedFusion`) compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from merloco.models.errors import ModelError
from merloco.models.fusion.networks.base import GATED, register_fusion

ORDER = ("audio", "video", "text")
PAIRS = (("audio", "video"), ("video", "text"), ("text", "audio"))
GATES = ("softmax", "sigmoid")

Linear = Callable[[Tensor, str], Tensor]
"""Rows (..., n, d) and the name of a layer (`fc_<modality>`, `fc_avt`, `classifier`, as published) -> (..., n, d')."""
PairProducts = Callable[[Tensor, str], Tensor]
"""Rows (..., n, d) of a modality -> side by side for each pair that it is in: their products with its W and with its
part of the gate's W, (..., n, 2 * pairs * gated_dim)."""
Dropout = Callable[[Tensor, str], Tensor]
"""Rows and the name of the place (a modality, or `fused`) -> rows with some values dropped."""


def pairs_of(modalities: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of modalities that get a gated layer; a single modality has none."""
    return tuple(pair for pair in PAIRS if set(pair) <= set(modalities))


def layer_of(pair: tuple[str, str]) -> str:
    """Name of a pair's gated layer in the published checkpoints: `gal_av`, `gal_vt`, `gal_ta`."""
    return f"gal_{pair[0][0]}{pair[1][0]}"


def pair_weights(weights: Mapping[str, Tensor], modality: str, modalities: tuple[str, ...]) -> list[Tensor]:
    """A modality's parts of the gated layers' weights, views (D, gated_dim), in the order of `PairProducts`.

    Args:
        weights: Published name -> tensor, at least those of the gated layers.
        modality: Whose parts.
        modalities: All of the network.
    """
    parts = []
    for pair in pairs_of(modalities):
        if modality in pair:
            own = weights[f"{layer_of(pair)}.WF{1 + pair.index(modality)}"]
            gate = weights[f"{layer_of(pair)}.WF"]
            parts += [own, gate[: len(own)] if modality == pair[0] else gate[-len(own) :]]
    return parts


def gated_features(
    h1: Tensor, h2: Tensor, scores: Tensor, has1: Tensor | None, has2: Tensor | None, gate: str
) -> Tensor:
    """The paper's GFL of P pairs at once: z = gate(scores), out = z * tanh(h1) + (1 - z) * tanh(h2).

    Published checkpoints need the softmax gate (over the gated dimension); the paper's figure draws a sigmoid.

    Args:
        h1: (..., n, P, gated_dim), the first modality's features times W1; no biases.
        h2: The same for the second.
        scores: (..., n, P, gated_dim), both side by side times the gate's W.
        has1: float (..., n, P, 1), 0 where the first is missing: the second then passes alone. None: all there.
        has2: The same for the second.
        gate: `softmax` or `sigmoid`.

    Returns:
        The fused features (..., n, P, gated_dim).
    """
    h1, h2 = h1.tanh_(), h2.tanh_()
    z = torch.softmax(scores, dim=-1) if gate == "softmax" else torch.sigmoid(scores)
    if has1 is None or has2 is None:
        return torch.lerp(h2, h1, z)
    z1 = has1 * torch.where(has2 > 0, z, torch.ones_like(z))
    z2 = has2 * torch.where(has1 > 0, 1 - z, torch.ones_like(z))
    return z1 * h1 + z2 * h2


def gather_pairs(products: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Arrange the pair products of each modality by pair: `h1`, `h2` and `scores` of `gated_features`."""
    pairs = pairs_of(tuple(products))
    parts = {m: iter(wide.chunk(2 * sum(m in pair for pair in pairs), dim=-1)) for m, wide in products.items()}
    columns = [[next(parts[m]) for m in pair for _ in range(2)] for pair in pairs]
    h1, score1, h2, score2 = (torch.stack(column, dim=-2) for column in zip(*columns, strict=True))
    return h1, h2, score1 + score2


def pair_presence(
    present: Mapping[str, Tensor] | None, modalities: tuple[str, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Presence of the first and of the second modality of each pair, float32 (..., n, P, 1); None: all is there."""
    if present is None:
        return None, None
    pairs = pairs_of(modalities)
    first, second = (torch.stack([present[pair[k]] for pair in pairs], dim=-1).float().unsqueeze(-1) for k in (0, 1))
    return first, second


def modality_products(
    features: Tensor, modality: str, alone: bool, linear: Linear, pair_products: PairProducts, dropout: Dropout
) -> Tensor:
    """What one modality brings to the fusion: FC -> dropout -> products with its gated layers.

    Args:
        features: float32 (..., n, D).
        modality: Its name.
        alone: It is the network's only one: there is no pair, and its FC takes the place of the fused features.
        linear: Products with the linear layers, biases added.
        pair_products: Products with the gated layers.
        dropout: Drops values in training.
    """
    hidden = dropout(linear(features, f"fc_{modality}"), modality)
    return hidden if alone else pair_products(hidden, modality)


def fuse(
    products: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None,
    gate: str,
    linear: Linear,
    dropout: Dropout,
) -> Tensor:
    """GFL per pair -> concatenation -> ReLU -> FC -> dropout -> classifier.

    Args:
        products: Modality -> `modality_products`.
        present: Modality -> bool (..., n), or None where every modality of every row is there.
        gate: `softmax` or `sigmoid`.
        linear: Products with the linear layers, biases added.
        dropout: Drops values in training.

    Returns:
        Logits (..., n, K).
    """
    modalities = tuple(products)
    if len(modalities) > 1:
        fused = gated_features(*gather_pairs(products), *pair_presence(present, modalities), gate).flatten(-2)
    else:
        (only,) = modalities
        fused = products[only] if present is None else products[only] * present[only].unsqueeze(-1)
    return linear(dropout(linear(torch.relu(fused), "fc_avt"), "fused"), "classifier")


class GatedFeatureLayer(nn.Module):
    """Weights of one gated layer, under their published names."""

    def __init__(self, dim1: int, dim2: int, gated_dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.WF1 = nn.Parameter(torch.empty(dim1, gated_dim))
        self.WF2 = nn.Parameter(torch.empty(dim2, gated_dim))
        self.WF = nn.Parameter(torch.empty(dim1 + dim2, gated_dim))
        for weight in (self.WF1, self.WF2, self.WF):
            nn.init.xavier_uniform_(weight, generator=generator)


def _linear(width: int, out: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer as published, Xavier weights and torch's biases, from a generator: torch takes the global one."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, out, device=torch.get_default_device())
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.uniform_(layer.bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
    return layer


@register_fusion(GATED)
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
        self.gate, self.dropout = gate, dropout
        self.representation: Tensor | None = None
        self.modalities = tuple(m for m in ORDER if m in dims)
        for modality in self.modalities:
            setattr(self, f"fc_{modality}", _linear(dims[modality], dims[modality], generator))
        pairs = pairs_of(self.modalities)
        for first, second in pairs:
            setattr(self, layer_of((first, second)), GatedFeatureLayer(dims[first], dims[second], gated_dim, generator))
        width = len(pairs) * gated_dim or dims[self.modalities[0]]
        self.fc_avt = _linear(width, gated_dim, generator)
        self.classifier = _linear(gated_dim, classes, generator)
        self.dropout_widths = {**{m: dims[m] for m in self.modalities}, "fused": gated_dim}
        """Places where dropout acts, and how many values it may drop in each."""

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Classify rows: logits (n, K).

        Args:
            features: Modality -> float32 (n, D).
            present: Modality -> bool (n,); None where everything is there.
            noise: Place of `dropout_widths` -> what dropout multiplies with, float32 (n, width); None draws in training
                from torch's global generator.
        """

        def dropout(rows: Tensor, place: str) -> Tensor:
            own = None if noise is None else noise[place]
            dropped = nn.functional.dropout(rows, self.dropout, self.training) if own is None else rows * own
            if place == "fused":
                self.representation = dropped
            return dropped

        alone = len(self.modalities) == 1
        products = {
            m: modality_products(features[m], m, alone, self._linear, self._pair_products, dropout)
            for m in self.modalities
        }
        return fuse(products, present, self.gate, self._linear, dropout)

    def _linear(self, rows: Tensor, layer: str) -> Tensor:
        out: Tensor = getattr(self, layer)(rows)
        return out

    def _pair_products(self, rows: Tensor, modality: str) -> Tensor:
        weights = {name: weight for name, weight in self.named_parameters() if name.startswith("gal_")}
        return torch.cat([rows @ weight for weight in pair_weights(weights, modality, self.modalities)], dim=-1)

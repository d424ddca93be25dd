"""Context-independent cross-modal gated attention fusion (paper: GFL and the multimodal model).

The arithmetic is in `fuse` and `gated_features`, which take their matrix products as a function: one network
(`FusionNet`) and a stack of networks that train together (`models.stack`) compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.errors import ModelError

ORDER = ("audio", "video", "text")
PAIRS = (("audio", "video"), ("video", "text"), ("text", "audio"))
GATES = ("softmax", "sigmoid")

Product = Callable[[Tensor, str], Tensor]
"""Rows (..., n, d) and the name of a layer -> rows times that layer's weights (..., n, d').

Layers are `fc_<modality>`, `fc_avt` and `classifier`, as published, and `pairs_<modality>`: all products of a modality
with the weights of its gated layers side by side, for each pair its W and then its part of the gate's W.
"""
Dropout = Callable[[Tensor, str], Tensor]
"""Rows and the name of the place (a modality, or `fused`) -> rows with some values dropped."""


def pairs_of(modalities: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of modalities that get a gated layer; a single modality has none."""
    return tuple(pair for pair in PAIRS if set(pair) <= set(modalities))


def layer_of(pair: tuple[str, str]) -> str:
    """Name of a pair's gated layer in the published checkpoints: `gal_av`, `gal_vt`, `gal_ta`."""
    return f"gal_{pair[0][0]}{pair[1][0]}"


def gated_features(
    h1: Tensor, h2: Tensor, scores: Tensor, has1: Tensor | None, has2: Tensor | None, kind: str
) -> tuple[Tensor, Tensor]:
    """The paper's GFL of P pairs at once: z = gate(scores), out = z * tanh(h1) + (1 - z) * tanh(h2).

    Published checkpoints need the softmax gate (over the gated dimension); the paper's figure draws a sigmoid.

    Args:
        h1: (..., n, P, gated_dim), the first modality's features times W1; no biases.
        h2: The same for the second.
        scores: (..., n, P, gated_dim), both side by side times the gate's W.
        has1: float (..., n, P, 1), 0 where the first is missing: the second then passes alone. None: all there.
        has2: The same for the second.
        kind: `softmax` or `sigmoid`.

    Returns:
        The fused features and the share of the first modality, both (..., n, P, gated_dim).
    """
    h1, h2 = h1.tanh_(), h2.tanh_()
    z = torch.softmax(scores, dim=-1) if kind == "softmax" else torch.sigmoid(scores)
    if has1 is None or has2 is None:
        return torch.lerp(h2, h1, z), z
    z1 = has1 * torch.where(has2 > 0, z, torch.ones_like(z))
    z2 = has2 * torch.where(has1 > 0, 1 - z, torch.ones_like(z))
    return z1 * h1 + z2 * h2, z1


def fuse(
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None,
    modalities: tuple[str, ...],
    kind: str,
    product: Product,
    dropout: Dropout,
) -> tuple[Tensor, Tensor | None]:
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
        Logits (..., n, K), and the share of the first modality of each pair (..., n, P, gated_dim); None without pairs.
    """
    hidden = {m: dropout(product(features[m], f"fc_{m}"), m) for m in modalities}
    has = {m: present[m].to(hidden[m].dtype).unsqueeze(-1) for m in modalities} if present else {}
    pairs = pairs_of(modalities)
    shares = None
    if pairs:
        # For each modality and pair its two products, taken in turn as the pairs come.
        parts = {
            m: iter(product(hidden[m], f"pairs_{m}").chunk(2 * sum(m in pair for pair in pairs), dim=-1))
            for m in modalities
        }
        taken = [[next(parts[m]) for m in pair for _ in range(2)] for pair in pairs]
        h1, score1, h2, score2 = (torch.stack(column, dim=-2) for column in zip(*taken, strict=True))
        has1, has2 = (torch.stack([has[pair[k]] for pair in pairs], dim=-2) if has else None for k in (0, 1))
        out, shares = gated_features(h1, h2, score1 + score2, has1, has2, kind)
        fused = out.flatten(-2)
    else:
        (only,) = modalities
        fused = hidden[only] * has[only] if has else hidden[only]
    return product(dropout(product(torch.relu(fused), "fc_avt"), "fused"), "classifier"), shares


def gate_shares(shares: Tensor | None, present: Mapping[str, Tensor], modalities: tuple[str, ...]) -> Tensor:
    """Mean gate share of each modality over its pairs, (n, modalities); 1 for a modality alone, 0 for a missing one.

    Args:
        shares: Share of the first modality of each pair (n, P, gated_dim), from `fuse`.
        present: Modality -> bool (n,).
        modalities: In the order of `ORDER`.
    """
    if shares is None:
        return torch.ones(len(present[modalities[0]]), 1)
    found: dict[str, list[Tensor]] = {m: [] for m in modalities}
    for (first, second), z in zip(pairs_of(modalities), shares.mean(-1).unbind(-1), strict=True):
        found[first].append(z)
        found[second].append((1 - z) * present[second])
    return torch.stack([torch.stack(found[m]).mean(0) for m in modalities], dim=-1)


def pair_weights(weights: Mapping[str, Tensor], modality: str, modalities: tuple[str, ...]) -> list[Tensor]:
    """A modality's parts of the gated layers' weights, views (D, gated_dim) in the order of `pairs_<modality>`.

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


class GatedFeatureLayer(nn.Module):
    """Weights of one gated layer, under their published names."""

    def __init__(self, dim1: int, dim2: int, gated_dim: int) -> None:
        super().__init__()
        self.WF1 = nn.Parameter(torch.empty(dim1, gated_dim))
        self.WF2 = nn.Parameter(torch.empty(dim2, gated_dim))
        self.WF = nn.Parameter(torch.empty(dim1 + dim2, gated_dim))
        for weight in (self.WF1, self.WF2, self.WF):
            nn.init.xavier_normal_(weight)


class FusionNet(nn.Module):
    """The fusion of one run.

    Args:
        dims: Modality -> feature width, one to three of audio, video, text.
        gated_dim: Width of the gated features.
        classes: Number of classes.
        gate: `softmax` (published code and checkpoints) or `sigmoid` (the paper's figure).
        dropout: Share of dropped values.
    """

    def __init__(
        self, dims: Mapping[str, int], gated_dim: int, classes: int, gate: str = "softmax", dropout: float = 0.1
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
            setattr(self, f"fc_{modality}", nn.Linear(dims[modality], dims[modality]))
        pairs = pairs_of(self.modalities)
        for first, second in pairs:
            setattr(self, layer_of((first, second)), GatedFeatureLayer(dims[first], dims[second], gated_dim))
        width = len(pairs) * gated_dim or dims[self.modalities[0]]
        self.dropout = nn.Dropout(dropout)
        self.fc_avt = nn.Linear(width, gated_dim)
        self.classifier = nn.Linear(gated_dim, classes)

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Classify rows: logits (n, K), and the gate share of each modality (n, modalities)."""
        logits, shares = fuse(
            features, present, self.modalities, self.gate, self._product, lambda x, _: self.dropout(x)
        )
        here = present or {m: torch.ones(len(logits), dtype=torch.bool, device=logits.device) for m in self.modalities}
        return logits, gate_shares(shares, here, self.modalities).to(logits.device)

    def _product(self, x: Tensor, name: str) -> Tensor:
        if not name.startswith("pairs_"):
            linear: Tensor = self.get_submodule(name)(x)
            return linear
        weights = {key: weight for key, weight in self.named_parameters() if key.startswith("gal_")}
        return torch.cat([x @ w for w in pair_weights(weights, name.removeprefix("pairs_"), self.modalities)], dim=-1)

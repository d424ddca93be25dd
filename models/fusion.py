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
"""Rows (..., n, d) and the name of a layer -> rows times that layer's weights (..., n, d')."""
Dropout = Callable[[Tensor, str], Tensor]
"""Rows and the name of the place (a modality, or `fused`) -> rows with some values dropped."""


def pairs_of(modalities: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of modalities that get a gated layer; a single modality has none."""
    return tuple(pair for pair in PAIRS if set(pair) <= set(modalities))


def layer_of(pair: tuple[str, str]) -> str:
    """Name of a pair's gated layer in the published checkpoints: `gal_av`, `gal_vt`, `gal_ta`."""
    return f"gal_{pair[0][0]}{pair[1][0]}"


def gated_features(
    f1: Tensor, f2: Tensor, has1: Tensor | None, has2: Tensor | None, kind: str, product: Product
) -> tuple[Tensor, Tensor]:
    """The paper's GFL: h = tanh(f W), z = gate over [f1, f2] W, out = z * h1 + (1 - z) * h2; no biases.

    Published checkpoints need the softmax gate (over the gated dimension); the paper's figure draws a sigmoid.

    Args:
        f1: (..., n, dim1).
        f2: (..., n, dim2).
        has1: float (..., n, 1), 0 where the first is missing: the second then passes alone. None: all there.
        has2: The same for the second.
        kind: `softmax` or `sigmoid`.
        product: Products with `WF1`, `WF2` and `WF`.

    Returns:
        The fused features (..., n, gated_dim) and the share of the first modality (..., n, gated_dim).
    """
    h1, h2 = torch.tanh(product(f1, "WF1")), torch.tanh(product(f2, "WF2"))
    scores = product(torch.cat([f1, f2], dim=-1), "WF")
    z = torch.softmax(scores, dim=-1) if kind == "softmax" else torch.sigmoid(scores)
    if has1 is None or has2 is None:
        return z * h1 + (1 - z) * h2, z
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
) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
    """FC per modality -> dropout -> GFL per pair -> concatenation -> ReLU -> FC -> dropout -> classifier.

    With one modality there is no pair: its FC takes the place of the fused features.

    Args:
        features: Modality -> float32 (..., n, D).
        present: Modality -> bool (..., n), or None where every modality of every row is there.
        modalities: In the order of `ORDER`.
        kind: The gate.
        product: Products with the layers by their published names.
        dropout: What drops values in training.

    Returns:
        Logits (..., n, K), and for each pair the share of its first modality (..., n, gated_dim).
    """
    hidden = {m: dropout(product(features[m], f"fc_{m}"), m) for m in modalities}
    has = {m: present[m].to(hidden[m].dtype).unsqueeze(-1) for m in modalities} if present else {}
    parts: list[Tensor] = []
    gates: dict[tuple[str, str], Tensor] = {}
    for first, second in pairs_of(modalities):
        layer = layer_of((first, second))

        def part_product(x: Tensor, name: str, layer: str = layer) -> Tensor:
            return product(x, f"{layer}.{name}")

        part, gates[first, second] = gated_features(
            hidden[first], hidden[second], has.get(first), has.get(second), kind, part_product
        )
        parts.append(part)
    if not parts:
        only = modalities[0]
        parts = [hidden[only] * has[only] if has else hidden[only]]
    fused = torch.cat(parts, dim=-1)
    return product(dropout(product(torch.relu(fused), "fc_avt"), "fused"), "classifier"), gates


def gate_shares(
    gates: Mapping[tuple[str, str], Tensor],
    present: Mapping[str, Tensor] | None,
    modalities: tuple[str, ...],
    rows: int,
) -> Tensor:
    """Mean gate share of each modality over its pairs, (n, modalities); 1 for a modality alone, 0 for a missing one.

    Args:
        gates: Pair -> share of its first modality (n, gated_dim), from `fuse`.
        present: Modality -> bool (n,), or None where everything is there.
        modalities: In the order of `ORDER`.
        rows: n.
    """
    if not gates:
        return torch.ones(rows, 1)
    shares: dict[str, list[Tensor]] = {m: [] for m in modalities}
    for (first, second), z in gates.items():
        shares[first].append(z.mean(-1))
        other = 1 - z.mean(-1)
        shares[second].append(other * present[second] if present else other)
    return torch.stack([torch.stack(shares[m]).mean(0) for m in modalities], dim=-1)


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
        logits, gates = fuse(features, present, self.modalities, self.gate, self._product, lambda x, _: self.dropout(x))
        return logits, gate_shares(gates, present, self.modalities, len(logits)).to(logits.device)

    def _product(self, x: Tensor, name: str) -> Tensor:
        if "." in name:
            return x @ self.get_parameter(name)
        linear: Tensor = self.get_submodule(name)(x)
        return linear

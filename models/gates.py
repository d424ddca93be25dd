"""Gated feature layers (paper: GFL): where two modalities meet, forward and backward, all pairs at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

ORDER = ("audio", "video", "text")
PAIRS = (("audio", "video"), ("video", "text"), ("text", "audio"))
GATES = ("softmax", "sigmoid")


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
        The fused features and the share of the first modality, both (..., n, P, gated_dim). `h1` and `h2` are their
        hyperbolic tangents afterwards.
    """
    h1, h2 = h1.tanh_(), h2.tanh_()
    z = torch.softmax(scores, dim=-1) if kind == "softmax" else torch.sigmoid(scores)
    if has1 is None or has2 is None:
        return torch.lerp(h2, h1, z), z
    z1 = has1 * torch.where(has2 > 0, z, torch.ones_like(z))
    z2 = has2 * torch.where(has1 > 0, 1 - z, torch.ones_like(z))
    return z1 * h1 + z2 * h2, z1


def gated_gradients(
    gradient: Tensor, h1: Tensor, h2: Tensor, share: Tensor, has1: Tensor | None, has2: Tensor | None, kind: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what `gated_features` was given, from that of the fused features and what it left behind.

    Args:
        gradient: Of the fused features (..., n, P, gated_dim).
        h1: As `gated_features` left it: its hyperbolic tangent.
        h2: The same for the second.
        share: As it came back.
        has1: As it was given.
        has2: The same for the second.
        kind: `softmax` or `sigmoid`.

    Returns:
        Of the first modality's products, the second's and the scores, each (..., n, P, gated_dim).
    """
    first, second, gate = gradient * share, gradient * (1 - share), gradient * (h1 - h2)
    if has1 is not None and has2 is not None:
        second *= has2
        gate *= has1 * has2  # a modality that passes alone does so whatever its score
    aten = torch.ops.aten
    if kind == "softmax":
        of_scores = aten._softmax_backward_data(gate, share, -1, gate.dtype)
    else:
        of_scores = aten.sigmoid_backward(gate, share)
    return aten.tanh_backward(first, h1), aten.tanh_backward(second, h2), of_scores


def meet(joined: Mapping[str, Tensor], modalities: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Arrange the products of each modality by pair: what `gated_features` takes.

    Args:
        joined: Modality -> its products `pairs_<modality>` (..., n, 2 * pairs * gated_dim).
        modalities: In the order of `ORDER`.
    """
    pairs = pairs_of(modalities)
    parts = {m: iter(joined[m].chunk(2 * sum(m in pair for pair in pairs), dim=-1)) for m in modalities}
    taken = [[next(parts[m]) for m in pair for _ in range(2)] for pair in pairs]
    h1, score1, h2, score2 = (torch.stack(column, dim=-2) for column in zip(*taken, strict=True))
    return h1, h2, score1.add_(score2)


def separate(first: Tensor, second: Tensor, scores: Tensor, modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Undo `meet` for gradients: modality -> those of its products."""
    parts: dict[str, list[Tensor]] = {m: [] for m in modalities}
    for place, pair in enumerate(pairs_of(modalities)):
        for m, own in zip(pair, (first, second), strict=True):
            parts[m] += [own[..., place, :], scores[..., place, :]]
    return {m: torch.cat(columns, dim=-1) for m, columns in parts.items()}


def presence(present: Mapping[str, Tensor] | None, modalities: tuple[str, ...]) -> tuple[Tensor | None, Tensor | None]:
    """Presence of the first and of the second modality of each pair, float32 (..., n, P, 1); None: all is there."""
    if present is None:
        return None, None
    pairs = pairs_of(modalities)
    first, second = (torch.stack([present[pair[k]] for pair in pairs], dim=-1).float().unsqueeze(-1) for k in (0, 1))
    return first, second


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

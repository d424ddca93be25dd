"""Context-independent cross-modal gated attention fusion (paper: GFL and the multimodal model)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.errors import ModelError

ORDER = ("audio", "video", "text")
PAIRS = (("audio", "video"), ("video", "text"), ("text", "audio"))
GATES = ("softmax", "sigmoid")


class GatedFeatureLayer(nn.Module):
    """GFL(f1, f2): h = tanh(f W), z = gate([f1, f2] W), z * h1 + (1 - z) * h2; no biases.

    Published checkpoints need the softmax gate (over the gated dimension); the paper's figure draws a sigmoid.
    """

    def __init__(self, dim1: int, dim2: int, gated_dim: int, gate: str) -> None:
        super().__init__()
        self.gate = gate
        self.WF1 = nn.Parameter(torch.empty(dim1, gated_dim))
        self.WF2 = nn.Parameter(torch.empty(dim2, gated_dim))
        self.WF = nn.Parameter(torch.empty(dim1 + dim2, gated_dim))
        for weight in (self.WF1, self.WF2, self.WF):
            nn.init.xavier_normal_(weight)

    def forward(
        self, f1: Tensor, f2: Tensor, has1: Tensor | None = None, has2: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fuse two modalities.

        Args:
            f1: (n, dim1).
            f2: (n, dim2).
            has1: float (n, 1), 0 where the first is missing: the second then passes alone. None: all there.
            has2: The same for the second.

        Returns:
            The fused features (n, gated_dim) and the share of the first modality (n, gated_dim).
        """
        h1, h2 = torch.tanh(f1 @ self.WF1), torch.tanh(f2 @ self.WF2)
        scores = torch.cat([f1, f2], dim=-1) @ self.WF
        z = torch.softmax(scores, dim=-1) if self.gate == "softmax" else torch.sigmoid(scores)
        if has1 is None or has2 is None:
            return z * h1 + (1 - z) * h2, z
        z1 = has1 * torch.where(has2 > 0, z, torch.ones_like(z))
        z2 = has2 * torch.where(has1 > 0, 1 - z, torch.ones_like(z))
        return z1 * h1 + z2 * h2, z1


class FusionNet(nn.Module):
    """FC per modality -> dropout -> GFL per pair -> concatenation -> ReLU -> FC -> dropout -> classifier.

    With one modality there is no pair: its FC takes the place of the fused features.

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
        self.modalities = tuple(m for m in ORDER if m in dims)
        self.pairs = tuple(pair for pair in PAIRS if set(pair) <= set(dims))
        for modality in self.modalities:
            setattr(self, f"fc_{modality}", nn.Linear(dims[modality], dims[modality]))
        for first, second in self.pairs:
            layer = GatedFeatureLayer(dims[first], dims[second], gated_dim, gate)
            setattr(self, f"gal_{first[0]}{second[0]}", layer)
        width = len(self.pairs) * gated_dim or dims[self.modalities[0]]
        self.dropout = nn.Dropout(dropout)
        self.fc_avt = nn.Linear(width, gated_dim)
        self.classifier = nn.Linear(gated_dim, classes)

    def forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Classify rows.

        Args:
            features: Modality -> float32 (n, D).
            present: Modality -> bool (n,), or None where every modality of every row is there.

        Returns:
            Logits (n, K), and the mean gate share of each modality over its pairs (n, modalities).
        """
        hidden = {m: self.dropout(getattr(self, f"fc_{m}")(features[m])) for m in self.modalities}
        has = {m: present[m].to(hidden[m].dtype)[:, None] for m in self.modalities} if present else {}
        if not self.pairs:
            only = self.modalities[0]
            fused = hidden[only] * has[only] if has else hidden[only]
            shares = torch.ones_like(fused[:, :1])
        else:
            parts: list[Tensor] = []
            gates: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
            for first, second in self.pairs:
                layer = getattr(self, f"gal_{first[0]}{second[0]}")
                part, z = layer(hidden[first], hidden[second], has.get(first), has.get(second))
                parts.append(part)
                gates[first].append(z.mean(-1))
                gates[second].append(((1 - z) * has.get(second, 1.0)).mean(-1))
            fused = torch.cat(parts, dim=-1)
            shares = torch.stack([torch.stack(gates[m]).mean(0) for m in self.modalities], dim=-1)
        logits = self.classifier(self.dropout(self.fc_avt(torch.relu(fused))))
        return logits, shares

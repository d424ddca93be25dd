"""Logistic regression on the features of all modalities side by side, by scikit-learn: the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.fusion.networks.base import register_fusion

NEVER = -30.0
"""Logit of a class that no training row shows."""


@register_fusion("logistic")
class Logistic(nn.Module):
    """A linear classifier that is fitted and not trained; a missing modality is zeros, the mean where standardized.

    Args:
        dims: Modality -> width.
        classes: Their number.
        C: Inverse strength of the L2 penalty.
        iterations: Most steps of L-BFGS.
    """

    options: ClassVar[dict[str, Any]] = {"C": 0.01, "iterations": 500}

    def __init__(self, dims: Mapping[str, int], classes: int, C: float, iterations: int) -> None:  # noqa: N803
        super().__init__()
        self.modalities, self.C, self.iterations = tuple(dims), C, iterations
        self.classifier = nn.Linear(sum(dims.values()), classes)

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (n, K); for the arguments see `merloco.models.fusion.networks.base`."""
        logits: Tensor = self.classifier(torch.cat([features[m] for m in self.modalities], dim=-1))
        return logits

    def fit(self, features: Mapping[str, Tensor], truth: Mapping[str, Tensor], task: str, balanced: bool) -> None:
        """Fit the weights.

        Args:
            features: Modality -> float32 (n, D), zeros where absent.
            truth: `label` (n,), `target` and `mask` (n, K).
            task: `single`: one regression over the classes; `multi`: one for each class, on rows that annotate it.
            balanced: Whether classes count the same, however frequent.
        """
        from sklearn.linear_model import LogisticRegression

        rows = torch.cat([features[m] for m in self.modalities], dim=-1).cpu().numpy()
        weighting = "balanced" if balanced else None
        model = LogisticRegression(C=self.C, max_iter=self.iterations, class_weight=weighting, tol=1e-3)
        weight = np.zeros((self.classifier.out_features, rows.shape[1]))
        bias = np.full(len(weight), NEVER)

        def fit(rows: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Weights and biases of each class that there is; scikit-learn wants two, and of two gives one side."""
            if (label == label[0]).all():
                return np.zeros((1, rows.shape[1])), np.array([-NEVER])
            model.fit(rows, label)
            if len(model.classes_) > 2:
                return model.coef_, model.intercept_
            sides = np.array([[-0.5], [0.5]])
            return sides * model.coef_, sides[:, 0] * model.intercept_

        if task == "single":
            label = truth["label"].cpu().numpy()
            found = np.unique(label)
            weight[found], bias[found] = fit(rows, label)
        else:
            target, mask = truth["target"].cpu().numpy() > 0, truth["mask"].cpu().numpy()
            for k in np.flatnonzero((target & mask).any(axis=0)):
                own_weight, own_bias = fit(rows[mask[:, k]], target[mask[:, k], k])
                weight[k], bias[k] = own_weight[-1] - own_weight[0], own_bias[-1] - own_bias[0]
        with torch.no_grad():
            self.classifier.weight.copy_(torch.from_numpy(weight))
            self.classifier.bias.copy_(torch.from_numpy(bias))

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
        model = LogisticRegression(
            C=self.C, max_iter=self.iterations, class_weight="balanced" if balanced else None, tol=1e-3
        )
        classes = self.classifier.out_features
        weight = np.zeros((classes, rows.shape[1]))
        bias = np.full(classes, NEVER)
        if task == "single":
            model.fit(rows, truth["label"].cpu().numpy())
            if len(model.classes_) == 2:  # scikit-learn keeps the second class's side alone
                weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
                bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
            else:
                weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
        else:
            target, mask = truth["target"].cpu().numpy() > 0, truth["mask"].cpu().numpy()
            for k in range(classes):
                known = mask[:, k]
                if len(np.unique(target[known, k])) == 2:
                    model.fit(rows[known], target[known, k])
                    weight[k], bias[k] = model.coef_[0], model.intercept_[0]
                elif target[known, k].any():
                    bias[k] = -NEVER
        with torch.no_grad():
            self.classifier.weight.copy_(torch.from_numpy(weight))
            self.classifier.bias.copy_(torch.from_numpy(bias))

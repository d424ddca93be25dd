"""The loss of training: one value per run, each with its own class weights (paper: class-balanced cross-entropy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec
from merloco.models.metrics.scores import balanced_weights


class FusionLoss:
    """Cross-entropy of single labels, or binary cross-entropy of every annotated class, averaged over a batch.

    Args:
        runs: The rows and settings of every run; all have the same task.
        device: Where to compute.
    """

    def __init__(self, runs: Sequence[tuple[Dataset, RunSpec]], device: str) -> None:
        self.multi = runs[0][1].config.task == "multi"
        make = _positive_weights if self.multi else _class_weights
        self.weights = torch.from_numpy(np.stack([make(dataset, spec) for dataset, spec in runs])).to(device)

    def __call__(self, logits: Tensor, label: Tensor, target: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
        """Losses (R,).

        Args:
            logits: (R, B, K).
            label: int64 (R, B).
            target: float32 (R, B, K).
            mask: bool (R, B, K), the annotated classes.
            counts: float32 (R, B), 0 for rows that only fill a batch up.
        """
        if self.multi:
            each = functional.binary_cross_entropy_with_logits(
                logits, target, pos_weight=self.weights[:, None], reduction="none"
            )
            counted = mask * counts.unsqueeze(-1)
            return (each * counted).sum((1, 2)) / counted.sum((1, 2))
        annotated = label.clamp(min=0)
        weight = self.weights.gather(1, annotated) * counts
        each = functional.cross_entropy(logits.flatten(0, 1), annotated.flatten(), reduction="none").view_as(weight)
        return (each * weight).sum(1) / weight.sum(1)

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.weights = self.weights[runs]


def _class_weights(dataset: Dataset, spec: RunSpec) -> np.ndarray:
    classes = len(dataset.classes)
    if spec.config.loss == "plain":
        return np.ones(classes, dtype=np.float32)
    return balanced_weights(dataset.label[spec.train_rows], classes)


def _positive_weights(dataset: Dataset, spec: RunSpec) -> np.ndarray:
    """Negative over positive rows of every class, among the training rows whose corpus annotates it."""
    if spec.config.loss == "plain":
        return np.ones(len(dataset.classes), dtype=np.float32)
    mask, target = dataset.mask[spec.train_rows], dataset.target[spec.train_rows]
    positive = (target * mask).sum(0)
    return np.where(positive > 0, (mask.sum(0) - positive) / np.maximum(positive, 1), 1.0).astype(np.float32)

"""Losses of a stack: one value per run, each with its own class weights (paper: class-balanced cross-entropy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.data import Dataset
from models.metrics import balanced_weights
from models.spec import RunSpec


class Losses:
    """Cross-entropy of single labels, or binary cross-entropy of every annotated class, averaged over a batch.

    Args:
        runs: The rows and settings of every run; all have the same task.
        device: Where to compute.
    """

    def __init__(self, runs: Sequence[tuple[Dataset, RunSpec]], device: str) -> None:
        self.multi = runs[0][1].config.task == "multi"
        make = _positive_weights if self.multi else _class_weights
        self.weights = torch.from_numpy(np.stack([make(dataset, spec) for dataset, spec in runs])).to(device)

    def __call__(
        self, logits: Tensor, label: Tensor, target: Tensor, mask: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses (R,), and the gradient of each with regard to its logits (R, B, K).

        Args:
            logits: (R, B, K).
            label: int64 (R, B).
            target: float32 (R, B, K).
            mask: bool (R, B, K), the annotated classes.
            counts: float32 (R, B), 0 for rows that only fill a batch up.
        """
        if self.multi:
            positive = self.weights[:, None]
            each = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=positive, reduction="none")
            counted = mask * counts.unsqueeze(-1)
            share = counted / counted.sum((1, 2), keepdim=True)
            slope = torch.sigmoid(logits) * (1 + (positive - 1) * target) - positive * target
            return (each * share).sum((1, 2)), slope * share
        chosen = label.clamp(min=0)
        logs = torch.log_softmax(logits, dim=-1)
        weight = self.weights.gather(1, chosen) * counts
        share = weight / weight.sum(1, keepdim=True)
        losses = -(logs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1) * share).sum(1)
        slope = logs.exp_().scatter_add_(-1, chosen.unsqueeze(-1), -torch.ones_like(logits[..., :1]))
        return losses, slope.mul_(share.unsqueeze(-1))

    def keep(self, runs: Sequence[int]) -> None:
        """Drop all runs but these."""
        self.weights = self.weights[list(runs)]


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

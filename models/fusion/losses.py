"""The loss of training: one value per run, each with its own class weights (paper: class-balanced cross-entropy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from merloco.models.errors import ModelError
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

    def __call__(
        self, logits: Tensor, label: Tensor, target: Tensor, mask: Tensor, counts: Tensor, corpus: Tensor | None = None
    ) -> Tensor:
        """Losses (R,).

        Args:
            logits: (R, B, K).
            label: int64 (R, B).
            target: float32 (R, B, K).
            mask: bool (R, B, K), the annotated classes.
            counts: float32 (R, B), 0 for rows that only fill a batch up.
            corpus: int64 (R, B); this loss does not tell corpora apart.
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


class TargetLoss:
    """Cross-entropy with a distribution over the classes as the truth: smoothed labels, shares of several, mixed rows.

    The weight of a class may be that within the row's corpus, and classes that the corpus does not annotate may be left
    out of the softmax. With one label and none of this it is `FusionLoss`.

    Args:
        runs: The rows and settings of every run.
        corpora: Names of the corpora that the rows are of.
        device: Where to compute.
    """

    def __init__(self, runs: Sequence[tuple[Dataset, RunSpec]], corpora: Sequence[str], device: str) -> None:
        config = runs[0][1].config
        self.smoothing, self.masked = config.label_smoothing, config.mask_unannotated
        weights = np.stack([_weights_by_corpus(dataset, spec, corpora) for dataset, spec in runs])
        self.weights = torch.from_numpy(weights).to(device)
        """(R, corpora, K)."""

    def __call__(
        self,
        logits: Tensor,
        label: Tensor,
        target: Tensor,
        mask: Tensor,
        corpus: Tensor,
        counts: Tensor,
        share: Tensor | None = None,
        **partner: Tensor,
    ) -> Tensor:
        """Losses (R,).

        Args:
            logits: (R, B, K).
            label: int64 (R, B), -1 for a row without a single one.
            target: float32 (R, B, K).
            mask: bool (R, B, K), the annotated classes.
            corpus: int64 (R, B).
            counts: float32 (R, B), 0 for rows that only fill a batch up.
            share: float32 (R, B, 1): how much of a row is its own, the rest its partner's; None: all.
            partner: The four of the row that it is mixed with, as `partner_label` and so on.
        """
        truth = self._weighted(label, target, mask, corpus)
        seen = mask
        if share is not None:
            other = {name.removeprefix("partner_"): values for name, values in partner.items()}
            truth = share * truth + (1 - share) * self._weighted(**other)
            seen = mask | other["mask"]
        if self.masked:
            logits = logits.masked_fill(~seen, -1e9)
        truth = truth * counts.unsqueeze(-1)
        return -(truth * torch.log_softmax(logits, dim=-1)).sum((1, 2)) / truth.sum((1, 2))

    def _weighted(self, label: Tensor, target: Tensor, mask: Tensor, corpus: Tensor) -> Tensor:
        """The distribution of each row, every class times its weight in the row's corpus, (R, B, K)."""
        classes = target.shape[-1]
        single = functional.one_hot(label.clamp(min=0), classes).to(target.dtype)
        shares = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
        truth = torch.where((label >= 0).unsqueeze(-1), single, shares)
        if self.smoothing:
            spread = mask.to(target.dtype) / mask.sum(-1, keepdim=True).clamp(min=1)
            truth = (1 - self.smoothing) * truth + self.smoothing * spread
        run = torch.arange(len(label), device=label.device)[:, None]
        return truth * self.weights[run, corpus]

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.weights = self.weights[runs]


def make_loss(runs: Sequence[tuple[Dataset, RunSpec]], corpora: Sequence[str], device: str) -> FusionLoss | TargetLoss:
    """The loss that the settings ask for: the published one unless they need a truth that is no single label.

    Raises:
        ModelError: Settings of single labels are asked for several at once.
    """
    config = runs[0][1].config
    asked = [
        *(name for name in ("label_smoothing", "mask_unannotated", "soft_targets", "mixup") if getattr(config, name)),
        *(["balance"] if config.balance != "pooled" else []),
    ]
    if asked and config.task == "multi":
        raise ModelError(f"{' and '.join(asked)}: expected a run of single labels, this one has several at once")
    return TargetLoss(runs, corpora, device) if asked else FusionLoss(runs, device)


def _weights_by_corpus(dataset: Dataset, spec: RunSpec, corpora: Sequence[str]) -> np.ndarray:
    """Weights of the classes in each corpus, float32 (corpora, K): the same in all unless each is balanced by itself.

    Where each is, a corpus weighs as much as it has rows. A row of several labels counts by its shares.
    """
    rows, classes = spec.train_rows, len(dataset.classes)
    shares = dataset.target[rows] / np.maximum(dataset.target[rows].sum(axis=1, keepdims=True), 1e-6)
    single = dataset.label[rows] >= 0
    shares[single] = np.eye(classes, dtype=np.float32)[dataset.label[rows][single]]
    if spec.config.loss == "plain":
        return np.ones((len(corpora), classes), dtype=np.float32)
    if spec.config.balance == "pooled":
        return np.tile(_inverse(shares), (len(corpora), 1))
    return np.stack([_inverse(shares[dataset.corpus[rows] == name]) for name in corpora])


def _inverse(shares: np.ndarray) -> np.ndarray:
    """Rows over (classes that there are times rows of the class); 0 for a class that there is not."""
    counts = shares.sum(axis=0)
    there = counts > 0
    return np.where(there, counts.sum() / (max(there.sum(), 1) * np.where(there, counts, 1)), 0).astype(np.float32)


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

"""Metrics on the classes that a corpus annotates; a class without a true row has no recall and is named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from merloco.models.fusion.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Scores:
    """Single-label scores; NaN where undefined."""

    n: int
    accuracy: float
    uar: float
    """Mean recall over the annotated classes that have true rows."""
    published_uar: float
    """As the published code has it: a class that is predicted and has no true row counts with recall 0."""
    macro_f1: float
    weighted_f1: float
    recall: dict[str, float]
    """Annotated class -> recall; NaN for a class without true rows."""
    support: dict[str, int]

    @property
    def absent(self) -> tuple[str, ...]:
        """Annotated classes without a true row."""
        return tuple(name for name, count in self.support.items() if count == 0)


def masked_prediction(probabilities: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Most probable class of each row among the classes that its corpus annotates.

    Args:
        probabilities: float (n, K).
        mask: bool (K,) or (n, K).
    """
    return np.asarray(np.where(mask, probabilities, -np.inf).argmax(axis=1))


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """Counts (K, K): rows are the truth, columns the prediction."""
    return np.bincount(truth * classes + prediction, minlength=classes * classes).reshape(classes, classes)


def score(
    truth: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...], mask: np.ndarray | None = None
) -> Scores:
    """Score predictions.

    Args:
        truth: int (n,), indices into `classes`.
        prediction: int (n,).
        classes: All class names.
        mask: bool (K,): classes that the corpus annotates; None means all.
    """
    matrix = confusion(truth, prediction, len(classes)).astype(np.float64)
    support, predicted, hits = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    annotated = np.ones(len(classes), dtype=bool) if mask is None else mask
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(support > 0, hits / support, np.nan)
        f1 = np.where(support + predicted > 0, 2 * hits / (support + predicted), 0.0)
    there = annotated & (support > 0)
    n = int(support.sum())
    return Scores(
        n=n,
        accuracy=float(hits.sum() / n) if n else float("nan"),
        uar=float(recall[there].mean()) if there.any() else float("nan"),
        published_uar=float(np.nan_to_num(recall[support + predicted > 0]).mean()) if n else float("nan"),
        macro_f1=float(f1[there].mean()) if there.any() else float("nan"),
        weighted_f1=float((f1 * support).sum() / n) if n else float("nan"),
        recall={name: float(recall[i]) for i, name in enumerate(classes) if annotated[i]},
        support={name: int(support[i]) for i, name in enumerate(classes) if annotated[i]},
    )


def majority(train: np.ndarray, truth: np.ndarray, classes: tuple[str, ...], mask: np.ndarray) -> Scores:
    """Scores of always saying the most frequent training class that the tested corpus annotates."""
    counts = np.bincount(train, minlength=len(classes))
    most = int(np.where(mask, counts, -1).argmax())
    return score(truth, np.full(len(truth), most), classes, mask)


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class weights n / (K * count) over the classes that occur; a class without rows weighs nothing.

    Args:
        labels: int (n,).
        classes: K.

    Returns:
        float32 (K,).
    """
    counts = np.bincount(labels, minlength=classes)
    occurring = (counts > 0).sum()
    return np.where(counts > 0, len(labels) / (occurring * np.maximum(counts, 1)), 0.0).astype(np.float32)


def validation_score(
    dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray, task: str = "single", pooled: bool = False
) -> float:
    """What early stopping watches: the mean over the corpora of the rows of their UAR on the classes they annotate.

    Args:
        dataset: All rows.
        rows: (n,) indices of the validation rows.
        probabilities: float (n, K).
        task: `single`, or `multi`, where the UAR of a class is that of its two sides, present and absent (wAcc).
        pooled: The UAR of all rows together instead, each predicted among the classes of its corpus (`single` only).
    """
    if pooled and task == "single":
        prediction = masked_prediction(probabilities, dataset.mask[rows])
        return score(dataset.label[rows], prediction, dataset.classes, dataset.mask[rows].any(axis=0)).uar
    scores = []
    for corpus in sorted(set(dataset.corpus[rows])):
        here = dataset.corpus[rows] == corpus
        mask = dataset.mask[rows][here][0]
        if task == "multi":
            scores.append(_two_sided(dataset.target[rows][here], probabilities[here], mask))
        else:
            prediction = masked_prediction(probabilities[here], mask)
            scores.append(score(dataset.label[rows][here], prediction, dataset.classes, mask).uar)
    return float(np.mean(scores))


def _two_sided(target: np.ndarray, probabilities: np.ndarray, mask: np.ndarray) -> float:
    """Mean over the annotated classes that have both sides of the mean recall of the two."""
    truth, said = target[:, mask] > 0, probabilities[:, mask] > 0.5
    positive, negative = truth.sum(0), (~truth).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = ((truth & said).sum(0) / positive + (~truth & ~said).sum(0) / negative) / 2
    return float(np.nanmean(both)) if np.isfinite(both).any() else float("nan")

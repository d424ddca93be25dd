"""Multi-label metrics (CMU-MOSEI: any number of emotions per utterance), named and averaged explicitly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from merloco.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class MultiScores:
    """Multi-label scores; NaN where undefined. Dictionaries go from class to value."""

    n: int
    accuracy: float
    """Mean Jaccard index of the true and the predicted set; two empty sets agree, which counts 1."""
    f1: float
    """Mean Dice coefficient of the two sets; two empty sets count 1."""
    wacc: float
    """Mean weighted accuracy over the `defined` classes."""
    defined: int
    """Classes that have both positive and negative rows: the others have no weighted accuracy."""
    uar: float
    """Mean recall over the classes that have positive rows."""
    weighted_f1: float
    """Mean over the classes of the support-weighted F1 of present and absent."""
    class_wacc: dict[str, float]
    class_recall: dict[str, float]
    class_weighted_f1: dict[str, float]
    support: dict[str, int]
    """Positive rows."""

    @property
    def undefined(self) -> tuple[str, ...]:
        """Classes without a weighted accuracy."""
        return tuple(name for name, value in self.class_wacc.items() if value != value)


def score_multi(
    truth: np.ndarray, prediction: np.ndarray, classes: tuple[str, ...], mask: np.ndarray | None = None
) -> MultiScores:
    """Score multi-label predictions as the paper does (its Tables 1 and 5, MOSEI).

    Args:
        truth: bool or 0/1 (n, K).
        prediction: bool or 0/1 (n, K).
        classes: All class names, K.
        mask: bool (K,): classes that the corpus annotates; the others are left out everywhere. None means all.

    Raises:
        ModelError: The shapes do not fit.
    """
    expected = (len(truth), len(classes))
    if truth.shape != expected or prediction.shape != expected:
        raise ModelError(
            f"multi-label arrays of shapes {truth.shape} and {prediction.shape}: expected {expected} twice"
        )
    annotated = np.ones(len(classes), dtype=bool) if mask is None else mask
    t, p = truth[:, annotated].astype(bool), prediction[:, annotated].astype(bool)
    names = [name for name, kept in zip(classes, annotated, strict=True) if kept]
    n = len(t)
    positive, said = t.sum(axis=0), p.sum(axis=0)
    hits = (t & p).sum(axis=0)
    negative, rejected = n - positive, n - positive - said + hits
    recall, specificity = _ratio(hits, positive), _ratio(rejected, negative)
    wacc = (recall + specificity) / 2
    f1_present = _ratio(2 * hits, positive + said, empty=0.0)
    f1_absent = _ratio(2 * rejected, negative + n - said, empty=0.0)
    weighted = _ratio(f1_present * positive + f1_absent * negative, np.full(len(names), n))
    both, either = (t & p).sum(axis=1), (t | p).sum(axis=1)

    def by_class(values: np.ndarray) -> dict[str, float]:
        return dict(zip(names, values.astype(float).tolist(), strict=True))

    return MultiScores(
        n=n,
        accuracy=_mean(_ratio(both, either, empty=1.0)),
        f1=_mean(_ratio(2 * both, t.sum(axis=1) + p.sum(axis=1), empty=1.0)),
        wacc=_mean(wacc),
        defined=int((~np.isnan(wacc)).sum()),
        uar=_mean(recall),
        weighted_f1=_mean(weighted),
        class_wacc=by_class(wacc),
        class_recall=by_class(recall),
        class_weighted_f1=by_class(weighted),
        support={name: int(count) for name, count in zip(names, positive, strict=True)},
    )


def _ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Element by element, `empty` where the denominator is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), empty)


def _mean(values: np.ndarray) -> float:
    """Mean of the defined values, NaN where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")

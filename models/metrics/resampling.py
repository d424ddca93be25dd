"""Bootstrap intervals and paired permutation tests on confusion counts: rows are never copied, only counted.

Rows that agree in truth and in every prediction are exchangeable, so a resample of n rows is one multinomial draw over
the patterns that occur, and a permutation is one binomial draw per pattern. Whole dialogues are drawn the same way,
each with its own counts, because utterances of a dialogue share speakers, scene and topic and are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.metrics.scores import confusion

METRICS = ("uar", "macro_f1", "weighted_f1", "accuracy")
CHUNK = 500
"""Resamples that are drawn at once: bounds the memory of a draw over thousands of dialogues."""
ROUNDING = 1e-12
"""Two scores that differ by less are equal: the same sum in another order."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and its percentile interval; NaN where undefined."""

    value: float
    low: float
    high: float


def class_recall(counts: np.ndarray) -> np.ndarray:
    """Recall per class of confusion counts (..., K, K), rows the truth: (..., K), NaN for a class without rows."""
    support = counts.sum(axis=-1)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.where(support > 0, hits / np.where(support > 0, support, 1), np.nan)


def metric_values(counts: np.ndarray, metric: str) -> np.ndarray:
    """A score of each of many confusion matrices, defined as in `merloco.models.metrics.scores.score`.

    Args:
        counts: (..., K, K), rows the truth, columns the prediction.
        metric: One of `METRICS`.

    Returns:
        float (...); UAR and macro F1 average the classes that have true rows in that very matrix. A resample that
        misses a rare class thus averages the others: intervals cover better than where such resamples are discarded.

    Raises:
        ModelError: The metric is unknown.
    """
    support, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    n = support.sum(axis=-1)
    there = support > 0
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    if metric == "uar":
        total, weight = np.where(there, hits / np.maximum(support, 1), 0.0).sum(axis=-1), there.sum(axis=-1)
    elif metric == "macro_f1":
        total, weight = np.where(there, f1, 0.0).sum(axis=-1), there.sum(axis=-1)
    elif metric == "weighted_f1":
        total, weight = (f1 * support).sum(axis=-1), n
    elif metric == "accuracy":
        total, weight = hits.sum(axis=-1), n
    else:
        raise ModelError(f"unknown metric {metric!r}: known: {', '.join(METRICS)}")
    return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


@dataclass(frozen=True, slots=True)
class _Units:
    """What is drawn: patterns of single rows, or dialogues; S runs, U units."""

    repeats: np.ndarray
    """int (U,): how many exchangeable rows are of this pattern; 1 for a dialogue."""
    counts: np.ndarray
    """float (S, U, K * K): confusion counts that one of them adds to each run."""


def _units(truth: np.ndarray, predictions: np.ndarray, classes: int, groups: np.ndarray | None) -> _Units:
    if len(truth) == 0:
        raise ModelError("no rows to resample: expected at least one scored row")
    cells = truth * classes + predictions
    if groups is None:
        pattern = truth
        for row in predictions:
            pattern = np.unique(pattern * classes + row, return_inverse=True)[1]
        _, first, repeats = np.unique(pattern, return_index=True, return_counts=True)
        return _Units(repeats, np.eye(classes * classes)[cells[:, first]])
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ModelError("all rows are of one dialogue: dialogues cannot be resampled, expected two or more")
    counts = np.zeros((len(predictions), len(names), classes * classes))
    for run, row in enumerate(cells):
        np.add.at(counts[run], (group, row), 1)
    return _Units(np.ones(len(names), dtype=np.int64), counts)


def _chunks(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Confusion counts as observed and in every resample: S runs on the same rows, R resamples, K classes."""

    observed: np.ndarray
    """float (S, K, K)."""
    drawn: np.ndarray
    """float (S, R, K, K): one resample is the same rows for every run."""
    units: int
    """Utterances or dialogues that are drawn."""

    def interval(self, metric: str, run: int | None = None, level: float = 0.95) -> Interval:
        """Interval of one run's score, or of the mean score over the runs (for example over seeds)."""
        chosen = slice(None) if run is None else slice(run, run + 1)
        value = metric_values(self.observed[chosen], metric).mean(axis=0)
        return _percentile(value, metric_values(self.drawn[chosen], metric).mean(axis=0), level)

    def difference(self, metric: str, level: float = 0.95) -> Interval:
        """Interval of the first run's score minus the second run's, on the same rows."""
        first, second = metric_values(self.observed[:2], metric)
        drawn = metric_values(self.drawn[:2], metric)
        return _percentile(first - second, drawn[0] - drawn[1], level)

    def recall(self, level: float = 0.95) -> list[Interval]:
        """Interval of each class's recall, averaged over the runs; NaN for a class without rows."""
        values = class_recall(self.observed).mean(axis=0)
        drawn = class_recall(self.drawn).mean(axis=0)
        return [_percentile(value, drawn[:, k], level) for k, value in enumerate(values)]


def _percentile(value: float, drawn: np.ndarray, level: float) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def bootstrap(
    truth: np.ndarray,
    predictions: np.ndarray,
    classes: int,
    groups: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Bootstrap:
    """Resample utterances, or whole dialogues, with replacement: percentile bootstrap (Davison & Hinkley 1997).

    Args:
        truth: int (n,).
        predictions: int (n,), or (S, n) for S runs on the same rows, which are resampled together.
        classes: K.
        groups: (n,), the dialogue of each row; None resamples utterances.
        resamples: R.
        seed: Of the draws; the same seed gives the same intervals.

    Raises:
        ModelError: There is no row, or only one dialogue.
    """
    predictions = np.atleast_2d(predictions)
    units = _units(truth, predictions, classes, groups)
    generator = np.random.default_rng(seed)
    n = int(units.repeats.sum())
    drawn = np.empty((len(predictions), resamples, classes * classes))
    done = 0
    for size in _chunks(resamples):
        weights = generator.multinomial(n, units.repeats / n, size=size).astype(np.float64)
        drawn[:, done : done + size] = weights @ units.counts
        done += size
    shape = (classes, classes)
    observed = np.stack([confusion(truth, row, classes) for row in predictions]).astype(np.float64)
    return Bootstrap(observed, drawn.reshape(*drawn.shape[:2], *shape), n)


def permutation_test(
    truth: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    classes: int,
    metrics: Sequence[str] = METRICS,
    groups: np.ndarray | None = None,
    permutations: int = 10000,
    seed: int = 0,
) -> dict[str, float]:
    """Two-sided paired permutation test that two runs score the same: their predictions are swapped at random.

    Under the null hypothesis it does not matter which run said what, so each utterance's (or each dialogue's) two
    predictions may change places. The observed assignment is one of those counted, so p is never 0 and the test keeps
    its level (Phipson & Smyth 2010).

    Args:
        truth: int (n,).
        first: int (n,).
        second: int (n,), on the same rows.
        classes: K.
        metrics: Scores whose differences are tested, all with the same permutations.
        groups: (n,), the dialogue of each row, which is swapped as a whole; None swaps utterances.
        permutations: Random swaps.
        seed: Of the swaps.

    Returns:
        Metric -> p.

    Raises:
        ModelError: There is no row, only one dialogue, or a metric is unknown.
    """
    units = _units(truth, np.stack([first, second]), classes, groups)
    change = units.counts[1] - units.counts[0]
    generator = np.random.default_rng(seed)
    totals = (units.repeats @ units.counts).reshape(2, classes, classes)

    observed = {metric: _distance(totals, metric) for metric in metrics}
    extreme = dict.fromkeys(metrics, 0)
    for size in _chunks(permutations):
        swapped = generator.binomial(units.repeats, 0.5, size=(size, len(units.repeats))) @ change
        shift = swapped.reshape(size, classes, classes)
        pair = np.stack([totals[0] + shift, totals[1] - shift])
        for metric in metrics:
            extreme[metric] += int((_distance(pair, metric) >= observed[metric] - ROUNDING).sum())
    return {metric: (1 + count) / (1 + permutations) for metric, count in extreme.items()}


def _distance(pair: np.ndarray, metric: str) -> np.ndarray:
    """How far the scores of two runs lie apart; `pair` is (2, ..., K, K)."""
    first, second = metric_values(pair, metric)
    return np.asarray(np.abs(first - second))

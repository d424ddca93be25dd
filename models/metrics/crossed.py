"""Differences of systems that were trained with several seeds and tested on the same utterances.

Seeds and utterances are both samples: another seed gives other weights, another test part other utterances. A test that
resamples utterances alone finds two seeds of one setting different. Readers who read the same cases are the same
problem, so the variance is that of multi-reader studies (Obuchowski & Rockette 1995), with seeds for readers and
dialogues for cases: a mean difference over S seeds varies by

    var_s(d_s) / S + max(cov, 0)

where d_s is the difference with seed s, and cov how the d_s of two seeds vary together because they are measured on the
same utterances: a jackknife over dialogues (or utterances) gives it. The critical value is Cochran & Cox's (1950): each
part's quantile of Student's t, S - 1 degrees of freedom for the seeds and U - 1 for U dialogues, weighted by the
variances. It is on the safe side where one degree of freedom for both (Satterthwaite; Hillis 2007) finds equal systems
different too often with two or three seeds. Seeds are taken as pairs, which holds whether or not a seed means the same
to both systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.metrics.resampling import ROUNDING, class_recall, metric_values


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean over seeds with its interval and the p of the null hypothesis that it is 0; NaN where undefined."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """What every dialogue (or utterance) adds to the confusion counts of every run on one fold."""

    units: np.ndarray
    """str (U,): names of dialogues or utterances."""
    counts: np.ndarray
    """float (k, S, U, K, K): of k systems with S seeds; rows are the truth, columns the prediction."""


@dataclass(frozen=True, slots=True)
class SystemScores:
    """One score of k systems with S seeds each, and what it owes to every unit that it was measured on."""

    values: np.ndarray
    """float (k, S)."""
    influence: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Corpus -> (names (U,), jackknife deviations (k, S, U)): the products of two runs' add up to their covariance."""

    def seeds(self, chosen: Sequence[int]) -> SystemScores:
        """The same for some of the seeds, by position."""
        places = list(chosen)
        influence = {corpus: (names, moved[:, places]) for corpus, (names, moved) in self.influence.items()}
        return SystemScores(self.values[:, places], influence)

    def difference(self, first: int, second: int, level: float = 0.95) -> Difference:
        """Of two systems' mean scores over the seeds: first minus second."""
        moved = [influence[first] - influence[second] for _, influence in self.influence.values()]
        return crossed_mean(self.values[first] - self.values[second], moved, level)


def count_units(truth: np.ndarray, predictions: np.ndarray, classes: int, units: np.ndarray) -> UnitCounts:
    """Count what each unit adds.

    Args:
        truth: int (n,).
        predictions: int (k, S, n): of k systems with S seeds each, on the same rows.
        classes: K.
        units: str (n,): the dialogue of each row, or a name of its own where utterances are the units.

    Raises:
        ModelError: There is no row.
    """
    if len(truth) == 0:
        raise ModelError("no rows to compare: expected at least one scored row")
    names, unit = np.unique(units, return_inverse=True)
    systems, seeds, _ = predictions.shape
    counts = np.zeros((systems * seeds, len(names), classes * classes))
    for run, predicted in enumerate(predictions.reshape(systems * seeds, -1)):
        np.add.at(counts[run], (unit, truth * classes + predicted), 1)
    return UnitCounts(names, counts.reshape(systems, seeds, len(names), classes, classes))


def jackknife(counted: UnitCounts, corpus: str, metric: str) -> SystemScores:
    """A score of every run, and its jackknife over the units.

    Args:
        counted: Of one fold.
        corpus: Whose utterances they are: folds that share it are not independent.
        metric: One of `merloco.models.metrics.resampling.METRICS`.
    """
    total = counted.counts.sum(axis=2)
    without = metric_values(total[:, :, None] - counted.counts, metric)
    return SystemScores(metric_values(total, metric), {corpus: (counted.units, _deviations(without))})


def recall_jackknife(counted: UnitCounts, corpus: str, label: int) -> SystemScores | None:
    """The same for the recall of one class, over the units that have true rows of it; None where none has."""
    holds = counted.counts[0, 0, :, label].sum(axis=-1) > 0
    if not holds.any():
        return None
    counts = counted.counts[:, :, holds]
    total = counts.sum(axis=2)
    without = class_recall(total[:, :, None] - counts)[..., label]
    influence = {corpus: (counted.units[holds], _deviations(without))}
    return SystemScores(class_recall(total)[..., label], influence)


def _deviations(without: np.ndarray) -> np.ndarray:
    """Scores without each unit (..., U) -> deviations whose squares add up to the jackknife's variance."""
    units = without.shape[-1]
    return np.asarray(np.sqrt((units - 1) / units) * (without - without.mean(axis=-1, keepdims=True)))


def mean_scores(folds: Sequence[SystemScores]) -> SystemScores:
    """The mean over folds with the same systems and seeds; folds of one corpus share its utterances."""
    influence: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for corpus in dict.fromkeys(name for fold in folds for name in fold.influence):
        parts = [fold.influence[corpus] for fold in folds if corpus in fold.influence]
        names = np.unique(np.concatenate([part for part, _ in parts]))
        moved = np.zeros((*folds[0].values.shape, len(names)))
        for part, deviations in parts:
            moved[..., np.searchsorted(names, part)] += deviations / len(folds)
        influence[corpus] = names, moved
    return SystemScores(np.mean([fold.values for fold in folds], axis=0), influence)


def crossed_mean(values: np.ndarray, influence: Sequence[np.ndarray], level: float = 0.95) -> Difference:
    """Test a mean over seeds against 0, with seeds and units as crossed random factors (see the module).

    Args:
        values: float (S,): one per seed. A single one is tested for its utterances alone.
        influence: float (S, U) per corpus: jackknife deviations of the values.
        level: Of the interval.

    Returns:
        NaN for interval and p where a corpus has a single unit. A difference that is the same whichever unit or seed
        is left out has no standard error and no interval: p is 1 where it is 0, else the smallest that swapping units
        could give.
    """
    seeds, mean = len(values), float(values.mean())
    variances = [_shared_variance(moved) for moved in influence]
    freedom = [moved.shape[-1] - 1 for moved in influence]
    if min(freedom) < 1 or np.isnan(variances).any():
        return Difference(mean, *[float("nan")] * 3)
    if seeds > 1:
        variances.append(float(values.var(ddof=1)) / seeds)
        freedom.append(seeds - 1)
    error = float(np.sqrt(sum(variances)))
    if error < ROUNDING:
        units = sum(moved.shape[-1] for moved in influence)
        p = 1.0 if abs(mean) < ROUNDING else max(2.0 ** (1 - units), TINY)
        return Difference(mean, float("nan"), float("nan"), p)
    critical = _CriticalValue(np.array(variances) / sum(variances), np.array(freedom))
    half = critical.at(1 - level) * error
    return Difference(mean, mean - half, mean + half, critical.p(abs(mean) / error))


@dataclass(frozen=True, slots=True)
class _CriticalValue:
    """Two-sided critical values of Cochran & Cox: quantiles of t, weighted by the parts of a variance."""

    weights: np.ndarray
    freedom: np.ndarray

    def at(self, p: float) -> float:
        from scipy.special import stdtrit

        return float(-self.weights @ stdtrit(self.freedom, p / 2))

    def p(self, t: float) -> float:
        """The level whose critical value is `t`: it lies between those of the parts alone."""
        from scipy.optimize import brentq
        from scipy.special import stdtr

        alone = np.maximum(2 * stdtr(self.freedom, -t), TINY)
        low, high = (float(end) for end in np.log([alone.min(), alone.max()]))

        def above(log_p: float) -> float:
            return self.at(np.exp(log_p)) - t

        if above(low) <= 0 or above(high) >= 0:  # the parts agree, but for rounding
            return float(np.exp(low if above(low) <= 0 else high))
        return float(np.exp(brentq(above, low, high)))


TINY = 1e-200
"""Smaller p values are given as this."""


def _shared_variance(moved: np.ndarray) -> float:
    """Mean covariance of two seeds, not below 0; the variance where there is one seed."""
    seeds = len(moved)
    each = float((moved**2).sum())
    if seeds == 1:
        return each
    together = float((moved.sum(axis=0) ** 2).sum())
    return max((together - each) / (seeds * (seeds - 1)), 0.0) if not np.isnan(together) else float("nan")

"""Systems compared: differences on every fold and on their mean, by class, and a ranking with groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from merloco.flows.results.pairing import By, PairedFold, pair_systems
from merloco.flows.results.systems import System
from merloco.models.metrics.crossed import Difference, SystemScores, jackknife, mean_scores, recall_jackknife
from merloco.models.metrics.statistics import holm, letter_groups, mean_std
from merloco.pipelines.errors import DataError

ALPHA = 0.05
"""Above this, two systems of a ranking share a group."""


@dataclass(frozen=True, slots=True)
class SystemDifference:
    """One score of two systems on one fold, or on the mean of several."""

    fold: PairedFold | None
    """None: the mean over the folds."""
    metric: str
    """A score, or `recall` of a class."""
    label: str | None
    """The class; None for a score over all."""
    seeds: int
    first: tuple[float, float]
    """Mean and STD over the seeds."""
    second: tuple[float, float]
    difference: Difference
    """First minus second."""
    p_holm: float
    """Corrected over the scores of the table; NaN for a recall, which has its interval alone."""


@dataclass(frozen=True, slots=True)
class RankedSystem:
    """A system's place among several, by its mean score over their common folds and seeds."""

    system: str
    metric: str
    rank: int
    """1 is the best."""
    group: str
    """Systems that share a letter do not differ at `ALPHA`."""
    seeds: int
    score: tuple[float, float]
    """Mean and STD over the seeds."""
    by_fold: tuple[float, ...]
    """Mean over the seeds on each fold."""
    to_best: Difference
    """The best system's score minus this one's."""
    p_holm: float
    """Of the difference to the best, corrected over all pairs; NaN for the best."""
    equals: tuple[str, ...]
    """Systems that it is not found to differ from."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two systems come to."""

    folds: list[PairedFold]
    scores: list[SystemDifference]
    recalls: list[SystemDifference]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What several systems come to."""

    folds: list[PairedFold]
    systems: list[RankedSystem]
    notes: list[str]


def compare_systems(systems: Sequence[System], metrics: Sequence[str] = ("uar",), by: By | None = None) -> Comparison:
    """Compare two systems over the folds, seeds and utterances that both have (see `merloco.models.metrics.crossed`).

    Args:
        systems: Two.
        metrics: Names of `merloco.models.metrics.resampling.METRICS`.
        by: See `pair_systems`.

    Raises:
        DataError: See `pair_systems`.
    """
    folds, notes = pair_systems(systems, by)
    scores = [row for metric in metrics for row in _differences(folds, _scores(folds, metric), metric)]
    labels = list(dict.fromkeys(label for fold in folds for label in fold.classes))
    recalls = [row for label in labels for row in _differences(folds, _recalls(folds, label), "recall", label)]
    corrected = holm([row.difference.p for row in scores])
    scores = [replace(row, p_holm=float(p)) for row, p in zip(scores, corrected, strict=True)]
    order = {id(fold): place for place, fold in enumerate(folds)}
    scores.sort(key=lambda row: order.get(id(row.fold), len(folds)))
    if len(folds) > 1 and _common_seeds(folds) is None:
        notes.append("no mean over the folds: they have no seed in common")
    return Comparison(folds, scores, recalls, notes)


def _scores(folds: Sequence[PairedFold], metric: str) -> list[SystemScores | None]:
    return [jackknife(fold.counted, fold.corpus, metric) for fold in folds]


def _recalls(folds: Sequence[PairedFold], label: str) -> list[SystemScores | None]:
    """Per fold; None where it has no true row of the class."""
    return [
        recall_jackknife(fold.counted, fold.corpus, fold.classes.index(label)) if label in fold.classes else None
        for fold in folds
    ]


def _differences(
    folds: Sequence[PairedFold], scores: Sequence[SystemScores | None], metric: str, label: str | None = None
) -> Iterator[SystemDifference]:
    """A row per fold that has the score, and one for their mean where there are several."""
    there = [(fold, score) for fold, score in zip(folds, scores, strict=True) if score is not None]
    rows: list[tuple[PairedFold | None, SystemScores]] = [*there]
    mean = _mean([fold for fold, _ in there], [score for _, score in there])
    if len(there) > 1 and mean is not None:
        rows.append((None, mean))
    for place, score in rows:
        first, second = (mean_std(values) for values in score.values)
        difference = score.difference(0, 1)
        yield SystemDifference(
            place, metric, label, score.values.shape[1], first, second, difference, p_holm=float("nan")
        )


def _mean(folds: Sequence[PairedFold], scores: Sequence[SystemScores]) -> SystemScores | None:
    """The mean over folds, with the seeds that all of them have; None where there is no such seed."""
    seeds = _common_seeds(folds)
    if not seeds:
        return None
    return mean_scores(
        [score.seeds([fold.seeds.index(seed) for seed in seeds]) for fold, score in zip(folds, scores, strict=True)]
    )


def _common_seeds(folds: Sequence[PairedFold]) -> list[int | None] | None:
    shared = [seed for seed in folds[0].seeds if all(seed in fold.seeds for fold in folds)] if folds else []
    return shared or None


def rank_systems(systems: Sequence[System], metrics: Sequence[str] = ("uar",), by: By | None = None) -> Ranking:
    """Rank systems by their mean score over the folds and seeds that all have, with groups that do not differ.

    Every pair is tested as `compare_systems` tests the mean, with Holm's correction over the pairs of a score; the
    groups are a compact letter display.

    Args:
        systems: Two or more.
        metrics: Names of `merloco.models.metrics.resampling.METRICS`, each with a ranking of its own.
        by: See `pair_systems`.

    Raises:
        DataError: See `pair_systems`; or the folds have no seed in common.
    """
    folds, notes = pair_systems(systems, by)
    return Ranking(folds, [row for metric in metrics for row in _ranked(systems, folds, metric)], notes)


def _ranked(systems: Sequence[System], folds: Sequence[PairedFold], metric: str) -> Iterator[RankedSystem]:
    scores = [jackknife(fold.counted, fold.corpus, metric) for fold in folds]
    mean = _mean(folds, scores)
    if mean is None:
        raise DataError("no ranking: the folds have no seed in common, so that there is no mean over them")
    order = np.argsort(-mean.values.mean(axis=1), kind="stable").tolist()
    pairs = list(combinations(range(len(order)), 2))
    found = {pair: mean.difference(order[pair[0]], order[pair[1]]) for pair in pairs}
    corrected = dict(zip(pairs, holm([found[pair].p for pair in pairs]).tolist(), strict=True))
    different = {pair for pair, p in corrected.items() if p < ALPHA}
    letters = letter_groups(len(order), different)
    for rank, place in enumerate(order):
        equals = [k for k in range(len(order)) if k != rank and (min(k, rank), max(k, rank)) not in different]
        yield RankedSystem(
            system=systems[place].name,
            metric=metric,
            rank=rank + 1,
            group=letters[rank],
            seeds=mean.values.shape[1],
            score=mean_std(mean.values[place]),
            by_fold=tuple(float(score.values[place].mean()) for score in scores),
            to_best=found[0, rank] if rank else Difference(0.0, 0.0, 0.0, float("nan")),
            p_holm=corrected[0, rank] if rank else float("nan"),
            equals=tuple(systems[order[k]].name for k in equals),
        )


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per fold and score, then per fold and class, unrounded, for machines; a mean over folds has no corpus."""
    rows = []
    for row in (*comparison.scores, *comparison.recalls):
        fold, of = row.fold, row.difference
        rows.append(
            {
                "corpus": fold and fold.corpus,
                "train": fold and fold.train and ",".join(fold.train),
                "fold": fold and fold.name,
                "metric": row.metric,
                "class": row.label,
                "n": fold and fold.n,
                "units": fold and len(fold.counted.units),
                "resampled": fold and fold.resampled,
                "seeds": row.seeds,
                "only_first": fold and fold.only[0],
                "only_second": fold and fold.only[1],
                "first": row.first[0],
                "first_std": row.first[1],
                "second": row.second[0],
                "second_std": row.second[1],
                "difference": of.value,
                "difference_low": of.low,
                "difference_high": of.high,
                "p": of.p if row.label is None else float("nan"),
                "p_holm": row.p_holm,
            }
        )
    return rows


def ranking_rows(ranking: Ranking) -> list[dict[str, Any]]:
    """One row per score and system, unrounded, for machines."""
    return [
        {
            "metric": row.metric,
            "rank": row.rank,
            "system": row.system,
            "group": row.group,
            "folds": len(ranking.folds),
            "seeds": row.seeds,
            "score": row.score[0],
            "score_std": row.score[1],
            "to_best": row.to_best.value,
            "to_best_low": row.to_best.low,
            "to_best_high": row.to_best.high,
            "p": row.to_best.p,
            "p_holm": row.p_holm,
            "not_different_from": list(row.equals),
            "scores": [
                {
                    "corpus": fold.corpus,
                    "train": fold.train and ",".join(fold.train),
                    "fold": fold.name,
                    "score": score,
                }
                for fold, score in zip(ranking.folds, row.by_fold, strict=True)
            ],
        }
        for row in ranking.systems
    ]

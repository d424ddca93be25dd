"""The table of a cross-validation: every fold, mean and STD over the folds, and all folds pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.notes import column_notes, result_notes
from merloco.flows.results.pooled import PooledFolds, pooled_folds
from merloco.flows.results.scores import Score, interval_text
from merloco.flows.results.tables import ResultTable
from merloco.flows.results.text import TITLES, in_order, mean_and_std, number
from merloco.models.metrics.evaluation import SINGLE
from merloco.models.metrics.statistics import mean_std

NAN = float("nan")
REFERENCES = (
    ("logistic", "uar", "UAR"),
    ("majority", "uar", "UAR"),
    ("majority", "weighted_f1", "wF1"),
    ("chance", "weighted_f1", "wF1"),
)
"""Source, metric and title of the columns of reference scores, as in other tables."""


def fold_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """One table: the folds of every corpus and feature set, each group with its mean and its pooled score."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for group in pooled_folds(outcomes):
        rows += [*(_fold_row(group, fold) for fold in group.folds), _mean_row(group), _pooled_row(group)]
        if (sentence := _loses(group)) is not None:
            notes.append(sentence)
    about = (
        "Every labelled row of a corpus that has a feature is a test row of one fold; official parts play no part. "
        "pooled: scores of the predictions of all folds together."
    )
    notes = [about, *notes, *result_notes(outcomes, show_leaks), *column_notes(outcomes)[:-1]]
    return [ResultTable("Cross-validation of each corpus", rows, notes)]


def _row(
    group: PooledFolds,
    fold: str,
    folds: Sequence[Score],
    support: Mapping[str, int],
    interval: str,
    text: Callable[[str, str], str],
) -> dict[str, Any]:
    """A row over the test rows of some folds; `text` gives what a source (ours, a reference) comes to in a metric."""
    counts = [score.first["n"] for score in folds]
    row: dict[str, Any] = {"corpus": group.corpus, "features": group.feature_set, "fold": fold, "n": sum(counts)}
    for name in in_order(name for score in folds for name in score.first["coverage"]):
        shares = [score.first["coverage"].get(name, 0.0) for score in folds]
        row[name] = f"{np.average(shares, weights=counts):.0%}"
    for metric in SINGLE:
        row[TITLES[metric]] = text("ours", metric)
        if metric == "uar":
            row["95 % CI"] = interval
    for source, metric, title in REFERENCES:
        row[f"{source} {title}"] = text(source, metric)
    return {**row, "classes": sum(count > 0 for count in support.values())}


def _fold_row(group: PooledFolds, fold: Score) -> dict[str, Any]:
    def text(source: str, metric: str) -> str:
        return fold.text(metric) if source == "ours" else number(_percent(fold, source, metric))

    return _row(group, str(fold.cell.fold.name), [fold], fold.first["support"], fold.interval(), text)


def _mean_row(group: PooledFolds) -> dict[str, Any]:
    """Over the folds, each the mean over its seeds."""

    def text(source: str, metric: str) -> str:
        return mean_and_std(*mean_std([_percent(fold, source, metric) for fold in group.folds]))

    row = _row(group, f"mean ± STD of {len(group.folds)}", group.folds, {}, "", text)
    return row | dict.fromkeys(("n", *group.folds[0].first["coverage"], "classes"), "")


def _pooled_row(group: PooledFolds) -> dict[str, Any]:
    sources = {"ours": [*group.scores.values()], "logistic": [group.reference] if group.reference else []}

    def text(source: str, metric: str) -> str:
        if source == "chance":
            return number(100 * group.chance[metric])
        found = [group.majority] if source == "majority" else sources[source]
        return mean_and_std(*mean_std([100 * getattr(scores, metric) for scores in found]))

    return _row(group, "pooled", group.folds, group.majority.support, interval_text(group.intervals), text)


def _percent(fold: Score, source: str, metric: str) -> float:
    if source == "ours":
        return fold.mean(metric)
    if source == "logistic":
        return fold.reference(metric)
    return 100 * float(fold.first[source].get(metric, NAN))


def _loses(group: PooledFolds) -> str | None:
    """That the network is no better than logistic regression."""
    own, _ = mean_std([100 * scores.uar for scores in group.scores.values()])
    baseline = 100 * group.reference.uar if group.reference else NAN
    if not own < baseline:
        return None
    return (
        f"{group.corpus}: over all folds ({group.feature_set}), the network (UAR {own:.1f}) loses to logistic "
        f"regression on the same rows and features ({baseline:.1f})"
    )

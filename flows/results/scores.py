"""Scores of runs over their seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.intervals import intervals_of
from merloco.flows.results.text import mean_and_std
from merloco.models.metrics.intervals import ScoreIntervals
from merloco.models.metrics.statistics import mean_std
from merloco.models.protocols import Cell


@dataclass(frozen=True)
class Score:
    """One evaluation of one cell over its seeds."""

    outcomes: tuple[RunSummary, ...]
    results: tuple[dict[str, Any], ...]

    @property
    def cell(self) -> Cell:
        """What was trained, but for its seed."""
        return self.outcomes[0].cell

    @property
    def first(self) -> dict[str, Any]:
        """The result of the first seed: what all seeds have in common, such as the support, is read from it."""
        return self.results[0]

    @property
    def corpus(self) -> str:
        """The tested corpus."""
        return str(self.first["corpus"])

    @property
    def leaked(self) -> bool:
        """Whether an encoder has seen the corpus although the model was not trained on it."""
        return any(self.corpus in outcome.leaks for outcome in self.outcomes)

    def mean_std(self, metric: str) -> tuple[float, float]:
        """Mean and STD over the seeds, in percent."""
        return mean_std([100 * result[metric] for result in self.results])

    def mean(self, metric: str = "uar") -> float:
        """Mean over the seeds, in percent."""
        return self.mean_std(metric)[0]

    def recall(self, name: str) -> float:
        """Recall of a class in percent, averaged over the seeds; NaN where the corpus has none of it."""
        return 100 * mean_std([result["recall"].get(name, float("nan")) for result in self.results])[0]

    def reference(self, metric: str) -> float:
        """Of logistic regression on the same rows and features, in percent; NaN where it was not fitted."""
        known = self.outcomes[0].reference or {}
        return 100 * float(known.get(self.corpus, {}).get(metric, float("nan")))

    def text(self, metric: str = "uar", show_leaks: bool = True) -> str:
        """`mean ± STD`, the mean alone for one seed; `-` where undefined, or a leak that is not to be shown."""
        return "-" if self.leaked and not show_leaks else mean_and_std(*self.mean_std(metric))

    @cached_property
    def intervals(self) -> ScoreIntervals | None:
        """Intervals of the mean scores over the seeds; None without predictions of one label."""
        return intervals_of([outcome.path for outcome in self.outcomes], self.corpus)

    def interval(self) -> str:
        """95 % interval of the UAR, in percent."""
        return interval_text(self.intervals)


def interval_text(intervals: ScoreIntervals | None) -> str:
    """95 % interval of a UAR, in percent; `-` without one."""
    if intervals is None:
        return "-"
    uar = intervals.metrics["uar"]
    return f"{100 * uar.low:.1f} to {100 * uar.high:.1f}"


def scores_of(outcomes: Iterable[RunSummary]) -> list[Score]:
    """Evaluations grouped over seeds, in the order of the outcomes."""
    groups: dict[tuple[Any, ...], list[tuple[RunSummary, dict[str, Any]]]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            key = (outcome.cell, result["corpus"], result["split"], result["nullified"])
            groups.setdefault(key, []).append((outcome, result))
    return [Score(tuple(o for o, _ in members), tuple(r for _, r in members)) for members in groups.values()]


def tested_scores(outcomes: Iterable[RunSummary]) -> list[Score]:
    """Those on the corpora that a fold tests, without its training corpora's own test parts."""
    return [score for score in scores_of(outcomes) if score.corpus in score.cell.fold.test]

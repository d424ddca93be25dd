"""A search in rounds: what the runs of one round came to on validation decides the settings of the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from merloco.flows.experiments.plan import Plan, RunSummary
from merloco.flows.experiments.search import ROUND, next_points
from merloco.models.metrics.statistics import mean_std
from merloco.models.protocols import Cell, Point, setting_cells


def all_rounds(plan: Plan, evaluate: Callable[[Plan], list[RunSummary]]) -> list[RunSummary]:
    """Outcomes of a plan and, of a search, of the rounds that follow until its budget is spent.

    Args:
        plan: Its cells are the first round.
        evaluate: Trains the cells of a plan, or looks them up.
    """
    outcomes = evaluate(plan)
    tried = list(plan.cells)
    while (further := _next_round(plan, tried, outcomes)) is not None:
        outcomes += evaluate(further)
        tried += further.cells
    return outcomes


def _next_round(plan: Plan, tried: Sequence[Cell], outcomes: Sequence[RunSummary]) -> Plan | None:
    """The plan of the settings to try next; None if there are none."""
    if plan.search is None:
        return None
    scores: dict[Cell, list[float]] = {}
    for outcome in outcomes:
        scores.setdefault(outcome.cell, []).append(outcome.validation)
    best: dict[Point, float | None] = dict.fromkeys(cell.overrides for cell in tried)
    for cell, values in scores.items():  # settings are as good as with the feature set that they suit best
        mean, known = mean_std(values)[0], best[cell.overrides]
        best[cell.overrides] = mean if known is None else max(mean, known)
    number = min(plan.points - len(best), ROUND)
    points = next_points(plan.search, best, number) if number > 0 else []
    if not points:
        return None
    modalities = {cell.feature_set: cell.modalities for cell in tried}
    cells = setting_cells(tried[0].fold.train, tuple(modalities), points)
    return replace(plan, cells=tuple(replace(cell, modalities=modalities[cell.feature_set]) for cell in cells))

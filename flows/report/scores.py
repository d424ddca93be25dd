"""Scores of an experiment: the table of everything, and the UAR with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merloco.flows.report.data import ExperimentResults, ReportRow
from merloco.flows.report.page import Page, escaped, styled
from merloco.flows.report.style import QUIET, SERIES_COLOURS
from merloco.flows.results.notes import REPORT_NOTES
from merloco.flows.results.tables import ResultTable
from merloco.flows.results.text import SHORT_TITLES, in_order, mean_and_std, number
from merloco.models.metrics.evaluation import PUBLISHED_UAR
from merloco.models.metrics.intervals import resampling_sentence
from merloco.models.metrics.resampling import Interval
from merloco.models.metrics.statistics import mean_std

MAX_ROWS = 60
"""Most rows of a figure: a longer list is a table's business."""


def add_scores(page: Page, experiment: ExperimentResults) -> None:
    """Add the table of all scores and the figure of UAR with its intervals."""
    page.table(_score_table(experiment))
    rows = [row for row in experiment.counted if row.intervals]
    drawn = rows[:MAX_ROWS]
    if drawn:
        more = f" The first {len(drawn)} of {len(rows)} rows of the table." if len(drawn) < len(rows) else ""
        page.figure(
            [("", _interval_figure(experiment, drawn))],
            f"UAR of the rows of the table. Dot: {averaged(experiment)}. Bar: 95 % interval. Small circles: single "
            "runs, where there are several. Grey stroke: chance level, one over the number of scored classes. "
            f"{resampled(drawn)}{more}",
        )


def averaged(experiment: ExperimentResults) -> str:
    """What a mean is over, for captions."""
    numbers = sorted({len(row.runs) for row in experiment.rows})
    if numbers == [1]:
        return "the one run of a condition"
    return f"mean over the {' or '.join(map(str, numbers))} runs (seeds) of a condition"


def resampled(rows: Sequence[ReportRow]) -> str:
    """How intervals came about, for captions."""
    return f"Intervals: {resampling_sentence([row.intervals.resampled for row in rows if row.intervals])}."


def percent_with_std(values: np.ndarray) -> str:
    """Mean ± STD over seeds of shares, in percent."""
    mean, std = mean_std(values)
    return mean_and_std(100 * mean, 100 * std)


def error_bars(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Plotly's error bars of intervals, in percent."""
    values, low, high = (np.array([getattr(i, name) for i in intervals]) for name in ("value", "low", "high"))
    return {"array": (high - values) * 100, "arrayminus": (values - low) * 100, "thickness": 1.4, "width": 4}


def _score_table(experiment: ExperimentResults) -> ResultTable:
    present = dict.fromkeys(metric for row in experiment.rows for metric in row.scores)
    metrics = [m for m in SHORT_TITLES if m in present] + [
        m for m in present if m not in (*SHORT_TITLES, PUBLISHED_UAR)
    ]
    modalities = in_order(m for row in experiment.rows for m in row.coverage)
    initials = "/".join(modality[0].upper() for modality in modalities)
    conditions = {
        "coverage": bool(modalities),
        "multi-label": "wacc" in metrics,
        "within": experiment.mixed,
        "leak": any(row.leak for row in experiment.rows),
        "no interval": any(row.intervals is None for row in experiment.rows),
    }
    notes = [note for name, note in REPORT_NOTES.items() if conditions.get(name, True)]
    notes = [note.format(initials=initials, modalities=", ".join(modalities)) for note in notes]
    absent = {r.corpus: f"{r.corpus}: no test row of {', '.join(r.absent)}." for r in experiment.rows if r.absent}
    records = []
    for row in experiment.rows:
        record: dict[str, Any] = {
            "tested on": experiment.tested_on(row),
            "trained on": row.condition,
            "n": row.n,
            "runs": len(row.runs),
        }
        for metric in metrics:
            text = "leak" if row.leak else percent_with_std(row.values(metric))
            record[SHORT_TITLES.get(metric, metric)] = text
            if metric == "uar":
                record["95 % interval"] = None if row.leak else _interval(row)
        record["logistic UAR"] = None if row.leak else number(100 * row.logistic.get("uar", np.nan))
        chance = (100 * row.chance.get(metric, np.nan) for metric in ("uar", "weighted_f1"))
        record["chance UAR/wF1"] = "/".join(map(number, chance))
        record["majority wF1"] = number(100 * row.majority.get("weighted_f1", np.nan))
        if modalities:
            shares = [f"{100 * row.coverage[m]:.0f}" if m in row.coverage else "-" for m in modalities]
            record[initials] = "/".join(shares)
        records.append(record)
    return ResultTable("Scores of every condition on every tested corpus.", records, [*notes, *absent.values()])


def _interval(row: ReportRow) -> str | None:
    if row.intervals is None:
        return None
    uar = row.intervals.metrics["uar"]
    return f"{number(100 * uar.low)}–{number(100 * uar.high)}"


def _interval_figure(experiment: ExperimentResults, rows: Sequence[ReportRow]) -> go.Figure:
    names = [escaped(experiment.heading(row)) for row in rows]
    runs = [(100 * v, name) for r, name in zip(rows, names, strict=True) for v in r.scores["uar"] if len(r.runs) > 1]
    intervals = [row.intervals.metrics["uar"] for row in rows if row.intervals]
    figure = go.Figure()
    figure.add_scatter(
        x=[100 * row.chance["uar"] for row in rows],
        y=names,
        mode="markers",
        name="chance",
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": "#a3abb3"}},
        hovertemplate="chance %{x:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=[value for value, _ in runs],
        y=[name for _, name in runs],
        mode="markers",
        name="single runs",
        marker={"symbol": "circle-open", "size": 6, "color": QUIET},
        hovertemplate="%{x:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=[100 * i.value for i in intervals],
        y=names,
        mode="markers",
        name="UAR, 95 % interval",
        error_x=error_bars(intervals),
        marker={"size": 9, "color": SERIES_COLOURS[0]},
        customdata=[[100 * i.low, 100 * i.high, r.n] for i, r in zip(intervals, rows, strict=True)],
        hovertemplate="%{x:.1f} % (%{customdata[0]:.1f} to %{customdata[1]:.1f}), n %{customdata[2]}<extra></extra>",
    )
    styled(figure, 80 + 30 * len(rows), x="UAR, %")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[len(rows) - 0.4, -0.6], showgrid=False, type="category")
    return figure

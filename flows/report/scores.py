"""Scores of an experiment: the table of everything, and the UAR with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from merloco.flows.report.data import Cell, Experiment
from merloco.flows.report.page import Page, Table, escaped, styled
from merloco.flows.report.style import QUIET, SERIES_COLOURS
from merloco.models.metrics.intervals import resampling_sentence
from merloco.models.metrics.resampling import Interval
from merloco.models.metrics.statistics import mean_std
from merloco.pipelines.samples.schema import MODALITIES

TITLES = {"uar": "UAR", "macro_f1": "mF1", "weighted_f1": "wF1", "accuracy": "Acc", "wacc": "wAcc", "f1": "F1"}
"""As in the paper's tables."""
MOST_ROWS = 60
"""Most rows of a figure: a longer list is a table's business."""


def add_scores(page: Page, experiment: Experiment) -> None:
    """Add the table of all scores and the figure of UAR with its intervals."""
    page.section("Scores")
    page.table(_score_table(experiment))
    cells = [cell for cell in experiment.shown if cell.uncertainty]
    drawn = cells[:MOST_ROWS]
    if drawn:
        more = f" The first {len(drawn)} of {len(cells)} rows of the table." if len(drawn) < len(cells) else ""
        page.figure(
            [("", _interval_figure(experiment, drawn))],
            f"UAR of the rows of the table. Dot: {averaged(experiment)}. Bar: 95 % interval. Small circles: single "
            "runs, where there are several. Grey stroke: chance level, one over the number of scored classes. "
            f"{resampled(drawn)}{more}",
        )


def averaged(experiment: Experiment) -> str:
    """What a mean is over, for captions."""
    numbers = sorted({len(cell.runs) for cell in experiment.cells})
    if numbers == [1]:
        return "the one run of a condition"
    return f"mean over the {' or '.join(map(str, numbers))} runs (seeds) of a condition"


def resampled(cells: Sequence[Cell]) -> str:
    """How intervals came about, for captions."""
    return f"Intervals: {resampling_sentence([cell.uncertainty.by for cell in cells if cell.uncertainty])}."


def percent(value: float) -> str:
    """A share in percent with one decimal; `-` where undefined."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def mean_and_std(values: np.ndarray) -> str:
    """Mean ± STD over seeds, in percent; a single run has no STD."""
    mean, std = mean_std(values)
    return percent(mean) if np.isnan(std) else f"{percent(mean)} ± {percent(std)}"


def error_bars(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Plotly's error bars of intervals, in percent."""
    values, low, high = (np.array([getattr(i, name) for i in intervals]) for name in ("value", "low", "high"))
    return {"array": (high - values) * 100, "arrayminus": (values - low) * 100, "thickness": 1.4, "width": 4}


def _score_table(experiment: Experiment) -> Table:
    present = dict.fromkeys(metric for cell in experiment.cells for metric in cell.scores)
    metrics = [m for m in TITLES if m in present] + [m for m in present if m not in TITLES]
    modalities = [m for m in MODALITIES if any(m in cell.coverage for cell in experiment.cells)]
    columns = ["tested on", "trained on", "n", "runs"]
    for metric in metrics:
        columns += [TITLES.get(metric, metric), *(["95 % interval"] if metric == "uar" else [])]
    shares = "/".join(modality[0].upper() for modality in modalities)
    columns += ["chance UAR/wF1", "majority wF1", *([shares] if shares else [])]
    notes = [
        "Scores in % on the test part, on the classes that the tested corpus annotates and that have test rows. UAR: "
        "unweighted average recall; mF1, wF1: macro and weighted F1; Acc: accuracy. Several runs: mean ± STD (n−1) "
        "over their seeds. The interval is about the choice of test rows, the STD about the seeds.",
        "chance: guessing every scored class equally often. majority: always the most frequent training class; its UAR "
        "is the chance level.",
    ]
    if modalities:
        notes.append(f"{shares}: share of the n test rows that have {', '.join(modalities)}, in %.")
    if "wacc" in metrics:
        notes.append(
            "Rows with a wAcc have several labels at once: wAcc is the mean over the classes of the mean recall of "
            "present and absent, Acc and F1 the mean overlap of the true and the predicted set (Jaccard, Dice)."
        )
    if experiment.mixed:
        notes.append("within: the corpus is among those trained on, by its own training part.")
    if any(cell.leak for cell in experiment.cells):
        notes.append("leak: an encoder of the feature set was trained on that corpus, so its scores are in no figure.")
    if any(cell.uncertainty is None for cell in experiment.cells):
        notes.append(
            "No interval where no predictions are kept: of several labels at once, and of the test parts of corpora on "
            "which a model was trained to be tested on another."
        )
    absent = {c.corpus: f"{c.corpus}: no test row of {', '.join(c.absent)}." for c in experiment.cells if c.absent}
    rows = [_score_row(experiment, cell, metrics, modalities, shares) for cell in experiment.cells]
    return Table("Scores of every condition on every tested corpus.", columns, rows, [*notes, *absent.values()])


def _score_row(
    experiment: Experiment, cell: Cell, metrics: Sequence[str], modalities: Sequence[str], shares: str
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tested on": experiment.tested_on(cell),
        "trained on": cell.condition,
        "n": cell.n,
        "runs": len(cell.runs),
        "chance UAR/wF1": "/".join(percent(cell.chance.get(metric, np.nan)) for metric in ("uar", "weighted_f1")),
        "majority wF1": percent(cell.majority.get("weighted_f1", np.nan)),
    }
    if modalities:
        row[shares] = "/".join(f"{100 * cell.coverage[m]:.0f}" if m in cell.coverage else "-" for m in modalities)
    for metric in metrics:
        row[TITLES.get(metric, metric)] = "leak" if cell.leak else mean_and_std(cell.scores.get(metric, np.array([])))
    if cell.uncertainty and not cell.leak:
        interval = cell.uncertainty.uar
        row["95 % interval"] = f"{percent(interval.low)}–{percent(interval.high)}"
    return row


def _interval_figure(experiment: Experiment, cells: Sequence[Cell]) -> Any:
    import plotly.graph_objects as go

    names = [escaped(experiment.heading(cell)) for cell in cells]
    runs = [(100 * v, name) for c, name in zip(cells, names, strict=True) for v in c.scores["uar"] if len(c.runs) > 1]
    intervals = [cell.uncertainty.uar for cell in cells if cell.uncertainty]
    figure = go.Figure()
    figure.add_scatter(
        x=[100 * cell.chance["uar"] for cell in cells],
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
        customdata=[[100 * i.low, 100 * i.high, c.n] for i, c in zip(intervals, cells, strict=True)],
        hovertemplate="%{x:.1f} % (%{customdata[0]:.1f} to %{customdata[1]:.1f}), n %{customdata[2]}<extra></extra>",
    )
    styled(figure, 80 + 30 * len(cells), x="UAR, %")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(range=[len(cells) - 0.4, -0.6], showgrid=False, type="category")
    return figure

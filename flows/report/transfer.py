"""What carries over: UAR by training corpora and tested corpus, recall of each class, and what is confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merloco.flows.report.data import ExperimentResults, ReportRow
from merloco.flows.report.page import MissingSectionError, Page, escaped, styled
from merloco.flows.report.predictions import Predictions
from merloco.flows.report.scores import MAX_ROWS, averaged, error_bars, percent_with_std, resampled
from merloco.flows.report.style import INK, SERIES_COLOURS, SHADES
from merloco.models.metrics.statistics import mean_std

MAX_SERIES = 8
"""Most conditions that are told apart by colour in one panel."""
MAX_MATRICES = 12
MIN_CLASS_ROWS = 10
"""Classes with fewer test rows have a hollow dot: an interval from them says little."""


def add_transfer(page: Page, experiment: ExperimentResults) -> None:
    """Add the heat map of UAR by condition and tested corpus, where a corpus was tested without being trained on."""
    conditions, corpora = list(experiment.conditions), experiment.corpora
    if all(row.within for row in experiment.rows):
        raise MissingSectionError("No corpus was tested without being trained on.")
    if len(experiment.rows) < 2:
        raise MissingSectionError("There is one score alone: it stands in the table of scores.")
    if len(conditions) > MAX_ROWS:
        raise MissingSectionError(
            f"{len(conditions)} conditions are more than the {MAX_ROWS} that a heat map can show."
        )
    rows = {(row.condition, row.corpus): row for row in experiment.rows}
    figure = _heat_map(
        z=[[_mean_uar(rows.get((condition, corpus))) for corpus in corpora] for condition in conditions],
        x=[escaped(corpus) for corpus in corpora],
        y=[escaped(condition) for condition in conditions],
        text=[[_uar_text(rows.get((condition, corpus))) for corpus in corpora] for condition in conditions],
        textfont={"color": INK},
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate="trained on %{y}<br>tested on %{x}<br>UAR %{text}<extra></extra>",
        colorbar={"title": {"text": "UAR, %", "side": "right"}, "thickness": 10, "outlinewidth": 0},
    )
    styled(figure, 110 + 50 * len(conditions), x="tested on", y="trained on").update_xaxes(side="top")
    page.figure(
        [("", figure)],
        f"UAR in % by training corpora and tested corpus: {averaged(experiment)}, ± STD (n−1) over the seeds. Empty: "
        "not tested. within: the corpus is among those trained on, by its own training part.",
    )


def _heat_map(**heat: Any) -> go.Figure:
    """Shares from 0 to 100 %, the first row at the top."""
    figure = go.Figure(go.Heatmap(texttemplate="%{text}", zmin=0, zmax=100, colorscale=SHADES, **heat))
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return figure


def _mean_uar(row: ReportRow | None) -> float | None:
    if row is None or row.leak:
        return None
    mean, _ = mean_std(row.values("uar"))
    return None if np.isnan(mean) else 100 * mean


def _uar_text(row: ReportRow | None) -> str:
    if row is None:
        return ""
    if row.leak:
        return "leak"
    lines = percent_with_std(row.values("uar")).replace(" ±", "<br>±")
    return f"{lines}<br>within" if row.within else lines


def add_recall(page: Page, experiment: ExperimentResults) -> None:
    """Add the recall of each class with its interval, a panel per tested corpus."""
    by_corpus: dict[str, list[ReportRow]] = {}
    for row in experiment.counted:
        if row.intervals:
            by_corpus.setdefault(row.corpus, []).append(row)
    if not by_corpus:
        raise _no_predictions(experiment)
    drawn = {corpus: rows[:MAX_SERIES] for corpus, rows in by_corpus.items()}
    shown = [row for rows in drawn.values() for row in rows]
    names = list(dict.fromkeys(_series(experiment, row) for row in shown))
    one_each = all(len(rows) == 1 for rows in drawn.values())
    legend = {name: SERIES_COLOURS[0 if one_each else i % len(SERIES_COLOURS)] for i, name in enumerate(names)}
    panels = [
        (experiment.heading(rows[0]) if len(rows) == 1 else corpus, _recall_figure(experiment, rows, legend))
        for corpus, rows in drawn.items()
    ]
    cut = any(len(rows) > MAX_SERIES for rows in by_corpus.values())
    more = f" At most {MAX_SERIES} conditions per corpus." if cut else ""
    page.figure(
        panels,
        f"Recall of each class on the test part, with the number of its rows: {averaged(experiment)}; bar: 95 % "
        f"interval. Hollow: fewer than {MIN_CLASS_ROWS} rows, where a short bar is no certainty. Classes without test "
        f"rows are left out. {resampled(shown)}{more}",
        None if one_each else legend,
    )


def _no_predictions(experiment: ExperimentResults) -> MissingSectionError:
    """Why nothing can be shown that is made of single predictions."""
    if not experiment.counted:
        return MissingSectionError("An encoder has seen every tested corpus: no score of them counts.")
    return MissingSectionError(
        "The runs keep no prediction of one label on the tested corpora: they have several labels at once."
    )


def _series(experiment: ExperimentResults, row: ReportRow) -> str:
    """Name of a condition in a panel of one corpus, which need not be repeated where only it was trained on."""
    return row.condition.removeprefix(f"{row.corpus}, ") if experiment.single else row.condition


def _recall_figure(experiment: ExperimentResults, rows: Sequence[ReportRow], colours: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    classes = experiment.classes
    supports = np.array([row.predictions.support(len(classes)) for row in rows if row.predictions])
    names = [f"{escaped(name)}<br>{_span(n)}" for name, n in zip(classes, supports.T, strict=True)]
    tested = [name for name, n in zip(names, supports.T, strict=True) if n.any()]
    for row, support in zip(rows, supports, strict=True):
        present, name = np.flatnonzero(support).tolist(), _series(experiment, row)
        intervals = [row.intervals.recall[classes[k]] for k in present] if row.intervals else []
        symbols = ["circle" if support[k] >= MIN_CLASS_ROWS else "circle-open" for k in present]
        figure.add_scatter(
            x=[names[k] for k in present],
            y=[100 * i.value for i in intervals],
            error_y=error_bars(intervals),
            mode="markers",
            name=escaped(name),
            offsetgroup=escaped(name),
            showlegend=False,
            marker={"size": 8, "color": colours[name], "symbol": symbols},
            customdata=[[100 * i.low, 100 * i.high] for i in intervals],
            hovertemplate="%{x}<br>%{y:.1f} % (%{customdata[0]:.1f} to %{customdata[1]:.1f})",
        )
    styled(figure, 290, y="recall, %")
    figure.update_layout(scattermode="group", scattergap=0.4)
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=tested)
    figure.update_yaxes(range=[-4, 104], dtick=25)
    return figure


def _span(numbers: np.ndarray) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low}–{high}"


def add_confusion(page: Page, experiment: ExperimentResults) -> None:
    """Add confusion matrices with counts, shaded by their share of the row."""
    rows = [row for row in experiment.counted if row.predictions is not None]
    if not rows:
        raise _no_predictions(experiment)
    drawn = _spread(rows, MAX_MATRICES)
    more = f" {len(drawn)} of {len(rows)} conditions, every corpus in turn." if len(drawn) < len(rows) else ""
    matrices = [_matrix(experiment, row.predictions) for row in drawn if row.predictions]
    height = 100 + 36 * max(len(names) for names, _ in matrices)
    panels = []
    for row, (_, figure) in zip(drawn, matrices, strict=True):
        runs = f", {len(row.runs)} runs" if len(row.runs) > 1 else ""
        title = f"{experiment.heading(row)} (n {row.n}{runs})"
        panels.append((title, styled(figure, height, "prediction", "truth")))
    page.figure(
        panels,
        "Confusion on the test part. Shade and upper number: share of the row in %, so the diagonal is the recall. "
        "Lower number: utterances, summed over the runs (seeds). Classes that are neither true nor predicted are left "
        f"out.{more}",
    )


def _spread(rows: Sequence[ReportRow], most: int) -> list[ReportRow]:
    """At most so many rows, as many of every corpus as there is room for, in the given order."""
    turns: Counter[str] = Counter()
    order = []
    for position, row in enumerate(rows):
        turns[row.corpus] += 1
        order.append((turns[row.corpus], position))
    return [rows[position] for position in sorted(position for _, position in sorted(order)[:most])]


def _matrix(experiment: ExperimentResults, predictions: Predictions) -> tuple[list[str], go.Figure]:
    """Names of the classes that occur, and their matrix."""
    counts = predictions.confusion(len(experiment.classes))
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts = counts[np.ix_(used, used)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), 0.0)
    names = [escaped(experiment.classes[k]) for k in used]
    figure = _heat_map(
        z=shares,
        x=names,
        y=names,
        text=[
            [f"{share:.0f}<br>{n}" if n else "" for share, n in zip(*line, strict=True)]
            for line in zip(shares, counts, strict=True)
        ],
        textfont={"size": 10, "color": INK},
        showscale=False,
        xgap=1,
        ygap=1,
        customdata=counts,
        hovertemplate="truth %{y}<br>prediction %{x}<br>%{z:.1f} % of the row, %{customdata} utterances<extra></extra>",
    )
    return names, figure

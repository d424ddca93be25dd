"""What carries over: UAR by training corpora and tested corpus, recall of each class, and what is confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from merloco.flows.report.data import Cell, Experiment
from merloco.flows.report.page import Page, escaped, styled
from merloco.flows.report.scores import MOST_ROWS, averaged, error_bars, mean_and_std, resampled
from merloco.flows.report.style import INK, SERIES_COLOURS, SHADES
from merloco.models.metrics.statistics import mean_std

MOST_SERIES = 8
"""Most conditions that are told apart by colour in one panel."""
MOST_MATRICES = 12
FEW_ROWS = 10
"""Classes with fewer test rows have a hollow dot: an interval from them says little."""


def add_transfer(page: Page, experiment: Experiment) -> None:
    """Add the heat map of UAR by condition and tested corpus, where a corpus was tested without being trained on."""
    import plotly.graph_objects as go

    rows, columns = list(experiment.conditions), experiment.corpora
    title = "Transfer between corpora"
    if all(cell.inside for cell in experiment.cells):
        page.absent(title, "No corpus was tested without being trained on.")
        return
    if len(experiment.cells) < 2:
        page.absent(title, "There is one score alone: it stands in the table of scores.")
        return
    if len(rows) > MOST_ROWS:
        page.absent(title, f"{len(rows)} conditions are more than the {MOST_ROWS} that a heat map can show.")
        return
    page.section(title)
    cells = {(cell.condition, cell.corpus): cell for cell in experiment.cells}
    heat = go.Heatmap(
        z=[[_mean_uar(cells.get((row, column))) for column in columns] for row in rows],
        x=[escaped(column) for column in columns],
        y=[escaped(row) for row in rows],
        text=[[_cell_text(cells.get((row, column))) for column in columns] for row in rows],
        texttemplate="%{text}",
        textfont={"color": INK},
        zmin=0,
        zmax=100,
        colorscale=SHADES,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate="trained on %{y}<br>tested on %{x}<br>UAR %{text}<extra></extra>",
        colorbar={"title": {"text": "UAR, %", "side": "right"}, "thickness": 10, "outlinewidth": 0},
    )
    figure = styled(go.Figure(heat), 110 + 50 * len(rows), x="tested on", y="trained on")
    figure.update_xaxes(side="top", showgrid=False, type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    page.figure(
        [("", figure)],
        f"UAR in % by training corpora and tested corpus: {averaged(experiment)}, ± STD (n−1) over the seeds. Empty: "
        "not tested. within: the corpus is among those trained on, by its own training part.",
    )


def _mean_uar(cell: Cell | None) -> float | None:
    if cell is None or cell.leak:
        return None
    mean, _ = mean_std(cell.scores.get("uar", np.array([])))
    return None if np.isnan(mean) else 100 * mean


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.leak:
        return "leak"
    lines = mean_and_std(cell.scores.get("uar", np.array([]))).replace(" ±", "<br>±")
    return f"{lines}<br>within" if cell.inside else lines


def add_recall(page: Page, experiment: Experiment) -> None:
    """Add the recall of each class with its interval, a panel per tested corpus."""
    by_corpus: dict[str, list[Cell]] = {}
    for cell in experiment.shown:
        if cell.uncertainty:
            by_corpus.setdefault(cell.corpus, []).append(cell)
    if not by_corpus:
        page.absent("Recall per class", _no_predictions(experiment))
        return
    page.section("Recall per class")
    drawn = {corpus: cells[:MOST_SERIES] for corpus, cells in by_corpus.items()}
    names = list(dict.fromkeys(_series(experiment, cell) for cells in drawn.values() for cell in cells))
    one_each = all(len(cells) == 1 for cells in drawn.values())
    legend = {name: SERIES_COLOURS[0 if one_each else i % len(SERIES_COLOURS)] for i, name in enumerate(names)}
    panels = [
        (experiment.heading(cells[0]) if len(cells) == 1 else corpus, _recall_figure(experiment, cells, legend))
        for corpus, cells in drawn.items()
    ]
    cut = any(len(cells) > MOST_SERIES for cells in by_corpus.values())
    more = f" At most {MOST_SERIES} conditions per corpus." if cut else ""
    shown = [cell for cells in drawn.values() for cell in cells]
    page.figure(
        panels,
        f"Recall of each class on the test part, with the number of its rows: {averaged(experiment)}; bar: 95 % "
        f"interval. Hollow: fewer than {FEW_ROWS} rows, where a short bar is no certainty. Classes without test rows "
        f"are left out. {resampled(shown)}{more}",
        None if one_each else legend,
    )


def _no_predictions(experiment: Experiment) -> str:
    """Why nothing can be shown that is made of single predictions."""
    if not experiment.shown:
        return "An encoder has seen every tested corpus: no score of them counts."
    return "The runs keep no prediction of one label on the tested corpora: they have several labels at once."


def _series(experiment: Experiment, cell: Cell) -> str:
    """Name of a condition in a panel of one corpus, which need not be repeated where only it was trained on."""
    return cell.condition.removeprefix(f"{cell.corpus}, ") if experiment.single else cell.condition


def _recall_figure(experiment: Experiment, cells: Sequence[Cell], colours: Mapping[str, str]) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    supports = np.array([cell.support(len(experiment.classes)) for cell in cells])
    names = [f"{escaped(name)}<br>{_span(n)}" for name, n in zip(experiment.classes, supports.T, strict=True)]
    tested = [name for name, n in zip(names, supports.T, strict=True) if n.any()]
    for cell, support in zip(cells, supports, strict=True):
        chosen, name = np.flatnonzero(support).tolist(), _series(experiment, cell)
        intervals = [cell.uncertainty.recall[k] for k in chosen] if cell.uncertainty else []
        figure.add_scatter(
            x=[names[k] for k in chosen],
            y=[100 * i.value for i in intervals],
            error_y=error_bars(intervals),
            mode="markers",
            name=escaped(name),
            offsetgroup=escaped(name),
            showlegend=False,
            marker={
                "size": 8,
                "color": colours[name],
                "symbol": ["circle" if support[k] >= FEW_ROWS else "circle-open" for k in chosen],
            },
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


def add_confusion(page: Page, experiment: Experiment) -> None:
    """Add confusion matrices with counts, shaded by their share of the row."""
    cells = [cell for cell in experiment.shown if cell.predictions is not None]
    if not cells:
        page.absent("Confusion", _no_predictions(experiment))
        return
    page.section("Confusion")
    drawn = _spread(cells, MOST_MATRICES)
    more = f" {len(drawn)} of {len(cells)} conditions, every corpus in turn." if len(drawn) < len(cells) else ""
    matrices = [_matrix(experiment, cell) for cell in drawn]
    height = 100 + 36 * max(len(names) for names, _ in matrices)
    page.figure(
        [
            (_matrix_title(experiment, cell), styled(f, height, "prediction", "truth"))
            for cell, (_, f) in zip(drawn, matrices, strict=True)
        ],
        "Confusion on the test part. Shade and upper number: share of the row in %, so the diagonal is the recall. "
        "Lower number: utterances, summed over the runs (seeds). Classes that are neither true nor predicted are left "
        f"out.{more}",
    )


def _spread(cells: Sequence[Cell], most: int) -> list[Cell]:
    """At most so many cells, as many of every corpus as there is room for, in the given order."""
    turn: dict[str, int] = {}
    order = []
    for position, cell in enumerate(cells):
        turn[cell.corpus] = turn.get(cell.corpus, 0) + 1
        order.append((turn[cell.corpus], position))
    return [cells[position] for position in sorted(position for _, position in sorted(order)[:most])]


def _matrix_title(experiment: Experiment, cell: Cell) -> str:
    runs = f", {len(cell.runs)} runs" if len(cell.runs) > 1 else ""
    return f"{experiment.heading(cell)} (n {cell.n}{runs})"


def _matrix(experiment: Experiment, cell: Cell) -> tuple[list[str], Any]:
    """Names of the classes that occur, and their matrix."""
    import plotly.graph_objects as go

    counts = cell.counts(len(experiment.classes))
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts = counts[np.ix_(used, used)]
    rows = counts.sum(axis=1, keepdims=True)
    share = np.where(rows > 0, 100 * counts / np.maximum(rows, 1), 0.0)
    names = [escaped(experiment.classes[k]) for k in used]
    heat = go.Heatmap(
        z=share,
        x=names,
        y=names,
        text=[
            [f"{s:.0f}<br>{n}" if n else "" for s, n in zip(shares, line, strict=True)]
            for shares, line in zip(share, counts, strict=True)
        ],
        texttemplate="%{text}",
        textfont={"size": 10, "color": INK},
        zmin=0,
        zmax=100,
        colorscale=SHADES,
        showscale=False,
        xgap=1,
        ygap=1,
        customdata=counts,
        hovertemplate="truth %{y}<br>prediction %{x}<br>%{z:.1f} % of the row, %{customdata} utterances<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    return names, figure

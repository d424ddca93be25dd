"""How runs learned: validation UAR and training loss over the epochs, with their spread over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merloco.flows.report.data import ExperimentResults
from merloco.flows.report.page import MissingSectionError, Page, escaped, styled
from merloco.flows.report.style import SERIES_COLOURS

MAX_CONDITIONS = 8
"""More than this are a tangle; the caption says how many are left out."""


def add_curves(page: Page, experiment: ExperimentResults) -> None:
    """Add learning curves: validation UAR and training loss over epochs."""
    curves = _curves(experiment)
    if not curves:
        raise MissingSectionError("No run of the experiment keeps a learning curve.")
    shown = dict(list(curves.items())[:MAX_CONDITIONS])
    more = f" The first {len(shown)} of {len(curves)} conditions." if len(shown) < len(curves) else ""
    page.figure(
        [
            ("Validation UAR, %", _curve_figure({name: [100 * c[:, 1] for c in runs] for name, runs in shown.items()})),
            ("Training loss", _curve_figure({name: [c[:, 0] for c in runs] for name, runs in shown.items()})),
        ],
        "Learning curves by training corpora. Thin lines: single runs, to the epoch at which they ended. Thick line "
        f"and band: mean ± STD (n−1) over the runs (seeds) of a condition, as long as all of them go on.{more}",
        dict(zip(shown, SERIES_COLOURS, strict=False)),
    )


def _curves(experiment: ExperimentResults) -> dict[str, list[np.ndarray]]:
    """Condition -> for each run an array (epochs, 2) of training loss and validation UAR."""
    columns = {c: experiment.epochs[c].to_numpy(zero_copy_only=False) for c in ("run", "loss", "val_uar")}
    values = np.stack([columns["loss"], columns["val_uar"]], axis=1).astype(np.float64)
    curves = {}
    for condition, runs in experiment.conditions.items():
        recorded = [curve for run in runs if len(curve := values[columns["run"] == run])]
        if recorded:
            curves[condition] = recorded
    return curves


def _curve_figure(curves: Mapping[str, Sequence[np.ndarray]]) -> go.Figure:
    figure = go.Figure()
    for (condition, runs), colour in zip(curves.items(), SERIES_COLOURS, strict=False):
        quiet: dict[str, Any] = {"mode": "lines", "hoverinfo": "skip"}
        for run in runs if len(runs) > 1 else ():
            line = {"color": colour, "width": 1}
            figure.add_scatter(x=_epochs(len(run)), y=run, line=line, opacity=0.35, **quiet)
        length = min(len(run) for run in runs)
        stack = np.stack([run[:length] for run in runs])
        mean = stack.mean(axis=0)
        if len(runs) > 1:
            std = stack.std(axis=0, ddof=1)
            edge: dict[str, Any] = {"x": _epochs(length), "line": {"width": 0}, **quiet}
            red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
            figure.add_scatter(y=mean + std, **edge)
            figure.add_scatter(y=mean - std, fill="tonexty", fillcolor=f"rgba({red},{green},{blue},0.15)", **edge)
        figure.add_scatter(
            x=_epochs(length),
            y=mean,
            mode="lines",
            name=escaped(condition),
            line={"color": colour, "width": 2.2},
            hovertemplate="epoch %{x}: %{y:.3~f}",
        )
    styled(figure, 320, x="epoch")
    figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _epochs(number: int) -> np.ndarray:
    return np.arange(1, number + 1)

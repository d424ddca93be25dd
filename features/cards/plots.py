"""Plots of a data card: static PNG files whose bytes depend on nothing but the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.files.atomic import atomic_path

COLORS = {"train": "#3b6ea5", "val": "#e0a030", "test": "#b5443a", "none": "#8a8a8a"}
BINS, MIN_BINS = 40, 8
TAIL_QUANTILE = 0.99
"""The last bin of a histogram takes everything beyond this quantile: one clip of five minutes hides the others."""


def plot_classes(path: Path, counts: Mapping[str, Mapping[str, int]], totals: Mapping[str, int]) -> None:
    """Grouped bars: share of each class in each split, of split -> class -> samples and split -> samples."""
    figure, axes = _figure()
    splits = list(counts)
    names = list(next(iter(counts.values())))
    width = 0.8 / len(splits)
    for i, split in enumerate(splits):
        shares = [100 * counts[split][name] / max(totals[split], 1) for name in names]
        positions = np.arange(len(names)) + (i - (len(splits) - 1) / 2) * width
        axes.bar(positions, shares, width, label=f"{split} ({totals[split]})", color=COLORS[split])
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_ylabel("share of the split's samples (%)")
    _save(figure, axes, path)


def plot_histogram(path: Path, values: Mapping[str, Sequence[float]], label: str, *, whole: bool) -> None:
    """Step histograms per split, each normalized to 100 %; `whole`: values and bin widths are whole numbers."""
    figure, axes = _figure()
    present = {split: np.asarray(v, dtype=np.float64) for split, v in values.items() if len(v)}
    everything = np.concatenate(list(present.values()))
    top = float(np.quantile(everything, TAIL_QUANTILE)) or 1.0
    # A split of ten samples in forty bins is noise.
    bins = int(np.clip(np.sqrt(len(everything)), MIN_BINS, BINS))
    width = float(np.ceil(top / bins)) if whole else top / bins
    edges = np.arange(np.ceil(top / width) + 1) * width + (0.5 if whole else 0.0)
    top = float(edges[-1])
    for split, numbers in present.items():
        counts, _ = np.histogram(np.clip(numbers, edges[0], top), bins=edges)
        axes.stairs(100 * counts / len(numbers), edges, label=f"{split} ({len(numbers)})", color=COLORS[split])
    beyond = int((everything > top).sum())
    tail = f"; longer, counted in the last bin: {beyond} (longest {everything.max():.4g})" if beyond else ""
    axes.set_xlabel(label + tail)
    axes.set_ylabel("share of the split's samples (%)")
    _save(figure, axes, path)


def _figure() -> tuple[Any, Any]:
    """A figure without pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COLORS))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})

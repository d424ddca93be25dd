"""What columns of scores are called, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Iterable

from merloco.pipelines.samples.schema import MODALITIES

TITLES = {
    "uar": "UAR",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "wacc": "wAcc",
    "f1": "F1",
}
SHORT_TITLES = {**TITLES, "macro_f1": "mF1", "weighted_f1": "wF1", "accuracy": "Acc"}
"""As in the paper's tables."""
PUBLISHED_TITLE = "UAR as published"
"""Of `PUBLISHED_UAR`, which stands in tables beside published values alone."""


def number(value: float) -> str:
    """With one decimal; `-` where undefined."""
    return "-" if value != value else f"{value:.1f}"


def mean_and_std(mean: float, std: float) -> str:
    """`mean ± STD`; a single run has no STD."""
    return number(mean) if std != std else f"{number(mean)} ± {number(std)}"


def in_order(names: Iterable[str]) -> list[str]:
    """What runs are made of, each once: views of modalities that have several, then audio, video, text."""
    distinct = dict.fromkeys(names)
    return [n for n in distinct if n not in MODALITIES] + [m for m in MODALITIES if m in distinct]

"""The published corpus statistics, read from `published.yaml`: Table 1 of Ryumina et al. 2025, known differences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter

NAMES = {
    "hours": "hours",
    "min_seconds": "min s",
    "max_seconds": "max s",
    "mean_seconds": "mean s",
    "train": "train",
    "val": "val",
    "test": "test",
    "classes": "classes",
    "imbalance_mean": "imbalance mean",
    "imbalance_std": "imbalance STD",
}
"""Figure -> its name for people, in the order of the paper's table."""

FIGURES = tuple(NAMES)
LENGTHS = FIGURES[:4]
COUNTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of Table 1; null stands for the paper's dash, or for a figure that nothing gives."""

    hours: float | None
    """All splits together."""
    min_seconds: float | None
    max_seconds: float | None
    mean_seconds: float | None
    train: int | None
    """Utterances."""
    val: int | None
    test: int | None
    classes: int
    imbalance_mean: float | None
    """Mean of the class counts of the training part."""
    imbalance_std: float | None
    """Population standard deviation of the same counts."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some figures of a corpus differ from the published ones."""

    figures: tuple[str, ...]
    text: str
    maps: tuple[str, ...] | None = None
    """Label maps under which it holds; null: under every map."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the paper says about one corpus, and why the official release gives other figures."""

    figures: Figures
    classes: tuple[str, ...]
    comparable_map: str
    """The catalog's label map over the same classes."""
    reasons: tuple[Reason, ...]
    """In the order in which they are printed."""


PUBLISHED = TypeAdapter(dict[str, Published]).validate_python(
    yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
)

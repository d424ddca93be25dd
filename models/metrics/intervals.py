"""The interval of a score: one definition for tables, machine-readable output, SQL, comparisons and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from merloco.models.metrics.resampling import METRICS, Interval, bootstrap

FEW_CLUSTERS = 10
"""Fewer dialogues than this are too few to resample: the utterances are."""
DIALOGUES, UTTERANCES = "dialogues", "utterances"


@dataclass(frozen=True, slots=True)
class ScoreIntervals:
    """Intervals of one run's scores, or of the mean scores of several runs on the same rows."""

    metrics: Mapping[str, Interval]
    """Metric of `merloco.models.metrics.resampling.METRICS` -> interval."""
    recall: Mapping[str, Interval]
    """Class that occurs -> interval of its recall; NaN for a class without true rows."""
    resampled: str
    """What was drawn: `dialogues` or `utterances`."""


def clusters_of(dialogues: np.ndarray) -> np.ndarray | None:
    """The dialogues of some rows if they are what is resampled, else None.

    Utterances of a dialogue share speakers, scene and topic. They are drawn one by one where a corpus has no dialogues
    (each row is one of its own) or fewer than `FEW_CLUSTERS`.
    """
    number = len(np.unique(dialogues))
    return None if number < FEW_CLUSTERS or number == len(dialogues) else dialogues


def score_intervals(truth: np.ndarray, predictions: np.ndarray, dialogues: np.ndarray) -> ScoreIntervals:
    """Percentile bootstrap of 2,000 resamples, always the same ones for the same rows.

    Args:
        truth: str (n,), the true class of each row.
        predictions: str (S, n), what each of S runs predicted, for example one per seed.
        dialogues: str (n,), the dialogue of each row, or a name of its own.

    Raises:
        ModelError: There is no row.
    """
    names = np.unique(np.concatenate([truth, predictions.ravel()]))
    groups = clusters_of(dialogues)
    drawn = bootstrap(np.searchsorted(names, truth), np.searchsorted(names, predictions), len(names), groups)
    recall = dict(zip(names.tolist(), drawn.recall(), strict=True))
    resampled = UTTERANCES if groups is None else DIALOGUES
    return ScoreIntervals({metric: drawn.interval(metric) for metric in METRICS}, recall, resampled)


def resampling_sentence(resampled: Sequence[str]) -> str:
    """How the intervals of a table came about."""
    return f"percentile bootstrap, 2,000 resamples of {' or '.join(sorted(set(resampled)))}"

"""Scoring a trained run on one part of one corpus, on the classes that this corpus annotates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.prediction import predict
from merloco.models.fusion.spec import RunResult
from merloco.models.metrics.intervals import ScoreIntervals, score_intervals
from merloco.models.metrics.multilabel import score_multi
from merloco.models.metrics.scores import majority, masked_prediction, score
from merloco.models.metrics.statistics import chance

SINGLE = ("uar", "macro_f1", "weighted_f1", "accuracy")
PUBLISHED_UAR = "published_uar"
"""Of single-label scores: for tables beside published values alone (`merloco.models.metrics.scores.Scores`)."""
MULTI = ("wacc", "weighted_f1", "accuracy", "f1", "uar")
PRESENT = 0.5
"""Probability above which a class counts as present in a multi-label prediction."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions and scores of one run on one part of one corpus."""

    corpus: str
    split: str
    rows: np.ndarray
    probabilities: np.ndarray
    """float32 (n, K)."""
    prediction: np.ndarray
    """int64 (n,): the most probable class that the corpus annotates."""
    scores: dict[str, float]
    """Metric -> value: those of `SINGLE` and `PUBLISHED_UAR`, or of `MULTI` for a run with several labels at once."""
    recall: dict[str, float]
    """Annotated class -> recall; NaN for a class without true rows."""
    support: dict[str, int]
    wacc: dict[str, float]
    """Annotated class -> weighted accuracy of a multi-label run, NaN where a side is absent; empty otherwise."""
    majority: dict[str, float]
    """Always the most frequent training class; for several labels, what more than half of the training rows have."""
    chance: dict[str, float]
    """Guessing; empty for several labels."""
    coverage: dict[str, float]
    """Modality -> share of the rows that have it."""
    intervals: ScoreIntervals | None
    """Of this run's scores on a test part; None for several labels at once."""
    collapsed: str | None
    """What is predicted for every row although the rows differ: a class, or classes that are present; else None."""


def evaluate(dataset: Dataset, result: RunResult, corpus: str, split: str, nullify: Sequence[str] = ()) -> Evaluation:
    """Score a run on one part of one corpus.

    Args:
        dataset: All rows.
        result: The trained run.
        corpus: Its name.
        split: The part.
        nullify: Modalities that get a zero vector.

    Raises:
        ModelError: The part has no usable row.
    """
    config = result.spec.config
    rows = dataset.rows((corpus,), split, config.task)
    if len(rows) == 0:
        raise ModelError(f"corpus {corpus!r} has no usable row in its {split} part: nothing to score")
    probabilities = predict(result, dataset, rows, nullify)
    mask, classes = dataset.mask[rows][0], dataset.classes
    prediction = masked_prediction(probabilities, mask)
    truth, seen = dataset.label[rows], result.spec.train_rows
    wacc: dict[str, float] = {}
    intervals = None
    said, true = np.eye(len(classes), dtype=bool)[prediction], np.eye(len(classes), dtype=bool)[truth]
    if config.task == "multi":
        said, true = (probabilities > PRESENT) & mask, (dataset.target[rows] > 0) & mask
        multi = score_multi(dataset.target[rows], probabilities > PRESENT, classes, mask)
        usual = dataset.target[seen].mean(axis=0) > PRESENT
        always = score_multi(dataset.target[rows], np.tile(usual, (len(rows), 1)), classes, mask)
        scores, most = ({name: float(getattr(s, name)) for name in MULTI} for s in (multi, always))
        recall, support, wacc, guessed = multi.class_recall, multi.support, multi.class_wacc, {}
    else:
        single, always_one = (
            score(truth, prediction, classes, mask),
            majority(dataset.label[seen], truth, classes, mask),
        )
        scores, most = (
            {name: float(getattr(s, name)) for name in (*SINGLE, PUBLISHED_UAR)} for s in (single, always_one)
        )
        recall, support, guessed = single.recall, single.support, chance(list(single.support.values()))
        names = np.array(classes)
        if split == "test":
            intervals = score_intervals(names[truth], names[prediction][None], dataset.dialogue[rows])
    return Evaluation(
        corpus=corpus,
        split=split,
        rows=rows,
        probabilities=probabilities,
        prediction=prediction,
        scores=scores,
        recall=recall,
        support=support,
        wacc=wacc,
        majority=most,
        chance=guessed,
        coverage={m: float(dataset.present[m][rows].mean()) for m in config.modalities},
        intervals=intervals,
        collapsed=_collapsed(said, true, classes),
    )


def _collapsed(said: np.ndarray, true: np.ndarray, classes: Sequence[str]) -> str | None:
    """See `Evaluation.collapsed`; `said` and `true` are bool (n, K)."""
    if (said != said[0]).any() or not (true != true[0]).any():
        return None
    return ", ".join(name for name, there in zip(classes, said[0], strict=True) if there) or "no class"

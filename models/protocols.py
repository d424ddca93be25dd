"""Evaluation protocols: which rows train, validate and test a run, and how its predictions are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data import Dataset
from models.errors import ModelError
from models.metrics import Scores, majority, masked_prediction, score
from models.spec import RunResult, RunSpec, TrainConfig
from models.train import predict


@dataclass(frozen=True, slots=True)
class Fold:
    """One cell of a protocol: corpora to train on, corpora to test on."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def loco_folds(corpora: Sequence[str]) -> list[Fold]:
    """Leave one corpus out: train on all the others, test on the one (paper, Table 4).

    Raises:
        ModelError: Fewer than two corpora.
    """
    if len(corpora) < 2:
        raise ModelError(f"leave-one-corpus-out needs two corpora or more, got {', '.join(corpora) or 'none'}")
    return [Fold(tuple(c for c in corpora if c != held_out), (held_out,)) for held_out in corpora]


def run_spec(dataset: Dataset, fold: Fold, config: TrainConfig, seed: int) -> RunSpec:
    """Rows of a fold: the official training and validation parts of its training corpora."""
    name = f"{'+'.join(fold.train)} -> {'+'.join(fold.test)}, seed {seed}"
    return RunSpec(
        name, dataset.rows(fold.train, "train", config.task), dataset.rows(fold.train, "val", config.task), config, seed
    )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Predictions and scores of one run on one part of one corpus."""

    corpus: str
    split: str
    rows: np.ndarray
    probabilities: np.ndarray
    """float32 (n, K)."""
    gates: np.ndarray
    """float32 (n, modalities)."""
    prediction: np.ndarray
    """int64 (n,): argmax over the classes that the corpus annotates."""
    scores: Scores
    majority: Scores
    """Always the most frequent training class that the corpus annotates."""
    coverage: dict[str, float]
    """Modality -> share of the rows that have it."""


def evaluate(dataset: Dataset, result: RunResult, corpus: str, split: str) -> Evaluation:
    """Score a run on one part of one corpus, on the classes that this corpus annotates.

    Raises:
        ModelError: The part has no usable row.
    """
    rows = dataset.rows((corpus,), split)
    if len(rows) == 0:
        raise ModelError(f"corpus {corpus!r} has no usable row in its {split} part: nothing to score")
    probabilities, gates = predict(result, dataset, rows)
    mask = dataset.mask[rows][0]
    prediction = masked_prediction(probabilities, mask)
    truth = dataset.label[rows]
    return Evaluation(
        corpus=corpus,
        split=split,
        rows=rows,
        probabilities=probabilities,
        gates=gates,
        prediction=prediction,
        scores=score(truth, prediction, dataset.classes, mask),
        majority=majority(dataset.label[result.spec.train_rows], truth, dataset.classes, mask),
        coverage={m: float(dataset.present[m][rows].mean()) for m in result.spec.config.modalities},
    )

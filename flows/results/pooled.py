"""The folds of a cross-validation taken together: one test set that is the whole corpus, each row tested once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.runs import read_config, run_path
from merloco.flows.experiments.plan import RunSummary
from merloco.flows.experiments.references import reference_config
from merloco.flows.results.intervals import predictions_of
from merloco.flows.results.scores import Score, tested_scores
from merloco.models.metrics.intervals import ScoreIntervals, score_intervals
from merloco.models.metrics.scores import Scores, majority, score
from merloco.models.metrics.statistics import chance


@dataclass(frozen=True)
class PooledFolds:
    """All folds of one corpus, with the same settings but for the fold."""

    folds: tuple[Score, ...]

    @property
    def corpus(self) -> str:
        """The corpus."""
        return self.folds[0].corpus

    @property
    def feature_set(self) -> str:
        """The feature set."""
        return self.folds[0].cell.feature_set

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that the corpus annotates."""
        return tuple(self.folds[0].first["support"])

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds that every fold was trained with."""
        trained = [{outcome.seed for outcome in fold.outcomes} for fold in self.folds]
        return sorted(set.intersection(*trained))

    @cached_property
    def scores(self) -> dict[int, Scores]:
        """Seed -> scores of its predictions of all folds."""
        return {seed: self._score(predicted) for seed, predicted in zip(self.seeds, self._predicted, strict=True)}

    @cached_property
    def intervals(self) -> ScoreIntervals | None:
        """Of the mean over the seeds."""
        if not self.seeds:
            return None
        _, truth, _, clusters = self._predicted[0]
        return score_intervals(truth, np.stack([predicted for _, _, predicted, _ in self._predicted]), clusters)

    @cached_property
    def reference(self) -> Scores | None:
        """Of the predictions of logistic regression of all folds; None where some were not fitted."""
        folders = [_reference_folder(fold.outcomes[0].path) for fold in self.folds]
        if not all((folder / "predictions.parquet").is_file() for folder in folders):
            return None
        return self._score(_joined(folders, self.corpus))

    @cached_property
    def majority(self) -> Scores:
        """Of always saying the most frequent class of the corpus."""
        return majority(self._truth, self._truth, self.classes, np.ones(len(self.classes), dtype=bool))

    @property
    def chance(self) -> dict[str, float]:
        """Of guessing every class."""
        return chance(np.bincount(self._truth, minlength=len(self.classes)).tolist())

    @property
    def _truth(self) -> np.ndarray:
        support = [sum(fold.first["support"][name] for fold in self.folds) for name in self.classes]
        return np.repeat(np.arange(len(self.classes)), support)

    @cached_property
    def _predicted(self) -> list[tuple[np.ndarray, ...]]:
        paths = [{outcome.seed: outcome.path for outcome in fold.outcomes} for fold in self.folds]
        return [_joined([by_seed[seed] for by_seed in paths], self.corpus) for seed in self.seeds]

    def _score(self, predictions: tuple[np.ndarray, ...]) -> Scores:
        number = {name: position for position, name in enumerate(self.classes)}
        truth, predicted = (np.array([number[name] for name in predictions[i]], dtype=np.int64) for i in (1, 2))
        return score(truth, predicted, self.classes)


def pooled_folds(outcomes: Iterable[RunSummary]) -> list[PooledFolds]:
    """Scores on test parts grouped over folds, in the order of the outcomes; those of official parts are left out."""
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for tested in tested_scores(outcomes):
        cell = tested.cell
        if cell.fold.name is not None:
            groups.setdefault((replace(cell, fold=replace(cell.fold, name=None)),), []).append(tested)
    return [PooledFolds(tuple(members)) for members in groups.values()]


def _joined(folders: Sequence[Path], corpus: str) -> tuple[np.ndarray, ...]:
    """Sample ids in order, truth, prediction and cluster over several runs."""
    parts = zip(*(predictions_of(folder, corpus) for folder in folders), strict=True)
    columns = [np.concatenate(part) for part in parts]
    order = np.argsort(columns[0])
    return tuple(column[order] for column in columns)


def _reference_folder(run: Path) -> Path:
    return run_path(run.parents[2], reference_config(read_config(run)["config"]))

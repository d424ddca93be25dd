"""Evaluation protocols: which rows train, validate and test a run, with which settings (paper, Tables 2 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec, TrainConfig

Point = tuple[tuple[str, Any], ...]
"""Training settings that are tried together: (name, value) of each."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Corpora to train and validate on, corpora to test on."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    extra_tests: tuple[str, ...] = ()
    """Training corpora whose own test part is scored as well (the paper's "w/o X" columns)."""
    name: str | None = None
    """Which fold of its one corpus (`merloco.models.folds`); None takes the official parts."""

    @property
    def suffix(self) -> str:
        """Behind the corpora in a sentence."""
        return "" if self.name is None else f", fold {self.name}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training run of a protocol, but for its seed."""

    fold: Fold
    feature_set: str
    modalities: tuple[str, ...] | None = None
    """Or views, where a modality has several; None takes all of the feature set."""
    overrides: Point = ()
    """Training settings that differ from the feature set's."""
    task: str = "single"
    nullify: bool = False
    """Score it once more for each modality with zeros in its place (paper, Table 2, setup 1)."""


def loco_folds(corpora: Sequence[str]) -> list[Fold]:
    """Leave one corpus out: train on all the others, test on the one.

    Raises:
        ModelError: Fewer than two corpora.
    """
    if len(corpora) < 2:
        raise ModelError(f"leave-one-corpus-out needs two corpora or more, got {', '.join(corpora) or 'none'}")
    others = [tuple(c for c in corpora if c != held_out) for held_out in corpora]
    return [Fold(train, (held_out,), train) for held_out, train in zip(corpora, others, strict=True)]


def loco_cells(corpora: Sequence[str], feature_sets: Sequence[str]) -> list[Cell]:
    """Leave one corpus out, with each feature set (paper, Table 4: one per corpus that the encoders were tuned on)."""
    return [Cell(fold, name) for name in feature_sets for fold in loco_folds(corpora)]


def cross_corpus_cells(corpora: Sequence[str], feature_sets: Sequence[str]) -> list[Cell]:
    """Train on each corpus alone and test on all (paper, Table 3).

    Raises:
        ModelError: Fewer than two corpora.
    """
    if len(corpora) < 2:
        raise ModelError(f"a cross-corpus matrix needs two corpora or more, got {', '.join(corpora) or 'none'}")
    return [Cell(Fold((c,), tuple(corpora)), name) for name in feature_sets for c in corpora]


def single_cells(corpora: Sequence[str], feature_sets: Sequence[str], multi_label: Sequence[str] = ()) -> list[Cell]:
    """Each corpus by itself with plain and with balanced loss (paper, Table 5)."""
    return [
        Cell(Fold((c,), (c,)), name, overrides=(("loss", loss),), task="multi" if c in multi_label else "single")
        for name in feature_sets
        for c in corpora
        for loss in ("plain", "balanced")
    ]


def ablation_cells(
    corpora: Sequence[str], modalities: Mapping[str, Sequence[str]], multi_label: Sequence[str] = ()
) -> list[Cell]:
    """Each corpus with all modalities, each of them nullified, and each of them excluded (paper, Table 2).

    Args:
        corpora: Names.
        modalities: Feature set -> its modalities in their order; where one has several views, each view.
        multi_label: Corpora that are trained and scored with several labels at once.

    Raises:
        ModelError: A feature set has one modality: nothing can be left out.
    """
    cells = []
    for name, available in modalities.items():
        every = tuple(available)
        if len(every) < 2:
            raise ModelError(f"a modality ablation needs two modalities or more: {name!r} has {', '.join(every)}")
        for c in corpora:
            base = Cell(Fold((c,), (c,)), name, every, (("loss", "balanced"),))
            base = replace(base, task="multi" if c in multi_label else "single")
            cells.append(replace(base, nullify=True))
            cells += [replace(base, modalities=tuple(m for m in every if m != left_out)) for left_out in every]
    return cells


def grid_cells(corpora: Sequence[str], feature_sets: Sequence[str], grid: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """All corpora together under every combination of settings, for example learning rate by gated width.

    Raises:
        ModelError: The grid has no axis.
    """
    if not grid:
        raise ModelError("a grid needs axes: give settings and their values, for example learning_rate: [1e-4, 1e-3]")
    points = [tuple(zip(grid, values, strict=True)) for values in product(*grid.values())]
    return setting_cells(corpora, feature_sets, points)


def setting_cells(corpora: Sequence[str], feature_sets: Sequence[str], points: Sequence[Point]) -> list[Cell]:
    """All corpora together under each of some settings, with each feature set."""
    fold = Fold(tuple(corpora), tuple(corpora))
    return [Cell(fold, name, overrides=point) for name in feature_sets for point in points]


def method_cells(
    corpora: Sequence[str], feature_sets: Sequence[str], methods: Sequence[Mapping[str, Any]]
) -> list[Cell]:
    """Leave one corpus out with each of some training settings, and with each feature set."""
    folds = loco_cells(corpora, feature_sets)
    return [replace(cell, overrides=tuple(method.items())) for method in methods for cell in folds]


def fold_cells(folds: Mapping[str, Sequence[str]], feature_sets: Sequence[str]) -> list[Cell]:
    """Each corpus by itself, once for each of its folds (corpus -> their names)."""
    return [
        Cell(Fold((corpus,), (corpus,), name=fold), name)
        for name in feature_sets
        for corpus, names in folds.items()
        for fold in names
    ]


def run_spec(
    dataset: Dataset, fold: Fold, config: TrainConfig, seed: int, selected_on_test: Sequence[str] = ()
) -> RunSpec:
    """A run of a fold.

    Args:
        dataset: All rows.
        fold: The corpora.
        config: Settings.
        seed: Of the weights, the order of rows and dropout.
        selected_on_test: As for `fold_rows`.
    """
    train, validation = fold_rows(dataset, fold, config.task, selected_on_test)
    if config.soft_targets:  # rows of several labels, too: but only those of one can choose the weights
        several = dataset.rows(fold.train, "train", "multi")
        train = np.union1d(train, several[dataset.target[several].sum(axis=1) > 0])
    name = f"{'+'.join(fold.train)} -> {'+'.join(fold.test)}{fold.suffix}, seed {seed}"
    return RunSpec(name, train, validation, config, seed)


def fold_rows(
    dataset: Dataset, fold: Fold, task: str, selected_on_test: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a fold that train and that choose the weights: the official parts of its training corpora.

    Args:
        dataset: All rows.
        fold: The corpora.
        task: `single` or `multi`.
        selected_on_test: Corpora that are validated on their test part, as the paper does with AFEW; what else would
            validate them trains then.
    """

    def rows(corpora: Sequence[str], split: str) -> np.ndarray:
        return dataset.rows(tuple(corpora), split, task)

    as_is = [c for c in fold.train if c not in selected_on_test]
    selected = [c for c in fold.train if c in selected_on_test]
    train = [rows(fold.train, "train"), rows(selected, "val")]
    validation = [rows(as_is, "val"), rows(selected, "test")]
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))

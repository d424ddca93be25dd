"""What to train and what came of it: a protocol's cells times seeds, each run named by all that decides its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from merloco.features.fusions import find_fusion, settings_problem
from merloco.features.store import FeatureStore
from merloco.flows.experiments.digests import DataDigests
from merloco.flows.experiments.folds import corpus_folds
from merloco.flows.experiments.search import ROUND, next_points
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.networks.base import BUILTIN
from merloco.models.fusion.spec import TrainConfig
from merloco.models.protocols import (
    Cell,
    Fold,
    ablation_cells,
    cross_corpus_cells,
    fold_cells,
    grid_cells,
    loco_cells,
    method_cells,
    setting_cells,
    single_cells,
)
from merloco.pipelines.catalog.entries import Folds, Search, Training
from merloco.pipelines.catalog.problems import first_problem
from merloco.pipelines.errors import UsageError

RUN_VERSION = 4
"""Raised when training or scoring code changes results."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A protocol's cells, seeds and settings."""

    experiment: str
    protocol: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    overrides: tuple[tuple[str, Any], ...] = ()
    """Training settings of all cells that differ from the catalog's."""
    maps: tuple[tuple[str, str], ...] = ()
    """(corpus, label map) where not the active one."""
    selected_on_test: tuple[str, ...] = ()
    """Corpora with early stopping on the reported rows, as in the paper."""
    force: bool = False
    """Train again what is in the store."""
    search: Search | None = None
    """Where the cells are the first of a search: see `merloco.flows.experiments.rounds`."""
    points: int = 0
    """How many settings the search may try."""
    folds: Folds | None = None
    """How the corpora are cross-validated; each cell is one fold of one corpus."""

    @property
    def per_corpus(self) -> bool:
        """Whether every corpus is trained by itself, so that each may have its own classes."""
        return all(len({*cell.fold.train, *cell.fold.test}) == 1 for cell in self.cells)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run as the tables show it."""

    cell: Cell
    seed: int
    path: Path
    reused: bool
    results: list[dict[str, Any]]
    """One row per tested part: corpus, nullified modality or None, n, coverage, scores, recall, majority, chance."""
    validation: float
    """Best validation UAR, by which the weights were chosen (wAcc for several labels at once)."""
    leaks: tuple[str, ...] = ()
    """Tested corpora that the model was not trained on but an encoder of the feature set was."""
    selected_on_test: tuple[str, ...] = ()
    """Corpora whose reported rows chose the weights."""
    missing_modalities: tuple[str, ...] = ()
    """Modalities of the cell that no training row has, so that the run does without."""
    validated_on: int | None = None
    """How many rows chose the weights."""
    reference: Mapping[str, Mapping[str, Any]] | None = None
    """Tested corpus -> the row of `results` of logistic regression on the same rows and features."""


def train_plan(
    train: Sequence[str],
    test: Sequence[str],
    features: str,
    modalities: Sequence[str] | None,
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    force: bool = False,
    maps: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The plan of training on some corpora and testing on some; for the arguments see `Plan` and `Cell`."""
    cell = Cell(Fold(tuple(train), tuple(test)), features, _tuple_or_none(modalities))
    return Plan("train", "train", (cell,), tuple(seeds), _sorted(overrides), _sorted(maps), force=force)


def loco_plan(
    corpora: Sequence[str],
    features: str,
    modalities: Sequence[str] | None,
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    force: bool = False,
    maps: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The plan of leaving each of some corpora out; for the arguments see `Plan` and `Cell`.

    Raises:
        ModelError: There are fewer than two corpora.
    """
    cells = (replace(cell, modalities=_tuple_or_none(modalities)) for cell in loco_cells(corpora, [features]))
    return Plan("loco", "loco", tuple(cells), tuple(seeds), _sorted(overrides), _sorted(maps), force=force)


def _tuple_or_none(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _sorted(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))


def experiment_plan(
    store: FeatureStore,
    name: str,
    seeds: Sequence[int] | None = None,
    force: bool = False,
    *,
    corpora: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    overrides: Mapping[str, Any] = MappingProxyType({}),
    maps: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The plan of a named experiment of the catalog, as it is there or changed.

    Args:
        store: The store.
        name: The experiment.
        seeds: In place of its own, as are the next two.
        force: See `Plan`.
        corpora: Names.
        features: Feature sets.
        modalities: Some of each feature set's; all by default.
        overrides: Training settings beside its own, which they replace.
        maps: Corpus -> label map beside its own.

    Raises:
        UsageError: The catalog has no such experiment, corpus or feature set.
        ModelError: The protocol needs more corpora or modalities, or a corpus cannot be divided into such folds.
        DataError: Folds are of sessions, speakers or dialogues that a corpus does not have.
    """
    experiment = store.catalog.experiment(name)
    corpora, sets = tuple(corpora or experiment.corpora), tuple(features or experiment.feature_sets)
    multi = [corpus for corpus in experiment.multi_label if corpus in corpora]
    chosen = {s: tuple(store.views(s, modalities)) for s in sets}
    seeds = tuple(seeds or experiment.seeds)
    search = experiment.search
    points = _affordable_points(search, len(seeds) * len(sets)) if search else 0
    first = next_points(search, {}, points if search.sampler == "random" else min(points, ROUND)) if search else []
    used_maps = {corpus: m for corpus, m in {**experiment.maps, **maps}.items() if corpus in corpora}
    mapped, folds = FeatureStore(store.root, store.catalog.with_maps(used_maps)), experiment.folds
    cells = {
        "loco": lambda: loco_cells(corpora, sets),
        "cross_corpus": lambda: cross_corpus_cells(corpora, sets),
        "single": lambda: single_cells(corpora, sets, multi),
        "ablation": lambda: ablation_cells(corpora, chosen, multi),
        "grid": lambda: grid_cells(corpora, sets, experiment.grid),
        "methods": lambda: method_cells(corpora, sets, experiment.methods),
        "search": lambda: setting_cells(corpora, sets, first),
        "folds": lambda: fold_cells({c: tuple(corpus_folds(mapped, c, folds)) for c in corpora if folds}, sets),
    }[experiment.protocol]()
    if modalities is not None:
        cells = [cell if cell.modalities else replace(cell, modalities=chosen[cell.feature_set]) for cell in cells]
    reported = [c for c in corpora if store.catalog.corpus(c).reported == "validation"]
    return Plan(
        experiment=name,
        protocol=experiment.protocol,
        cells=tuple(cells),
        seeds=seeds,
        overrides=_sorted({**experiment.training, **overrides}),
        maps=_sorted(used_maps),
        selected_on_test=tuple(reported) if experiment.paper_protocol else (),
        force=force,
        search=search,
        points=points,
        folds=folds,
    )


def _affordable_points(search: Search, each: int) -> int:
    """How many settings a search's budget covers, if one takes `each` runs.

    Raises:
        UsageError: It covers none.
    """
    if search.budget < each:
        raise UsageError(f"the search's budget tries no setting: one takes {each} runs, one per seed and feature set")
    return search.budget // each


def training_settings(store: FeatureStore, plan: Plan, cell: Cell) -> Training:
    """Settings of a cell: the catalog's for its feature set, the plan's overrides, its own.

    A cell with another network than the catalog's has none of its options.

    Raises:
        UsageError: A setting is wrong, there is no such network, or it does not take its options.
    """
    base = store.catalog.training.get(cell.feature_set, Training()).model_dump()
    own = {**dict(plan.overrides), **dict(cell.overrides)}
    if own.get("fusion", base["fusion"]) != base["fusion"]:
        base["fusion_options"] = {}
    try:
        settings = Training.model_validate({**base, **own})
    except ValidationError as error:
        raise UsageError(f"training setting {first_problem(error, Training)[1]}") from None
    if problem := settings_problem(settings):
        raise UsageError(problem[1])
    return settings


def train_config(settings: Training, modalities: Sequence[str], task: str) -> TrainConfig:
    """Settings of the catalog in the form that the trainer takes."""
    known = {k: v for k, v in settings.model_dump().items() if k in TrainConfig.__slots__}
    return TrainConfig(modalities=tuple(modalities), task=task, **known)


def run_config(plan: Plan, cell: Cell, seed: int, data: DataDigests, dataset: Dataset) -> dict[str, Any]:
    """Everything that decides the result of a run: settings by name, rows and vectors by the hash of their values.

    Args:
        plan: What is trained.
        cell: The run but for its seed.
        seed: Its seed.
        data: Of the store, with the label maps that the run uses.
        dataset: The rows that it learns from and is scored on.
    """
    store = data.store
    corpora = (*cell.fold.train, *cell.fold.test)
    maps = {name: store.catalog.corpus(name) for name in corpora}
    views = store.views(cell.feature_set, cell.modalities)
    settings = training_settings(store, plan, cell)
    selected = [c for c in plan.selected_on_test if c in cell.fold.train]
    return {
        "experiment": plan.experiment,
        "protocol": plan.protocol,
        "train": list(cell.fold.train),
        "test": list(cell.fold.test),
        "also": list(cell.fold.extra_tests),
        "feature_set": cell.feature_set,
        "seed": seed,
        "task": cell.task,
        "modalities": list(views),
        "views": {m: v.fingerprint for m, v in views.items()},
        "trained_on": {m: list(v.trained_on) for m, v in views.items()},
        "vectors": {m: {name: data.vectors(v, name) for name in sorted(set(corpora))} for m, v in views.items()},
        "rows": {name: data.rows(dataset, name) for name in sorted(set(corpora))},
        "label_maps": {name: {"map": entry.map, **entry.active_map.model_dump()} for name, entry in maps.items()},
        "training": settings.model_dump(),
        "selected_on_test": selected,
        "version": RUN_VERSION,
        **({} if plan.folds is None else {"fold": {"name": cell.fold.name, **plan.folds.model_dump()}}),
        **({} if settings.fusion in BUILTIN else {"fusion_version": find_fusion(settings.fusion).version}),
    }

"""What a plan comes to in a store: one job per run, with its config, and its outcome where the store holds the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merloco.features.query.matrices import load_matrices
from merloco.features.runs import adopt_run, read_config, run_identity, run_path
from merloco.features.store import FeatureStore
from merloco.flows.experiments.digests import DataDigests
from merloco.flows.experiments.folds import corpus_folds, with_splits
from merloco.flows.experiments.plan import Plan, RunSummary, run_config
from merloco.flows.experiments.references import reference_results
from merloco.models.fusion.dataset import Dataset
from merloco.models.protocols import Cell, fold_rows

Load = Callable[[FeatureStore, str, tuple[str, ...], list[str]], Dataset | None]
"""(store, feature set, corpora, modalities) -> rows; None leaves the cells out that need them."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a plan."""

    cell: Cell
    """With the modalities that its training rows have."""
    seed: int
    dataset: Dataset
    config: dict[str, Any]
    missing_modalities: tuple[str, ...]
    """Modalities of the plan's cell that no training row has."""
    validated_on: int
    """How many rows choose the weights."""

    @property
    def nullified_configs(self) -> list[dict[str, Any]]:
        """Configs of the run scored with one modality nullified: runs of their own, so that a score has one meaning."""
        modalities = self.config["modalities"] if self.cell.nullify else []
        return [{**self.config, "protocol": "nullification", "nullify": [m]} for m in modalities]

    def outcome(self, root: Path, validation: float, results: list[dict[str, Any]], reused: bool) -> RunSummary:
        """The run as the tables show it."""
        selected = tuple(self.config["selected_on_test"])
        return RunSummary(
            cell=self.cell,
            seed=self.seed,
            path=run_path(root, self.config),
            reused=reused,
            results=results,
            validation=validation,
            leaks=leaked_corpora(self.config),
            selected_on_test=selected,
            missing_modalities=self.missing_modalities,
            validated_on=self.validated_on,
            reference=reference_results(root, self.config),
        )

    @property
    def identity(self) -> str:
        """The same for two jobs that have the same result."""
        return run_identity(self.config)

    def adopted(self, root: Path, finished: Mapping[str, Path]) -> RunSummary | None:
        """The run as another experiment has trained it, written into this one as well; None if none has.

        Args:
            root: Root of the store.
            finished: Identity -> folder of the store's runs.
        """
        configs = [self.config, *self.nullified_configs]
        known = [(config, path) for config in configs if (path := finished.get(run_identity(config))) is not None]
        if len(known) < len(configs):
            return None
        for config, path in known:
            if path != run_path(root, config):
                adopt_run(root, path, config)
        return self.stored(root)

    def stored(self, root: Path) -> RunSummary | None:
        """The run as a store holds it, with its nullified ones; None if one of them is not there."""
        paths = [run_path(root, config) for config in (self.config, *self.nullified_configs)]
        if not all((path / "config.json").is_file() for path in paths):
            return None
        records = [read_config(path)["environment"] for path in paths]
        results = [row for record in records for row in record["results"]]
        return self.outcome(root, records[0]["validation"], results, reused=True)


def leaked_corpora(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Tested corpora of a run that it was not trained on but an encoder was."""
    seen = {corpus for corpora in config["trained_on"].values() for corpus in corpora}
    return tuple(sorted(seen & set(config["test"]) - set(config["train"])))


def plan_jobs(
    store: FeatureStore, plan: Plan, skip: Callable[[str], None], load: Load = load_matrices
) -> Iterator[Job]:
    """The runs of a plan, in its order; those that cannot be scored or say nothing new are left out.

    Args:
        store: The store.
        plan: What to train.
        skip: Called with a sentence for a cell that is left out because it cannot be trained or scored.
        load: Gives the rows; which of them train a cell, and with which modalities, is part of its config.

    Raises:
        DataError: Samples or features are missing.
    """
    store = FeatureStore(store.root, store.catalog.with_maps(dict(plan.maps)))
    data = DataDigests(store)
    # Sorted, so that the rows of a run have the same order whatever else is planned.
    every = tuple(sorted({c for cell in plan.cells for c in (*cell.fold.train, *cell.fold.test)}))
    store.corpora(every)
    splits = {} if plan.folds is None else {corpus: corpus_folds(store, corpus, plan.folds) for corpus in every}
    wanted: dict[str, set[str]] = {}
    for cell in plan.cells:
        wanted.setdefault(cell.feature_set, set()).update(store.views(cell.feature_set, cell.modalities))
    loaded: dict[tuple[str, tuple[str, ...]], Dataset | None] = {}
    parts: dict[tuple[Any, ...], Dataset] = {}
    done: set[Cell] = set()
    for cell in plan.cells:
        corpora = tuple(sorted({*cell.fold.train, *cell.fold.test})) if plan.per_corpus else every
        key = cell.feature_set, corpora
        if key not in loaded:
            available = store.catalog.feature_set(cell.feature_set).views
            loaded[key] = load(store, *key, [m for m in available if m in wanted[cell.feature_set]])
        whole = loaded[key]
        if whole is None:
            continue
        name = cell.fold.name
        if name is not None:
            whole = with_splits(whole, splits[cell.fold.test[0]][name])
        cell, without = _trainable(store, whole, cell)
        if cell.modalities == ():
            trained = f"{', '.join(cell.fold.train)}{cell.fold.suffix}"
            skip(f"{trained}: no training row has {' or '.join(without)}; left out")
            continue
        # What other cells read beside it must not lend a run rows that have none of its own modalities.
        chosen = tuple(store.views(cell.feature_set, cell.modalities))
        dataset = parts.setdefault((key, name, chosen), whole.select_modalities(chosen))
        lacking = [c for c in cell.fold.test if not len(dataset.rows((c,), "test", cell.task))]
        if lacking:
            skip(f"{', '.join(lacking)}{cell.fold.suffix}: no test row has a label and {' or '.join(chosen)}; left out")
            continue
        if replace(cell, nullify=False) in done:
            continue  # leaving a modality out that is not there is the model of all of them once more
        done.add(replace(cell, nullify=False))
        _, chosen_by = fold_rows(dataset, cell.fold, cell.task, plan.selected_on_test)
        for seed in plan.seeds:
            yield Job(cell, seed, dataset, run_config(plan, cell, seed, data, dataset), without, len(chosen_by))


def _trainable(store: FeatureStore, dataset: Dataset, cell: Cell) -> tuple[Cell, tuple[str, ...]]:
    """A cell with the modalities that its training rows have at all, and those that they have not."""
    modalities = tuple(store.views(cell.feature_set, cell.modalities))
    rows = dataset.rows(cell.fold.train, "train", cell.task)
    there = tuple(m for m in modalities if dataset.present[m][rows].any())
    if len(rows) == 0 or there == modalities:  # a run without any row says so itself
        return cell, ()
    return replace(cell, modalities=there), tuple(m for m in modalities if m not in there)

"""Retraining without Prefect: load matrices from the store, train all runs of a plan together, score and write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.dataset import load_matrices
from features.runs import read_config, run_path, write_run
from features.store import FeatureStore
from flows.plan import Outcome, Plan, run_config, train_config, training_settings
from flows.run_records import environment, epochs_table, metrics_table, predictions_table, result_row
from models.data import Dataset
from models.evaluation import evaluate
from models.protocols import Cell, run_spec
from models.spec import RunResult, RunSpec
from models.train import train_runs
from pipelines.errors import DataError

Progress = Callable[[RunSpec, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """One run: its place in the plan, its config and where it goes."""

    cell: Cell
    seed: int
    dataset: Dataset
    config: dict[str, Any]
    leaks: tuple[str, ...]
    without: tuple[str, ...]

    def outcome(self, root: Path, found: tuple[float, list[dict[str, Any]]], reused: bool) -> Outcome:
        validation, results = found
        selected = tuple(self.config["selected_on_test"])
        path = run_path(root, self.config)
        return Outcome(self.cell, self.seed, path, reused, results, validation, self.leaks, selected, self.without)


def execute(
    store: FeatureStore,
    plan: Plan,
    progress: Progress | None = None,
    finished: Callable[[RunSpec | None], None] | None = None,
    skip: Callable[[str], None] = print,
    device: str = "cpu",
) -> list[Outcome]:
    """Train every cell and seed of a plan; a run whose config is in the store already is read, not trained.

    Args:
        store: The store.
        plan: What to train.
        progress: Called after every epoch of a run with its row of the history.
        finished: Called for every run that is done; with None for one that was in the store.
        skip: Called with a sentence for a cell that cannot be scored.
        device: Where to train.

    Returns:
        One outcome per run, in the plan's order.

    Raises:
        DataError: Samples or features are missing, or no cell can be scored.
    """
    store = FeatureStore(store.root, store.catalog.with_maps(dict(plan.maps)))
    jobs = list(_jobs(store, plan, skip))
    if not jobs:
        raise DataError("nothing to train: no test row has a label and a feature")
    outcomes: dict[int, Outcome] = {}
    pending: dict[int, tuple[int, _Job]] = {}
    runs = []
    for position, job in enumerate(jobs):
        known = None if plan.force else _known(store.root, job)
        if known is not None:
            outcomes[position] = job.outcome(store.root, known, reused=True)
            if finished:
                finished(None)
            continue
        settings = training_settings(store, plan, job.cell)
        config = train_config(settings, tuple(job.config["views"]), job.cell.task)
        spec = run_spec(job.dataset, job.cell.fold, config, job.seed, plan.selected_on_test)
        pending[id(spec)] = position, job
        runs.append((job.dataset, spec))
    for result in train_runs(runs, progress, device):
        position, job = pending[id(result.spec)]
        outcomes[position] = job.outcome(store.root, _write(store.root, job, result), reused=False)
        if finished:
            finished(result.spec)
    return [outcomes[position] for position in sorted(outcomes)]


def _jobs(store: FeatureStore, plan: Plan, skip: Callable[[str], None]) -> Iterator[_Job]:
    every = tuple(dict.fromkeys(c for cell in plan.cells for c in (*cell.fold.train, *cell.fold.test)))
    store.corpora(every)
    wanted: dict[str, set[str]] = {}
    for cell in plan.cells:
        wanted.setdefault(cell.feature_set, set()).update(store.views(cell.feature_set, cell.modalities))
    loaded: dict[tuple[str, tuple[str, ...]], Dataset] = {}
    done: set[Cell] = set()
    for cell in plan.cells:
        corpora = tuple(dict.fromkeys((*cell.fold.train, *cell.fold.test))) if plan.apart else every
        key = cell.feature_set, corpora
        if key not in loaded:
            available = store.catalog.feature_set(cell.feature_set).views
            modalities = [m for m in available if m in wanted[cell.feature_set]]
            matrices = load_matrices(store, cell.feature_set, corpora, modalities)
            loaded[key] = Dataset(**{name: getattr(matrices, name) for name in Dataset.__slots__})
        dataset = loaded[key]
        lacking = [c for c in cell.fold.test if not len(dataset.rows((c,), "test", cell.task))]
        if lacking:
            names = " or ".join(store.views(cell.feature_set, cell.modalities))
            skip(f"{', '.join(lacking)}: no test row has a label and {names}; left out")
            continue
        cell, without = _trainable(store, dataset, cell)
        if replace(cell, nullify=False) in done:
            continue  # leaving a modality out that is not there is the model of all of them once more
        done.add(replace(cell, nullify=False))
        if cell.modalities == ():
            skip(f"{', '.join(cell.fold.train)}: no training row has {' or '.join(without)}; left out")
            continue
        views = store.views(cell.feature_set, cell.modalities)
        seen = {c for view in views.values() for c in view.trained_on}
        leaks = tuple(sorted(seen & set(cell.fold.test) - set(cell.fold.train)))
        for seed in plan.seeds:
            yield _Job(cell, seed, dataset, run_config(store, plan, cell, seed), leaks, without)


def _trainable(store: FeatureStore, dataset: Dataset, cell: Cell) -> tuple[Cell, tuple[str, ...]]:
    """A cell with the modalities that its training rows have at all, and those that they have not."""
    modalities = tuple(store.views(cell.feature_set, cell.modalities))
    rows = dataset.rows(cell.fold.train, "train", cell.task)
    there = tuple(m for m in modalities if dataset.present[m][rows].any())
    if len(rows) == 0 or there == modalities:  # a run without any row says so itself
        return cell, ()
    return replace(cell, modalities=there), tuple(m for m in modalities if m not in there)


def _known(root: Path, job: _Job) -> tuple[float, list[dict[str, Any]]] | None:
    """Validation score and results of a run in the store, with its nullified twins; None if one is not there."""
    records = []
    for config in (job.config, *_twins(job)):
        path = run_path(root, config)
        if not (path / "config.json").is_file():
            return None
        records.append(read_config(path)["environment"])
    return records[0]["validation"], [row for record in records for row in record["results"]]


def _twins(job: _Job) -> list[dict[str, Any]]:
    """Configs of the run scored with one modality nullified: runs of their own, so that a score has one meaning."""
    modalities = job.config["modalities"] if job.cell.nullify else []
    return [{**job.config, "protocol": "nullification", "nullify": [m]} for m in modalities]


def _write(root: Path, job: _Job, result: RunResult) -> tuple[float, list[dict[str, Any]]]:
    """Score a trained run, write it, and then its nullified twins, which have no weights of their own."""
    fold, dataset = job.cell.fold, job.dataset
    tested = [evaluate(dataset, result, corpus, "test") for corpus in fold.test]
    own = [evaluate(dataset, result, c, "test") for c in fold.also if len(dataset.rows((c,), "test", job.cell.task))]
    validated = [
        evaluate(dataset, result, c, "val") for c in fold.train if len(dataset.rows((c,), "val", job.cell.task))
    ]
    results = [result_row(e) for e in (*tested, *own)]
    metrics, predictions = metrics_table([*tested, *own, *validated]), predictions_table(dataset, result, tested)
    record = environment(result, results)
    write_run(root, job.config, metrics, epochs_table(result), predictions, result.weights, record)
    for config in _twins(job):
        (left_out,) = config["nullify"]
        blind = [evaluate(dataset, result, corpus, "test", (left_out,)) for corpus in fold.test]
        rows = [result_row(e, left_out) for e in blind]
        metrics, predictions = metrics_table(blind), predictions_table(dataset, result, blind)
        write_run(root, config, metrics, epochs_table(result).slice(0, 0), predictions, {}, environment(result, rows))
        results += rows
    return record["validation"], results

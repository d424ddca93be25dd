"""Retraining without Prefect: load matrices from the store, train, score, write runs, return what to print."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.dataset import load_matrices
from features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, read_config, run_path, write_run
from features.store import FeatureStore
from models.data import Dataset
from models.protocols import Evaluation, Fold, evaluate, run_spec
from models.spec import RunResult, TrainConfig
from models.train import train_run
from pipelines.catalog import Training
from pipelines.errors import DataError
from pipelines.files import canonical_json, sha256_file, sha256_text
from pipelines.samples import samples_path

RUN_VERSION = 1
"""Raised when training or scoring code changes results."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run as the tables show it."""

    fold: Fold
    seed: int
    path: Path
    reused: bool
    results: list[dict[str, Any]]
    """One row per tested part: corpus, split, n, coverage, scores, majority row, classes scored."""
    leaks: tuple[str, ...] = ()
    """Tested corpora that the model was not trained on but an encoder of the feature set was."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train: a protocol's folds, seeds and settings."""

    experiment: str
    protocol: str
    feature_set: str
    folds: tuple[Fold, ...]
    seeds: tuple[int, ...]
    modalities: tuple[str, ...] | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    """Training settings that differ from the catalog's."""
    force: bool = False


def training_settings(store: FeatureStore, feature_set: str, overrides: dict[str, Any]) -> Training:
    """Settings of a feature set with overrides, checked."""
    base = store.catalog.training.get(feature_set, Training())
    return Training.model_validate({**base.model_dump(), **overrides})


def execute(
    store: FeatureStore,
    plan: Plan,
    progress: Callable[[str, dict[str, float]], None] | None = None,
    skip: Callable[[str], None] = print,
) -> list[Outcome]:
    """Train every fold and seed of a plan; a run whose config is in the store already is read, not trained.

    Args:
        store: The store.
        plan: What to train.
        progress: Called after every epoch with the run's name and its row of the history.
        skip: Called with a sentence for a fold that cannot be scored.

    Raises:
        DataError: Samples or features are missing, or no fold can be scored.
    """
    corpora = tuple(dict.fromkeys(name for fold in plan.folds for name in (*fold.train, *fold.test)))
    store.corpora(corpora)
    views = store.views(plan.feature_set, plan.modalities)
    settings = training_settings(store, plan.feature_set, dict(plan.overrides))
    loaded = load_matrices(store, plan.feature_set, corpora, tuple(views))
    dataset = Dataset(**{name: getattr(loaded, name) for name in Dataset.__slots__})
    outcomes = []
    for fold in plan.folds:
        if not all(len(dataset.rows((corpus,), "test")) for corpus in fold.test):
            skip(f"{', '.join(fold.test)}: no test row has a label and {' or '.join(views)}; left out")
            continue
        leaks = tuple(
            sorted({c for view in views.values() for c in view.trained_on} & set(fold.test) - set(fold.train))
        )
        for seed in plan.seeds:
            config = _run_config(store, plan, fold, seed, settings, tuple(views))
            path = run_path(store.root, config)
            if (path / "config.json").is_file() and not plan.force:
                results = read_config(path)["environment"]["results"]
                outcomes.append(Outcome(fold, seed, path, True, results, leaks))
                continue
            path, results = _run(store, dataset, fold, seed, settings, tuple(views), config, progress)
            outcomes.append(Outcome(fold, seed, path, False, results, leaks))
    if not outcomes:
        raise DataError("nothing to train: no test row has a label and a feature")
    return outcomes


def _run_config(
    store: FeatureStore, plan: Plan, fold: Fold, seed: int, settings: Training, modalities: tuple[str, ...]
) -> dict[str, Any]:
    """Everything that decides the result of a run."""
    corpora = (*fold.train, *fold.test)
    maps = {name: store.catalog.corpus(name) for name in corpora}
    return {
        "experiment": plan.experiment,
        "protocol": plan.protocol,
        "train": list(fold.train),
        "test": list(fold.test),
        "feature_set": plan.feature_set,
        "seed": seed,
        "modalities": list(modalities),
        "views": {m: v.fingerprint for m, v in store.views(plan.feature_set, modalities).items()},
        "trained_on": {m: list(v.trained_on) for m, v in store.views(plan.feature_set, modalities).items()},
        "shards": sha256_text(canonical_json(_shard_hashes(store, plan.feature_set, modalities, corpora))),
        "samples": {name: sha256_file(samples_path(store.root, name)) for name in sorted(set(corpora))},
        "label_maps": {name: {"map": entry.map, **entry.maps[entry.map].model_dump()} for name, entry in maps.items()},
        "training": settings.model_dump(),
        "version": RUN_VERSION,
    }


def _shard_hashes(
    store: FeatureStore, feature_set: str, modalities: Sequence[str], corpora: Sequence[str]
) -> dict[str, dict[str, str]]:
    views = store.views(feature_set, modalities)
    return {m: {c.shard: c.parquet_sha256 for c in store.committed(v, corpora)} for m, v in views.items()}


def _run(
    store: FeatureStore,
    dataset: Dataset,
    fold: Fold,
    seed: int,
    settings: Training,
    modalities: tuple[str, ...],
    config: dict[str, Any],
    progress: Callable[[str, dict[str, float]], None] | None,
) -> tuple[Path, list[dict[str, Any]]]:
    spec = run_spec(dataset, fold, train_config(settings, modalities), seed)
    result = train_run(dataset, spec, None if progress is None else lambda s, row: progress(s.name, row))
    tested = [evaluate(dataset, result, corpus, "test") for corpus in fold.test]
    validated = [
        evaluate(dataset, result, corpus, "val") for corpus in fold.train if len(dataset.rows((corpus,), "val"))
    ]
    results = [_result_row(e) for e in tested]
    environment = {
        "results": results,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "seconds": round(result.seconds, 3),
        "versions": {tool: version(tool) for tool in ("merloco", "torch", "numpy")},
        "git": _git_state(),
    }
    path = write_run(
        store.root,
        config,
        _metrics(dataset, [*tested, *validated]),
        pa.Table.from_pylist(
            [{"run": None, **row, "epoch": int(row["epoch"])} for row in result.history], EPOCHS_SCHEMA
        ),
        _predictions(dataset, result, tested),
        result.weights,
        environment,
    )
    return path, results


def train_config(settings: Training, modalities: tuple[str, ...]) -> TrainConfig:
    """Settings of the catalog in the form that the trainer takes."""
    known = settings.model_dump()
    return TrainConfig(modalities=modalities, **{k: v for k, v in known.items() if k in TrainConfig.__slots__})


def _result_row(e: Evaluation) -> dict[str, Any]:
    return {
        "corpus": e.corpus,
        "split": e.split,
        "n": e.scores.n,
        "coverage": e.coverage,
        "accuracy": e.scores.accuracy,
        "uar": e.scores.uar,
        "macro_f1": e.scores.macro_f1,
        "weighted_f1": e.scores.weighted_f1,
        "recall": e.scores.recall,
        "support": e.scores.support,
        "majority": {name: getattr(e.majority, name) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")},
    }


def _metrics(dataset: Dataset, evaluations: Sequence[Evaluation]) -> pa.Table:
    rows = []
    for e in evaluations:
        base = {"run": None, "split": e.split, "corpus": e.corpus, "class": None, "n": e.scores.n}
        for name in ("accuracy", "uar", "macro_f1", "weighted_f1"):
            rows.append({**base, "metric": name, "value": getattr(e.scores, name)})
        for name, value in e.scores.recall.items():
            rows.append({**base, "metric": "recall", "class": name, "value": value, "n": e.scores.support[name]})
    return pa.Table.from_pylist(rows, schema=METRICS_SCHEMA)


def _predictions(dataset: Dataset, result: RunResult, evaluations: Sequence[Evaluation]) -> pa.Table:
    rows = []
    classes, modalities = dataset.classes, result.spec.config.modalities
    for e in evaluations:
        for i, row in enumerate(e.rows):
            rows.append(
                {
                    "run": None,
                    "sample_id": str(dataset.sample_id[row]),
                    "corpus": e.corpus,
                    "truth": classes[dataset.label[row]],
                    "prediction": classes[e.prediction[i]],
                    "probabilities": list(zip(classes, e.probabilities[i].tolist(), strict=True)),
                    "gates": list(zip(modalities, e.gates[i].tolist(), strict=True)),
                }
            )
    return pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA)


def _git_state() -> dict[str, Any]:
    """Commit of the workspace and whether it has local changes; empty outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.stdout.strip(), "local_changes": bool(changes.stdout.strip())}

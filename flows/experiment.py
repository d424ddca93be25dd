"""The experiment flow: one task per experiment."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from features.store import FeatureStore
from flows.retrain import Outcome, Plan, execute
from models.protocols import loco_folds
from pipelines.catalog import load_catalog
from pipelines.errors import UsageError, nearest


@task(name="train-runs", cache_policy=NO_CACHE)
def train_task(catalog: str, store: str, plan: Plan) -> list[Outcome]:
    """Train every run of a plan."""
    return execute(FeatureStore.open(store, load_catalog(catalog)), plan)


@flow(name="plan", validate_parameters=False)
def plan_flow(catalog: str, store: str, plan: Plan) -> list[Outcome]:
    """Train a plan that a command made."""
    return train_task(catalog, store, plan)


@flow(name="experiment")
def experiment_flow(catalog: str, store: str, name: str) -> list[dict[str, Any]]:
    """Run a named experiment of the catalog; returns the name and results of every run.

    Raises:
        UsageError: The catalog has no such experiment.
    """
    experiments = load_catalog(catalog).experiments
    if name not in experiments:
        raise UsageError(f"unknown experiment {name!r}: {nearest(name, experiments)}")
    experiment = experiments[name]
    plan = Plan(
        experiment=name,
        protocol=experiment.protocol,
        feature_set=experiment.feature_set,
        folds=tuple(loco_folds(experiment.corpora)),
        seeds=experiment.seeds,
        overrides=tuple(sorted(experiment.training.items())),
    )
    return [{"run": outcome.path.name, "results": outcome.results} for outcome in train_task(catalog, store, plan)]

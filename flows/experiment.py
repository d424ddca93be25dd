"""The experiment flow: one task per experiment."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from features.store import FeatureStore
from flows.plan import Outcome, Plan, experiment_plan
from flows.retrain import execute
from pipelines.catalog import load_catalog


@task(name="train-runs", cache_policy=NO_CACHE)
def train_task(catalog: str, store: str, plan: Plan, device: str = "cpu") -> list[Outcome]:
    """Train every run of a plan."""
    return execute(FeatureStore.open(store, load_catalog(catalog, store)), plan, device=device)


@flow(name="plan", validate_parameters=False)
def plan_flow(catalog: str, store: str, plan: Plan, device: str = "cpu") -> list[Outcome]:
    """Train a plan that a command made."""
    return train_task(catalog, store, plan, device)


@flow(name="experiment")
def experiment_flow(catalog: str, store: str, name: str, device: str = "cpu") -> list[dict[str, Any]]:
    """Run a named experiment of the catalog; returns the name and results of every run.

    Raises:
        UsageError: The catalog has no such experiment.
    """
    plan = experiment_plan(FeatureStore.open(store, load_catalog(catalog, store)), name)
    outcomes = train_task(catalog, store, plan, device)
    return [{"run": outcome.path.name, "results": outcome.results} for outcome in outcomes]

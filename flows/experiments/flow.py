"""The flows that train: a plan that a command made, or a named experiment of the catalog; one task per plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from merloco.features.catalog import load_catalog
from merloco.features.store import FeatureStore
from merloco.flows.arguments import find_device
from merloco.flows.experiments.plan import Plan, RunSummary, experiment_plan
from merloco.flows.experiments.service import execute
from merloco.flows.results.scores import tested_scores
from merloco.flows.results.search import chosen_runs
from merloco.flows.results.tables import result_rows
from merloco.flows.tasks.catalog_names import ExperimentName
from merloco.flows.tasks.display import corpus_tags, feature_tags, record_table, say_and_log, tag_flow_run


def plan_title(plan: Plan) -> str:
    """What a plan is called on the server, for example `loco light 3 seeds`."""
    number = len(plan.seeds)
    return f"{plan.experiment} {'+'.join(feature_sets(plan))} {number} seed{'s' if number > 1 else ''}"


def feature_sets(plan: Plan) -> list[str]:
    """The feature sets of a plan."""
    return list(dict.fromkeys(cell.feature_set for cell in plan.cells))


def plan_tags(plan: Plan) -> set[str]:
    """The corpora and feature sets of a plan."""
    corpora = dict.fromkeys(name for cell in plan.cells for name in (*cell.fold.train, *cell.fold.test))
    return corpus_tags(list(corpora)) | feature_tags(feature_sets(plan))


@task(name="train-runs", task_run_name="train-{plan.experiment}", cache_policy=NO_CACHE)
def train_task(catalog: str, store: str, plan: Plan, device: str = "cpu") -> list[RunSummary]:
    """Train every run of a plan."""
    logger = get_run_logger()
    opened = FeatureStore.open(store, load_catalog(catalog, store))
    outcomes = execute(opened, plan, skip=say_and_log(), device=device)
    for outcome in outcomes:
        done = "read from the store" if outcome.reused else "trained"
        logger.info("run %s: %s, validation UAR %.3f", outcome.path.name, done, outcome.validation)
    return outcomes


@flow(name="train", flow_run_name=lambda: plan_title(flow_run.parameters["plan"]), validate_parameters=False)
def plan_flow(catalog: str, store: str, plan: Plan, device: str = "cpu") -> list[RunSummary]:
    """Train a plan that a command or an experiment made."""
    tags = plan_tags(plan)
    tag_flow_run(tags)
    outcomes = train_task.with_options(tags=tags)(catalog, store, plan, device)
    tested = chosen_runs(outcomes) if plan.protocol == "search" else outcomes
    record_table(f"scores-{plan.experiment}", score_rows(tested), f"{plan_title(plan)}: scores in percent")
    return outcomes


@flow(name="experiment", flow_run_name="experiment {name}")
def experiment_flow(catalog: str, store: str, name: ExperimentName, device: str = "cpu") -> list[dict[str, Any]]:
    """Run a named experiment of the catalog; returns the name and results of every run.

    Raises:
        UsageError: The catalog has no such experiment, or this node no such device.
    """
    plan = experiment_plan(FeatureStore.open(store, load_catalog(catalog, store)), name)
    tag_flow_run(plan_tags(plan))
    outcomes = plan_flow(catalog, store, plan, find_device(device))
    return [{"run": outcome.path.name, "results": outcome.results} for outcome in outcomes]


def score_rows(outcomes: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """The rows of the results table, each with what sets its run apart from the others of an experiment."""
    rows = result_rows(outcomes)
    for position, score in enumerate(tested_scores(outcomes)):  # a row after these is their average
        cell, first = score.outcomes[0].cell, score.results[0]
        rows[position] = {
            **rows[position],
            "features": cell.feature_set,
            "modalities": ", ".join(cell.modalities or first["coverage"]),
            "nullified": first["nullified"] or "-",
            "settings": ", ".join(f"{name} {value}" for name, value in cell.overrides) or "-",
        }
    return rows

"""Retraining without Prefect: load matrices from the store, train all runs of a plan together, score and write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from features.runs import write_run
from features.store import FeatureStore
from flows.jobs import Job, plan_jobs
from flows.plan import Outcome, Plan, train_config, training_settings
from flows.run_records import environment, epochs_table, metrics_table, predictions_table, result_row
from models.evaluation import evaluate
from models.protocols import run_spec
from models.spec import RunResult, RunSpec
from models.train import train_runs
from pipelines.errors import DataError

Progress = Callable[[RunSpec, dict[str, float]], None]


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
    jobs = list(plan_jobs(store, plan, skip))
    if not jobs:
        raise DataError("nothing to train: no test row has a label and a feature")
    outcomes: dict[int, Outcome] = {}
    pending: dict[int, tuple[int, Job]] = {}
    runs = []
    for position, job in enumerate(jobs):
        known = None if plan.force else job.stored(store.root)
        if known is not None:
            outcomes[position] = known
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
        outcomes[position] = _write(store.root, job, result)
        if finished:
            finished(result.spec)
    return [outcomes[position] for position in sorted(outcomes)]


def _write(root: Path, job: Job, result: RunResult) -> Outcome:
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
    for config in job.twins:
        (left_out,) = config["nullify"]
        blind = [evaluate(dataset, result, corpus, "test", (left_out,)) for corpus in fold.test]
        rows = [result_row(e, left_out) for e in blind]
        metrics, predictions = metrics_table(blind), predictions_table(dataset, result, blind)
        write_run(root, config, metrics, epochs_table(result).slice(0, 0), predictions, {}, environment(result, rows))
        results += rows
    return job.outcome(root, record["validation"], results, reused=False)

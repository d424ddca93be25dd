"""Retraining without Prefect: load matrices from the store, train all runs of a plan together, score and write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from merloco.features.runs import finished_runs, run_path, write_run
from merloco.features.store import FeatureStore
from merloco.flows.experiments.jobs import Job, plan_jobs
from merloco.flows.experiments.overlaps import Overlaps
from merloco.flows.experiments.plan import Plan, RunSummary, train_config, training_settings
from merloco.flows.experiments.records import environment, epochs_table, metrics_table, predictions_table, result_row
from merloco.flows.experiments.references import reference_config, reference_results
from merloco.flows.experiments.rounds import all_rounds
from merloco.models.fusion.divergence import DivergedError, joined
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.trainer import train_runs
from merloco.models.metrics.evaluation import evaluate
from merloco.models.protocols import run_spec
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.errors import DataError

Progress = Callable[[RunSpec, dict[str, float]], None]


def execute(
    store: FeatureStore,
    plan: Plan,
    progress: Progress | None = None,
    finished: Callable[[RunSpec | None], None] | None = None,
    skip: Callable[[str], None] = print,
    device: str = "cpu",
) -> list[RunSummary]:
    """Train every cell and seed of a plan; a run that the store holds already is read, not trained.

    One that another experiment has trained is written into this one as well. Runs that diverge are no reason to lose
    the others: these are stored, then the error is raised. In a search they are settings that did not do.

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
        DivergedError: Of some runs a loss, a weight or a feature is not finite: they are not stored.
    """
    store.keep_catalog()

    def train(cells: Plan) -> list[RunSummary]:
        return _train(store, cells, progress, finished, skip, device)

    outcomes = all_rounds(plan, train)
    if not outcomes:
        raise DivergedError("every setting of the search diverged: nothing is stored")
    return outcomes


def _train(
    store: FeatureStore,
    plan: Plan,
    progress: Progress | None,
    finished: Callable[[RunSpec | None], None] | None,
    skip: Callable[[str], None],
    device: str,
) -> list[RunSummary]:
    """Train a plan's own cells: see `execute`."""
    jobs = list(plan_jobs(store, plan, skip))
    if not jobs:
        raise DataError("nothing to train: no test row has a label and a feature")
    outcomes, pending, same = _known(store.root, jobs, plan.force)
    overlaps = Overlaps(store)
    if finished:
        for _ in outcomes:
            finished(None)
    runs = []
    for position in pending:
        job = jobs[position]
        settings = training_settings(store, plan, job.cell)
        config = train_config(settings, tuple(job.config["views"]), job.cell.task)
        runs.append((job.dataset, run_spec(job.dataset, job.cell.fold, config, job.seed, plan.selected_on_test)))
    errors: list[DivergedError] = []
    try:
        with closing(train_runs(runs, progress, device)) as results:
            for result in results:
                position = pending[result.position]
                try:
                    outcomes[position] = _write(overlaps, jobs[position], result)
                except DivergedError as error:
                    errors.append(error)
                if finished:
                    finished(result.spec)
    except DivergedError as error:
        errors.append(error)
    if errors and plan.protocol == "search":
        skip(f"left out of the search: {joined(errors)}")
    elif errors:
        others = f"; the other {len(outcomes)} runs are in the store" if outcomes else ""
        raise DivergedError(f"{joined(errors)}; nothing is stored of what diverged{others}")
    for position in same:  # with views of another name: trained once in this very plan
        outcome = jobs[position].adopted(store.root, finished_runs(store.root))
        if outcome is not None:
            outcomes[position] = outcome
            if finished:
                finished(None)
    _fit_references(overlaps, [jobs[position] for position in sorted(outcomes)], device)
    return [
        replace(outcomes[position], reference=reference_results(store.root, jobs[position].config))
        for position in sorted(outcomes)
    ]


def _fit_references(overlaps: Overlaps, jobs: Sequence[Job], device: str) -> None:
    """Fit the baselines of jobs that the store does not have yet."""
    root = overlaps.store.root
    missing: dict[Path, Job] = {}
    for job in jobs:
        config = reference_config(job.config)
        if not (run_path(root, config) / "config.json").is_file():
            cell = replace(job.cell, overrides=(), nullify=False)
            missing[run_path(root, config)] = replace(job, cell=cell, seed=config["seed"], config=config)
    pending = list(missing.values())
    runs = []
    for job in pending:
        settings = Training.model_validate(job.config["training"])
        trained = train_config(settings, tuple(job.config["views"]), job.cell.task)
        spec = run_spec(job.dataset, job.cell.fold, trained, job.seed, job.config["selected_on_test"])
        runs.append((job.dataset, spec))
    with closing(train_runs(runs, device=device)) as results:
        for result in results:
            _write(overlaps, pending[result.position], result)


def _known(root: Path, jobs: Sequence[Job], force: bool) -> tuple[dict[int, RunSummary], list[int], list[int]]:
    """Positions of the jobs whose run the store holds, of those to train, and of those equal to one that is trained."""
    outcomes: dict[int, RunSummary] = {}
    pending: list[int] = []
    same: list[int] = []
    trained: set[str] = set()
    finished: dict[str, Path] | None = None
    for position, job in enumerate(jobs):
        known = None if force else job.stored(root)
        if known is None and not force:
            finished = finished_runs(root) if finished is None else finished
            known = job.adopted(root, finished)
        if known is not None:
            outcomes[position] = known
        elif job.identity in trained:
            same.append(position)
        else:
            pending.append(position)
            trained.add(job.identity)
    return outcomes, pending, same


def _write(overlaps: Overlaps, job: Job, result: RunResult) -> RunSummary:
    """Score a trained run, write it, and then its nullified ones, which have no weights of their own."""
    fold, dataset, root = job.cell.fold, job.dataset, overlaps.store.root
    tested = [evaluate(dataset, result, corpus, "test") for corpus in fold.test]
    own = [
        evaluate(dataset, result, c, "test") for c in fold.extra_tests if len(dataset.rows((c,), "test", job.cell.task))
    ]
    validated = [
        evaluate(dataset, result, c, "val") for c in fold.train if len(dataset.rows((c,), "val", job.cell.task))
    ]
    results = [
        result_row(e) | {"shared": overlaps.shared(dataset, result.spec.train_rows, e, job.cell.task)}
        for e in (*tested, *own)
    ]
    metrics, predictions = metrics_table([*tested, *own, *validated]), predictions_table(dataset, result, tested)
    blinded = {
        config["nullify"][0]: [evaluate(dataset, result, c, "test", config["nullify"]) for c in fold.test]
        for config in job.nullified_configs
    }
    widths = {name: dataset.features[name].shape[1] for name in result.spec.config.modalities}
    record = environment(result, results, widths)
    write_run(root, job.config, metrics, epochs_table(result), predictions, result.weights, record)
    for config in job.nullified_configs:
        (left_out,) = config["nullify"]
        blind = blinded[left_out]
        rows = [result_row(e, left_out) for e in blind]
        metrics, predictions = metrics_table(blind), predictions_table(dataset, result, blind, (left_out,))
        write_run(
            root, config, metrics, epochs_table(result).slice(0, 0), predictions, {}, environment(result, rows, widths)
        )
        results += rows
    return job.outcome(root, record["validation"], results, reused=False)

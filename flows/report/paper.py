"""An experiment's tables in the shape of the paper, from the runs that the store holds; nothing is trained."""

from __future__ import annotations

from merloco.features.query.matrices import load_matrices
from merloco.features.store import FeatureStore
from merloco.flows.experiments.jobs import plan_jobs
from merloco.flows.experiments.plan import Plan, RunSummary, experiment_plan
from merloco.flows.report.predictions import quoted
from merloco.flows.results.paper import result_tables
from merloco.flows.results.tables import ResultTable
from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.protocols import Cell
from merloco.pipelines.errors import DataError


def paper_tables(store: FeatureStore, name: str) -> tuple[list[ResultTable], str]:
    """Tables of a named experiment of the catalog.

    Args:
        store: The store.
        name: The experiment.

    Returns:
        The tables, or none and a sentence that says why: the catalog has no such experiment, or the store no run of it
        as it is defined now (another label map, features extracted again).
    """
    if name not in store.catalog.experiments:
        return [], f"The catalog has no experiment {name!r}, whose protocol would say which tables."
    rows = store.sql(f"select distinct seed from runs where experiment = {quoted(name)} order by seed").fetchall()
    try:
        plan = experiment_plan(store, name, tuple(seed for (seed,) in rows))
        outcomes = _stored(store, plan)
    except (DataError, ModelError) as error:  # a corpus or a checkpoint is gone: the runs are of another definition
        return [], f"The experiment cannot be planned as the catalog defines it now: {error}"
    if not outcomes:
        return [], (
            "No run of the store is of the experiment as it is defined now: label maps, samples, features or settings "
            f"have changed since. `merloco experiment {name}` trains it again."
        )
    return result_tables(plan.protocol, outcomes), ""


def _stored(store: FeatureStore, plan: Plan) -> list[RunSummary]:
    """Outcomes of a plan's runs that are in the store; an ablation compares, so its corpora are whole or left out."""
    outcomes: dict[Cell, list[RunSummary]] = {}
    for job in plan_jobs(store, plan, skip=lambda _: None, load=_rows):
        stored = outcomes.setdefault(job.cell, [])
        outcome = job.stored(store.root)
        if outcome is not None:
            stored.append(outcome)
    torn = {c for cell in outcomes if not outcomes[cell] for c in cell.fold.test if plan.protocol == "ablation"}
    return [outcome for cell, stored in outcomes.items() if not torn & set(cell.fold.test) for outcome in stored]


def _rows(store: FeatureStore, feature_set: str, corpora: tuple[str, ...], modalities: list[str]) -> Dataset | None:
    """Rows as training has them, but for the vectors: which modality they have decides a run's config, not its values.

    The store's runs alone would not tell: one with fewer modalities may have been trained so by choice.
    """
    try:
        return load_matrices(store, feature_set, corpora, modalities, vectors=False)
    except DataError:  # not extracted, or no longer: no run is of these features, but others may be there
        return None

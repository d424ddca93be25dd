"""An experiment's tables in the shape of the paper, from the runs that the store holds; nothing is trained."""

from __future__ import annotations

from features.store import FeatureStore
from flows.jobs import load_dataset, plan_jobs
from flows.paper_tables import ResultTable, result_tables
from flows.plan import Outcome, Plan, experiment_plan
from flows.report.predictions import quoted
from models.data import Dataset
from models.errors import ModelError
from models.protocols import Cell
from pipelines.errors import DataError


def paper_tables(store: FeatureStore, name: str) -> list[ResultTable]:
    """Tables of a named experiment of the catalog.

    Args:
        store: The store.
        name: The experiment.

    Returns:
        The tables; none where the catalog has no such experiment, or the store no run of it as it is defined now
        (another label map, features extracted again).
    """
    if name not in store.catalog.experiments:
        return []
    rows = store.sql(f"select distinct seed from runs where experiment = {quoted(name)} order by seed").fetchall()
    try:
        plan = experiment_plan(store, name, tuple(seed for (seed,) in rows))
        outcomes = _stored(store, plan)
    except (DataError, ModelError):  # a corpus or a checkpoint is gone: the runs are of another definition
        return []
    return result_tables(plan.protocol, outcomes) if outcomes else []


def _stored(store: FeatureStore, plan: Plan) -> list[Outcome]:
    """Outcomes of a plan's runs that are in the store; an ablation compares, so its corpora are whole or left out."""
    found: dict[Cell, list[Outcome]] = {}
    for job in plan_jobs(store, plan, skip=lambda _: None, load=_rows):
        known = found.setdefault(job.cell, [])
        outcome = job.stored(store.root)
        if outcome is not None:
            known.append(outcome)
    torn = {c for cell in found if not found[cell] for c in cell.fold.test if plan.protocol == "ablation"}
    return [outcome for cell, known in found.items() if not torn & set(cell.fold.test) for outcome in known]


def _rows(store: FeatureStore, feature_set: str, corpora: tuple[str, ...], modalities: list[str]) -> Dataset | None:
    """Rows as training has them, but for the vectors: which modality they have decides a run's config, not its values.

    The store's runs alone would not tell: one with fewer modalities may have been trained so by choice.
    """
    try:
        return load_dataset(store, feature_set, corpora, modalities, vectors=False)
    except DataError:  # not extracted, or no longer: no run is of these features, but others may be there
        return None

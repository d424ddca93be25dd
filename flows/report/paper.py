"""An experiment's tables in the shape of the paper, from the runs that the store holds; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.runs import read_config, run_path
from features.store import FeatureStore
from flows.paper_tables import ResultTable, result_tables
from flows.plan import Outcome, Plan, experiment_plan, run_config
from flows.report.predictions import quoted
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
        outcomes = _stored(FeatureStore(store.root, store.catalog.with_maps(dict(plan.maps))), plan)
    except (DataError, ModelError):  # a corpus or a checkpoint is gone: the runs are of another definition
        return []
    return result_tables(plan.protocol, outcomes) if outcomes else []


def _stored(store: FeatureStore, plan: Plan) -> list[Outcome]:
    """Outcomes of a plan's runs that are in the store; an ablation compares, so its corpora are whole or left out."""
    found: dict[Cell, list[Outcome]] = {cell: [] for cell in plan.cells}
    for cell in plan.cells:
        for seed in plan.seeds:
            outcome = _outcome(store, cell, run_config(store, plan, cell, seed))
            if outcome is not None:
                found[cell].append(outcome)
    torn = {c for cell in plan.cells if not found[cell] for c in cell.fold.test if plan.protocol == "ablation"}
    return [outcome for cell, known in found.items() if not torn & set(cell.fold.test) for outcome in known]


def _outcome(store: FeatureStore, cell: Cell, config: Mapping[str, Any]) -> Outcome | None:
    modalities = config["modalities"] if cell.nullify else []
    twins = [{**config, "protocol": "nullification", "nullify": [modality]} for modality in modalities]
    paths = [run_path(store.root, one) for one in (config, *twins)]
    if not all((path / "config.json").is_file() for path in paths):
        return None
    records = [read_config(path)["environment"] for path in paths]
    seen = {corpus for corpora in config["trained_on"].values() for corpus in corpora}
    return Outcome(
        cell=cell,
        seed=config["seed"],
        path=paths[0],
        reused=True,
        results=[row for record in records for row in record["results"]],
        validation=records[0]["validation"],
        leaks=tuple(sorted(seen & set(cell.fold.test) - set(cell.fold.train))),
        selected_on_test=tuple(config["selected_on_test"]),
    )

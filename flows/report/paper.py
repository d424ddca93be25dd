"""An experiment's tables in the shape of the paper, from the runs that the store holds; nothing is trained."""

from __future__ import annotations

from merloco.features.store import FeatureStore
from merloco.flows.report.definition import DefinedRuns, defined_runs
from merloco.flows.results.paper import result_tables
from merloco.flows.results.tables import ResultTable


def paper_tables(store: FeatureStore, name: str, defined: DefinedRuns | None = None) -> tuple[list[ResultTable], str]:
    """Tables of a named experiment of the catalog.

    Args:
        store: The store.
        name: The experiment.
        defined: Its runs, where they are known already.

    Returns:
        The tables, or none and a sentence that says why: see `merloco.flows.report.definition.defined_runs`.
    """
    defined = defined or defined_runs(store, name)
    if defined.plan is None or not defined.outcomes:
        return [], defined.why
    return result_tables(defined.plan.protocol, defined.outcomes), ""

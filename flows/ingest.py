"""The ingest flow: one task per corpus."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.build import ingest_one
from pipelines.samples import Audit

# The store's fingerprints are the cache; Prefect's own would hash what it cannot see (files) and never hit.
ingest_task = task(name="ingest-corpus", task_run_name="ingest-{name}", cache_policy=NO_CACHE)(ingest_one)


@flow(name="ingest", log_prints=False)
def ingest_flow(catalog: str, store: str, roots: dict[str, str]) -> list[Audit | Exception]:
    """Ingest corpora; a corpus that cannot be read does not keep the others from being read.

    Args:
        catalog: Path of the catalog.
        store: Root of the store.
        roots: Corpus -> release folder.

    Returns:
        An audit, or the error, per corpus in the order of `roots`.
    """
    states = [ingest_task(catalog, store, name, root, return_state=True) for name, root in roots.items()]
    return [state.result(raise_on_failure=False) for state in states]

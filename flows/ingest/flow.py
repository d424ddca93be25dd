"""The ingest flow: one task per corpus."""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from merloco.features.catalog import load_catalog
from merloco.flows.ingest.audit_tables import SUMS, audit_rows, finding_sentences
from merloco.flows.ingest.service import ingest_one
from merloco.flows.tasks.attempts import TasksFailedError, attempt_all
from merloco.flows.tasks.catalog_names import CorpusName
from merloco.flows.tasks.display import corpus_tags, record_table, tag_flow_run
from merloco.pipelines.errors import UsageError
from merloco.pipelines.samples.audit import Audit


# The store's fingerprints are the cache; Prefect's own would hash what it cannot see (files) and never hit.
@task(name="ingest-corpus", task_run_name="ingest-{name}", cache_policy=NO_CACHE)
def ingest_task(catalog: str, store: str, name: str, root: str) -> Audit:
    """Ingest one corpus."""
    audit = ingest_one(catalog, store, name, root)
    logger = get_run_logger()
    logger.info("%s: %d rows found, %d samples, %d usable", audit.root, audit.found, audit.samples, audit.usable)
    for sentence in filter(None, (audit.total, *finding_sentences(audit), *audit.notes)):
        logger.warning(sentence)
    return audit


@flow(
    name="ingest",
    flow_run_name=lambda: f"ingest {', '.join(flow_run.parameters['roots']) or 'all'}",
    log_prints=False,
)
def ingest_flow(catalog: str, store: str, roots: dict[CorpusName, str]) -> dict[str, Audit]:
    """Ingest corpora; a corpus that cannot be read does not keep the others from being read.

    Args:
        catalog: Path of the catalog.
        store: Root of the store.
        roots: Corpus -> release folder; empty takes every corpus that has a root in the catalog.

    Returns:
        An audit per corpus in the order of `roots`.

    Raises:
        UsageError: The catalog has no such corpus, or no corpus has a root: said before any task.
        TasksFailedError: Corpora could not be read; it holds the audits of the others.
    """
    known = load_catalog(catalog, store)
    roots = roots or {name: entry.root for name, entry in known.corpora.items() if entry.root}
    for name in roots:
        known.corpus(name)
    if not roots:
        variables = ", ".join(f"{name.upper()}_ROOT" for name in known.corpora)
        raise UsageError(f"no corpus to ingest: give the parameter roots (corpus: folder), or set {variables}")
    tag_flow_run(corpus_tags(list(roots)))
    tasks = {
        name: partial(ingest_task.with_options(tags=corpus_tags([name])), catalog, store, name, root)
        for name, root in roots.items()
    }
    try:
        audits = attempt_all(tasks)
    except TasksFailedError as error:
        _record([audit for audit in error.outcomes.values() if isinstance(audit, Audit)])
        raise
    _record(list(audits.values()))
    return audits


def _record(audits: list[Audit]) -> None:
    record_table("ingest-audit", audit_rows(audits), SUMS)

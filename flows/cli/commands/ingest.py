"""The command ingest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merloco.features.catalog import load_catalog
from merloco.flows.arguments import parse_roots
from merloco.flows.cli.console import note, progress_bar
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    FlowOption,
    FormatOption,
    RootOption,
    StoreOption,
    next_command,
    open_store,
)
from merloco.pipelines.errors import UsageError

if TYPE_CHECKING:
    from merloco.pipelines.samples.audit import Audit


def ingest(
    corpora: Annotated[list[str] | None, typer.Argument(help="Corpora; all that have a root if none is named.")] = None,
    root: RootOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = True,
) -> None:
    """Read corpora into samples tables and print an audit that adds up.

    Example: merloco ingest meld --root meld=data/MELD.Raw
    """
    from merloco.flows.arguments import corpus_root
    from merloco.flows.cli.console import show
    from merloco.flows.ingest.audit_tables import audit_table, print_audits

    loaded = load_catalog(catalog, store)
    roots = parse_roots(root, loaded)
    names = corpora or [name for name, entry in loaded.corpora.items() if roots.get(name) or entry.root]
    if not names:
        variables = ", ".join(f"{name.upper()}_ROOT" for name in loaded.corpora)
        raise UsageError(f"no corpus to ingest: name one and give --root CORPUS=FOLDER, or set {variables}")
    folders = {name: str(corpus_root(loaded, name, roots)) for name in names}
    target = open_store(catalog, store, create=True)
    outcomes = run_ingest(catalog, str(target.root), folders, flow)
    audits = [outcome for outcome in outcomes.values() if not isinstance(outcome, Exception)]
    if output == "table":
        print_audits(audits)
    else:
        show(audit_table(audits), output)
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    for error in errors[:-1]:
        note(f"error: {error}")
    if errors:
        raise errors[-1]
    if output == "table":
        words = ("extract", "--corpora", ",".join(folders), "--features", "light")
        print(f"\nNext: {next_command(*words, catalog=catalog, store=store)}")


def run_ingest(catalog: str, store: str, roots: dict[str, str], flow: bool) -> dict:
    """Ingest corpora as a flow or directly; an outcome per corpus, errors of data among them.

    No flow is started where every release is as it was at its last ingest: Prefect's start takes longer than reading.
    """
    from merloco.flows.ingest.service import ingest_one
    from merloco.flows.tasks.attempts import TasksFailedError, attempt_all
    from merloco.pipelines.samples.ingest import cached_audit

    entries = load_catalog(catalog, store).corpora
    last = {name: cached_audit(name, entries[name], Path(root), Path(store)) for name, root in roots.items()}
    if all(audit is not None for audit in last.values()):
        note(f"unchanged since the last ingest: {', '.join(roots)}")
        return last
    try:
        if flow:
            from merloco.flows.ingest.flow import ingest_flow

            return ingest_flow(catalog, store, roots)
        with progress_bar(len(roots), "ingest", "corpora") as bar:

            def ingest(name: str, folder: str) -> Audit:
                try:
                    return ingest_one(catalog, store, name, folder)
                finally:
                    bar.update(1)

            return attempt_all({name: partial(ingest, name, folder) for name, folder in roots.items()})
    except TasksFailedError as error:
        return dict(error.outcomes)

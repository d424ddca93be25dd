"""Commands that ask a store: sql, check."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from flows.console import show
from flows.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store
from pipelines.errors import UsageError

# A command of its own, and the parent of `check samples` (flows/commands/corpora.py).
check_app = typer.Typer(name="check", invoke_without_command=True, rich_markup_mode=None)


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(sql)
    check_app.callback()(check)
    app.add_typer(check_app)


def sql(
    query: Annotated[str | None, typer.Argument(help="A DuckDB query; without one, the views are listed.")] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Ask in SQL over samples, labels, feature views, shards, failures, runs, metrics, epochs, predictions, findings.

    Example: merloco sql "select corpus, split, emotion, count(*) from labels group by all order by all"
    """
    import pyarrow as pa

    from features.sql import answer, describe_views

    opened = open_store(catalog, store)
    if query is None:
        rows = [{"view": name, "columns": columns} for name, columns in describe_views(opened)]
        if output == "table":
            for row in rows:
                print(textwrap.fill(f"{row['view']}: {row['columns']}", 118, subsequent_indent="    "))
        else:
            show(pa.Table.from_pylist(rows), output)
        return
    show(answer(opened, query), output)


def check(
    context: typer.Context,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Check every file of the store: hashes, counts, widths, NaN, duplicates, orphans, stale shards.

    Exits with 1 if anything is an error. Example: merloco check --store demo/store

    Samples have a check of their own, see `merloco check samples --help`.
    """
    if context.invoked_subcommand:
        sources = [context.get_parameter_source(name) for name in context.params]
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise UsageError(f"options of `merloco check {context.invoked_subcommand}` go after that word")
        return
    import pyarrow as pa

    from features.checks import check_store

    findings = check_store(open_store(catalog, store))
    columns = pa.schema([(name, pa.string()) for name in ("severity", "code", "where", "message")])
    if findings or output != "table":
        show(pa.Table.from_pylist([asdict(finding) for finding in findings], schema=columns), output)
    errors = sum(finding.severity == "error" for finding in findings)
    if output == "table":
        print(f"{errors} errors, {len(findings) - errors} warnings." if findings else "The store is clean.")
    if errors:
        raise typer.Exit(1)

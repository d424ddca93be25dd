"""The command that asks a store: sql."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from flows.console import show
from flows.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(sql)


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

"""The command that asks a store: sql."""

from __future__ import annotations

import textwrap
import warnings
from typing import Annotated

import typer

from merloco.flows.cli.console import note, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store


def sql(
    query: Annotated[str | None, typer.Argument(help="A DuckDB query; without one, the views are listed.")] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Ask in SQL over samples, labels, feature views, shards, failures, runs, metrics, epochs, predictions, findings.

    Beside DuckDB's functions there is mean_vector(pooled), an aggregate: the mean of vectors, component by component.

    Example: merloco sql "select corpus, emotion, count(*) from labels group by all" --store demo/store
    """
    import pyarrow as pa

    from merloco.features.query.sql import execute
    from merloco.features.query.views import NewestFolderWarning, describe_views

    opened = open_store(catalog, store)
    if query is None:
        rows = [{"view": name, "columns": columns} for name, columns in describe_views(opened)]
        if output == "table":
            for row in rows:
                print(textwrap.fill(f"{row['view']}: {row['columns']}", 118, subsequent_indent="    "))
        else:
            show(pa.Table.from_pylist(rows), output)
        return
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", NewestFolderWarning)
        table = execute(opened, query)
    for warning in warned:
        note(str(warning.message))
    show(table, output)

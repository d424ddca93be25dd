"""The command that asks a store: sql."""

from __future__ import annotations

import re
import sys
import textwrap
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from merloco.flows.cli.console import note, show, show_batches
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store


class QueryCommand(TyperCommand):
    """A command whose argument may begin with an SQL comment, which is no option although it begins with `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set a comment apart from options by a blank before it."""
        return super().parse_args(ctx, [f" {word}" if _COMMENT.match(word) else word for word in args])


_COMMENT = re.compile(r"--(\s|(?![a-z-]+=).*\n)")


def sql(
    query: Annotated[
        str | None, typer.Argument(help="A DuckDB query, or `-` to read it from standard input; without, the views.")
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Ask in SQL over samples, labels, feature views, shards, failures, runs, metrics, epochs, predictions, findings.

    Beside DuckDB's functions there is mean_vector(pooled), an aggregate: the mean of vectors, component by component.

    Example: merloco sql "select corpus, emotion, count(*) from labels group by all" --store demo/store
    """
    import pyarrow as pa

    from merloco.features.query.portable import NUMBERS, PARQUET
    from merloco.features.query.sql import stream
    from merloco.features.query.views import ViewWarning, describe_views

    opened = open_store(catalog, store)
    if query is None:
        rows = [{"view": name, "columns": columns} for name, columns in describe_views(opened)]
        if output == "table":
            for row in rows:
                print(textwrap.fill(f"{row['view']}: {row['columns']}", 118, subsequent_indent="    "))
        else:
            show(pa.Table.from_pylist(rows), output)
        return
    if query == "-":
        query = sys.stdin.read()
    kept = PARQUET if output == "parquet" else NUMBERS
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ViewWarning)
        batches = stream(opened, query, kept)
    for warning in warned:
        note(str(warning.message))
    show_batches(next(batches).schema, batches, output)

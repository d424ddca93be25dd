"""SQL over the store: an in-memory DuckDB connection whose views scan committed Parquet files through Arrow.

The connection has no reach to files or the network: DuckDB sees only what is registered here.
"""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa

from merloco.features.query.columns import unique_names
from merloco.features.query.views import Store, connect, view_names
from merloco.pipelines.errors import DataError, suggest

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""A pivot is a `MULTI`: DuckDB rewrites it into several."""
_UNKNOWN_TABLE = re.compile(r"Table with name (\w+) does not exist")


def run_query(store: Store, query: str) -> duckdb.DuckDBPyRelation:
    """Run one query on a fresh connection.

    Raises:
        DataError: DuckDB refuses the query; the sentence carries its reason and, for an unknown name, the views.
    """
    connection = connect(store, query)
    try:
        _check_statements(connection.extract_statements(query))
        relation = _with_unique_names(connection.sql(query))
    except duckdb.CatalogException as error:
        reason = _reason(error).split(" Did you mean")[0].rstrip("!. ")
        unknown = _UNKNOWN_TABLE.search(reason)
        hint = suggest(unknown[1], view_names(store)).partition("known:")[0] if unknown else ""
        raise DataError(f"SQL: {reason}; {hint}views here: {', '.join(view_names(store))}") from None
    except duckdb.Error as error:
        raise DataError(f"SQL: {_reason(error)}") from None
    return relation


def _with_unique_names(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The same rows under names that no two columns share: whoever reads them by name must not get another's values."""
    names = unique_names(relation.columns)
    if names == relation.columns:
        return relation
    columns = (f"#{number} as {_quoted(name)}" for number, name in enumerate(names, 1))
    return relation.project(", ".join(columns))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_statements(statements: list[duckdb.Statement]) -> None:
    """One query that reads; a store is not changed in SQL, and of several statements only the last would answer."""
    if len(statements) > 1:
        raise DataError(f"SQL: {len(statements)} statements: expected one query at a time")
    if not statements or statements[0].type not in _READING:
        raise DataError(
            "SQL: the statement gives no rows: expected a query such as `select corpus, count(*) from samples`"
        )


def execute(store: Store, query: str) -> pa.Table:
    """Run one query to its end; raises `DataError` also for what goes wrong only while rows are computed."""
    try:
        return run_query(store, query).to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"SQL: {_reason(error)}") from None


def _reason(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = [line for line in lines if not line.startswith(("^", "LINE "))]
    return re.sub(r"\s+", " ", " ".join(reason))

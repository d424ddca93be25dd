"""SQL over the store: an in-memory DuckDB connection whose views scan committed Parquet files through Arrow.

The connection has no reach to files or the network: DuckDB sees only what is registered here. Rows come in batches, so
that an answer may be larger than the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import duckdb
import pyarrow as pa

from merloco.features.query.columns import unique_names
from merloco.features.query.portable import portable_type, quoted
from merloco.features.query.views import Store, connect, view_names
from merloco.pipelines.errors import DataError, suggest

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""A pivot is a `MULTI`: DuckDB rewrites it into several."""
Parameters = Sequence[Any] | Mapping[str, Any] | None
"""Values for the `?` or the `$name` of a query."""
_UNKNOWN_TABLE = re.compile(r"Table with name (\w+) does not exist")


BATCH = 2048
"""Rows that DuckDB computes at a time, and that are handed over at a time."""


def run_query(store: Store, query: str, parameters: Parameters = None) -> duckdb.DuckDBPyRelation:
    """Run one query on a fresh connection.

    Args:
        store: The store.
        query: The query; `?` or `$name` stand for parameters.
        parameters: Their values.

    Raises:
        DataError: DuckDB refuses the query; the sentence carries its reason and, for an unknown name, the views.
    """
    return _relation(store, connect(store, query), query, parameters)


def _relation(
    store: Store, connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters = None
) -> duckdb.DuckDBPyRelation:
    query = _without_end(query)
    try:
        _check_statements(connection.extract_statements(query))
        return _with_unique_names(connection.sql(query, params=parameters))
    except duckdb.CatalogException as error:
        reason = error_text(error).split(" Did you mean")[0].rstrip("!. ")
        unknown = _UNKNOWN_TABLE.search(reason)
        hint = suggest(unknown[1], view_names(store)).partition("known:")[0] if unknown else ""
        raise DataError(f"SQL: {reason}; {hint}views here: {', '.join(view_names(store))}") from None
    except duckdb.Error as error:
        raise DataError(f"SQL: {error_text(error)}") from None


def _without_end(query: str) -> str:
    """A query without what ends it (`;`, comments): DuckDB puts it into another one, where that would be in the way."""
    text = query.encode()
    end = len(text)
    for start, kind in reversed(duckdb.tokenize(query)):
        if kind != duckdb.token_type.comment and text[start:end].strip() != b";":
            break
        end = start
    return text[:end].decode()


def _with_unique_names(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The same rows under names that no two columns share: whoever reads them by name must not get another's values."""
    names = unique_names(relation.columns)
    if names == relation.columns:
        return relation
    return relation.project(", ".join(f"#{number} as {quoted(name)}" for number, name in enumerate(names, 1)))


def _check_statements(statements: list[duckdb.Statement]) -> None:
    """One query that reads; a store is not changed in SQL, and of several statements only the last would answer."""
    if len(statements) > 1:
        raise DataError(f"SQL: {len(statements)} statements: expected one query at a time")
    if not statements or statements[0].type not in _READING:
        raise DataError(
            "SQL: the statement gives no rows: expected a query such as `select corpus, count(*) from samples`"
        )


def stream(store: Store, query: str, kept: frozenset[str]) -> Iterator[pa.RecordBatch]:
    """Run one query and give its rows as they are computed, a batch at a time; the first batch is empty.

    Args:
        store: The store.
        query: The query.
        kept: Types whose values stay as they are; all others come as text (`merloco.features.query.portable`).

    Raises:
        DataError: DuckDB refuses the query, or fails while it computes rows.
    """
    connection = connect(store, query)
    return _interruptible(connection, _batches(store, connection, query, kept))


def _interruptible(
    connection: duckdb.DuckDBPyConnection, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """DuckDB computes in a thread, so that Ctrl-C ends every query: by itself it sees signals now and then."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(int).result()  # it has begun: an executor forgets a thread that Ctrl-C finds half started
        try:
            while (batch := thread.submit(next, batches, None).result()) is not None:
                yield batch
        except BaseException:  # Ctrl-C, or what another signal's handler raises
            idle = thread.submit(int)  # done when the thread has left the query
            while not idle.done():  # DuckDB forgets an interruption that comes before the query has begun
                connection.interrupt()
                wait([idle], timeout=0.05)
            raise


def _batches(
    store: Store, connection: duckdb.DuckDBPyConnection, query: str, kept: frozenset[str]
) -> Iterator[pa.RecordBatch]:
    relation = _relation(store, connection, query)
    columns = (
        f"#{number}::{portable_type(kind, kept)} as {quoted(name)}"
        for number, (name, kind) in enumerate(zip(relation.columns, relation.types, strict=True), 1)
    )
    try:
        reader = relation.project(", ".join(columns)).to_arrow_reader(BATCH)
        # Arrays made of lists would bring pandas, which takes as long to import as a usual query.
        yield pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in reader.schema.types], schema=reader.schema)
        yield from reader
    except (duckdb.Error, OSError) as error:  # of what goes wrong within a batch Arrow makes an OSError
        raise DataError(f"SQL: {error_text(error)}") from None


def error_text(error: Exception) -> str:
    """What DuckDB says, on one line and without a drawing of the query."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = [line for line in lines if not line.startswith(("^", "LINE "))]
    return re.sub(r"\s+", " ", " ".join(reason))

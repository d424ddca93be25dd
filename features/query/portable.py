"""Columns as every format can hold them.

Arrow, Parquet and Python lose values of some DuckDB types without a word: a `TIME WITH TIME ZONE` its zone, a
`UHUGEINT` its digits, a date beyond the year 9999 everything. Such columns, and such parts of nested ones, become text
in SQL, where DuckDB writes every value of every type.
"""

from __future__ import annotations

from duckdb.sqltypes import DuckDBPyType

NUMBERS = frozenset(
    {"boolean", "tinyint", "smallint", "integer", "bigint", "hugeint"}
    | {"utinyint", "usmallint", "uinteger", "ubigint", "float", "double", "decimal"}
)
"""Types whose values JSON, CSV and Python hold as they are; text is text everywhere."""
PARQUET = NUMBERS | {
    *("date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    *("timestamp with time zone", "blob"),
}
"""Types that Parquet has too."""


def portable_type(kind: DuckDBPyType, kept: frozenset[str]) -> str:
    """The type, in SQL, to which a column is cast: the same but for the parts that are not kept, which become text.

    Args:
        kind: Type of the column.
        kept: Names of scalar types that stay: `NUMBERS` or `PARQUET`.

    Example:
        >>> portable_type(DuckDBPyType("STRUCT(day DATE, n INTEGER)[]"), NUMBERS)
        'STRUCT("day" VARCHAR, "n" INTEGER)[]'
    """
    if kind.id not in ("list", "array", "map", "tuple", "struct"):
        return str(kind) if kind.id in kept else "VARCHAR"
    children = kind.children
    parts = [(n, portable_type(part, kept)) for n, part in children if isinstance(part, DuckDBPyType)]
    types = [part for _, part in parts]
    if kind.id == "list":
        return f"{types[0]}[]"
    if kind.id == "array":
        return f"{types[0]}[{dict(children)['size']}]"
    if kind.id != "struct":
        return f"{kind.id.upper()}({', '.join(types)})"
    return f"STRUCT({', '.join(f'{quoted(n)} {part}' for n, part in parts)})" if parts else "VARCHAR"


def quoted(name: str) -> str:
    """A name as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'

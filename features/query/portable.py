"""Columns as every format can hold them.

Arrow, Parquet and Python lose values of some DuckDB types without a word: a `TIME WITH TIME ZONE` its zone, a `UHUGEINT` its
digits, a date beyond the year 9999 everything. Such columns, and such parts of nested ones, become text in SQL, where
DuckDB writes every value of every type.
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
    if kind.id == "list":
        return f"{portable_type(_part(kind, 'child'), kept)}[]"
    if kind.id == "array":
        return f"{portable_type(_part(kind, 'child'), kept)}[{dict(kind.children)['size']}]"
    if kind.id == "map":
        return f"MAP({portable_type(_part(kind, 'key'), kept)}, {portable_type(_part(kind, 'value'), kept)})"
    if kind.id == "tuple":
        return f"TUPLE({', '.join(portable_type(part, kept) for _, part in kind.children)})"
    if kind.id == "struct" and kind.children:
        return f"STRUCT({', '.join(f'{quoted(name)} {portable_type(part, kept)}' for name, part in kind.children)})"
    return str(kind) if kind.id in kept else "VARCHAR"


def _part(kind: DuckDBPyType, name: str) -> DuckDBPyType:
    part: DuckDBPyType = dict(kind.children)[name]
    return part


def quoted(name: str) -> str:
    """A name as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'

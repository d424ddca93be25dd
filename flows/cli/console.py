"""What people see: aligned tables, machine-readable output, progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Literal, TypeVar

import pyarrow as pa

from merloco.features.query.columns import unique_names
from merloco.flows.cli.formats import write_csv, write_json, write_jsonl, write_parquet
from merloco.flows.cli.values import plain_columns

Format = Literal["table", "csv", "jsonl", "json", "parquet"]
MAX_ROWS = 1000
"""Rows of a printed table. Machine-readable formats are never cut."""
MAX_CELL = 60
"""Widest text cell of a wide printed table; longer ones end in an ellipsis."""
MAX_WIDTH = 200
"""A table of at most this many columns of text is printed whole."""
WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "json": write_json, "parquet": write_parquet}


def show(table: pa.Table, output: Format = "table", title: str | None = None) -> None:
    """Print a table in one of the formats; `parquet` writes bytes and wants a redirected standard output.

    Columns of the same name get names of their own (`unique_names`): no format may lose one.
    """
    table = table.rename_columns(unique_names(table.column_names))
    show_batches(table.schema, iter(table.to_batches()), output, title)


def show_batches(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], output: Format = "table", title: str | None = None
) -> None:
    """Print rows of distinct columns as they come; of a table no more are taken than it prints."""
    if output != "table":
        WRITERS[output](schema, batches)
        return
    rows: list[tuple[Any, ...]] = []
    for batch in batches:
        rows += zip(*plain_columns(batch.slice(0, MAX_ROWS + 1 - len(rows))), strict=True)
        if len(rows) > MAX_ROWS:
            break
    print_rows(schema.names, rows, title)


Key = str | tuple[str, str]
"""What a record calls a column: its title, or (kind, title) where the title is a name of the data such as a class."""
K = TypeVar("K", bound=Key)


def tabulate(records: Sequence[Mapping[K, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns, in order of appearance, and rows of records; a class that is called `corpus` has a column of its own."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    titles = [key if isinstance(key, str) else key[1] for key in keys]
    return titles, [[record.get(key) for key in keys] for record in records]


def print_records(records: Sequence[Mapping[K, Any]], title: str | None = None) -> None:
    """Print records as an aligned table (see `tabulate`)."""
    print_rows(*tabulate(records), title)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Print rows, at most `MAX_ROWS`, as an aligned table: numbers to the right, text to the left, `-` for nothing."""
    cut, rows = len(rows) > MAX_ROWS, rows[:MAX_ROWS]
    cells = [[cell_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if sum(widths) + 2 * len(widths) > MAX_WIDTH:
        cells = [[text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…" for text in line] for line in cells]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        any(isinstance(row[i], (int, float, Decimal)) for row in rows)
        and all(isinstance(row[i], (int, float, Decimal, type(None))) or row[i] in ("-", "") for row in rows)
        for i in range(len(columns))
    ]

    def line(values: Sequence[str]) -> str:
        aligned = [v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True)]
        return "  ".join(aligned).rstrip()

    if title:
        print(title)
    print(line(columns))
    print("  ".join("-" * width for width in widths))
    for values in cells:
        print(line(values))
    if cut:
        note(f"only the first {MAX_ROWS:,} rows are printed: --format csv, jsonl, json or parquet gives all of them")


def cell_text(value: Any) -> str:
    """A value as a table shows it, on one line: `-` for nothing, thousands set apart, three decimals."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10000 else str(value)
    if isinstance(value, Decimal):
        return f"{value:,f}" if abs(value) >= 10000 else f"{value:f}"
    if isinstance(value, float):
        usual = value == 0 or 0.001 <= abs(value) < 1e15
        return "-" if value != value else f"{value:.3f}" if usual else f"{value:.3g}"
    text = " ".join(str(value).split())
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def progress_bar(total: int, label: str, unit: str) -> Iterator[Any]:
    """A bar with rate, time left and GPU use on standard error; `bar.update(n)` moves it."""
    from tqdm import tqdm

    from merloco.flows.extract.gpu import gpu_use

    every = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants lines, not a moving bar
    with (
        tqdm(total=total, desc=label, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, mininterval=every) as bar,
        gpu_use(lambda percent: bar.set_postfix_str(f"GPU {percent} %", refresh=False)) as seen,
    ):
        yield bar
    if seen:
        note(f"GPU use: {sum(seen) / len(seen):.0f} % on average")


def note(message: str) -> None:
    """Print a line for people on standard error, so that standard output stays machine-readable."""
    print(message, file=sys.stderr)

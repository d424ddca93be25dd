"""What people see: aligned tables, machine-readable output, progress bars."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import pyarrow as pa

from merloco.features.query.columns import unique_names
from merloco.pipelines.errors import UsageError

Format = Literal["table", "csv", "json", "parquet"]
MAX_CELL = 60
"""Widest text cell of a wide printed table; longer ones end in an ellipsis. Machine-readable formats are never cut."""
MAX_WIDTH = 200
"""A table of at most this many columns of text is printed whole."""


def show(table: pa.Table, output: Format = "table", title: str | None = None) -> None:
    """Print a table in one of the formats; `parquet` writes bytes and wants a redirected standard output.

    Columns of the same name get names of their own (`unique_names`): no format may lose one.
    """
    table = table.rename_columns(unique_names(table.column_names))
    if output == "parquet":
        import pyarrow.parquet as pq

        if sys.stdout.isatty():
            raise UsageError("--format parquet writes bytes: send them to a file, for example `> answer.parquet`")
        sink = io.BytesIO()
        pq.write_table(table, sink)
        sys.stdout.buffer.write(sink.getvalue())
        return
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    if output == "json":
        records = [{name: _plain(value) for name, value in zip(table.column_names, row, strict=True)} for row in rows]
        print(json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False))
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows([_plain_cell(value) for value in row] for row in rows)
    else:
        print_rows(table.column_names, rows, title)


def _plain(value: Any) -> Any:
    """A value that JSON can hold: maps come from Arrow as lists of pairs, and JSON has no NaN and no infinity."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        value = {key if isinstance(key, str) else str(key): item for key, item in value}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _plain_cell(value: Any) -> Any:
    value = _plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


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
    """Print rows as an aligned table: numbers to the right, text to the left, `-` for nothing."""
    cells = [[cell_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if sum(widths) + 2 * len(widths) > MAX_WIDTH:
        cells = [[text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…" for text in line] for line in cells]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        any(isinstance(row[i], (int, float)) for row in rows)
        and all(isinstance(row[i], (int, float, type(None))) or row[i] in ("-", "") for row in rows)
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


def cell_text(value: Any) -> str:
    """A value as a table shows it, on one line: `-` for nothing, thousands set apart, three decimals."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10000 else str(value)
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
    return " ".join(str(_plain_cell(value)).split())


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

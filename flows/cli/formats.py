"""Batches of rows as CSV, JSON, JSON Lines and Parquet, written as they come."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TextIO

import pyarrow as pa

from merloco.flows.cli.values import json_encoder, json_string, plain_columns, slices
from merloco.pipelines.errors import UsageError

ROW_GROUP_BYTES = 2**25
"""Of Arrow data in a row group of a Parquet file."""


def write_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print CSV with a header; what is nested is JSON in its cell."""
    writer = csv.writer(_UnixLines(sys.stdout), lineterminator="\r\n")
    writer.writerow(schema.names)
    for batch in chain.from_iterable(map(slices, batches)):
        columns = zip(batch.schema.types, plain_columns(batch), strict=True)
        writer.writerows(zip(*(_csv_cells(kind, values) for kind, values in columns), strict=True))


class _UnixLines:
    """Ends lines as a shell expects. A `csv.writer` that does so itself leaves a carriage return without quotes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line[:-2] + "\n")


def _csv_cells(kind: pa.DataType, values: list[Any]) -> list[Any]:
    if pa.types.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in values]
    if pa.types.is_floating(kind):
        return [value if value is None or math.isfinite(value) else _INFINITE.get(value) for value in values]
    return values


_INFINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def write_json(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print one JSON array, an object per line."""
    lines = _json_objects(schema, batches)
    first = next(lines, None)
    if first is None:
        print("[]")
        return
    sys.stdout.write(f"[\n  {first}")
    for line in lines:
        sys.stdout.write(f",\n  {line}")
    sys.stdout.write("\n]\n")


def write_jsonl(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print JSON Lines: an object per row."""
    for line in _json_objects(schema, batches):
        sys.stdout.write(f"{line}\n")


def _json_objects(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    keys = [f"{json_string(name)}: " for name in schema.names]
    encoders = [json_encoder(kind) for kind in schema.types]
    for batch in chain.from_iterable(map(slices, batches)):
        columns = [map(encode, column.to_pylist()) for encode, column in zip(encoders, batch.columns, strict=True)]
        for row in zip(*columns, strict=True):
            yield "{" + ", ".join(key + value for key, value in zip(keys, row, strict=True)) + "}"


def write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a Parquet file to standard output.

    Raises:
        UsageError: Standard output is a terminal.
    """
    import pyarrow.parquet as pq

    if sys.stdout.isatty():
        raise UsageError("--format parquet writes bytes: send them to a file, for example `> answer.parquet`")
    writer = pq.ParquetWriter(sys.stdout.buffer, schema)
    try:
        for group in _row_groups(batches):
            writer.write_table(pa.Table.from_batches(group, schema))
    except BaseException:
        writer.is_open = False  # no footer: half an answer must not look like one
        raise
    writer.close()


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group

"""Values of Arrow columns as JSON, CSV and printed tables write them, type by type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as json_string
from typing import Any

import pyarrow as pa

Encoder = Callable[[Any], str]
SLICE_BYTES = 2**20
"""Of Arrow data that become Python objects at a time: these take ten times the memory."""


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows of a batch, few at a time where they are wide."""
    rows = max(1, SLICE_BYTES * batch.num_rows // max(batch.nbytes, 1))
    return (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def json_encoder(kind: pa.DataType) -> Encoder:
    """A function that writes a value of a type as JSON: NaN, for which JSON has no word, is null, infinity is text."""
    encode = _encoder(kind)
    return lambda value: "null" if value is None else encode(value)


def _encoder(kind: pa.DataType) -> Encoder:
    if pa.types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    if pa.types.is_integer(kind):
        return str
    if pa.types.is_floating(kind):
        return _json_float
    if pa.types.is_decimal(kind):
        return lambda value: format(value, "f")
    if pa.types.is_map(kind):
        return _map_encoder(kind)
    if pa.types.is_struct(kind):
        members = [(f.name, f"{json_string(f.name)}: ", json_encoder(f.type)) for f in kind]
        return lambda value: "{" + ", ".join(key + encode(value[name]) for name, key, encode in members) + "}"
    if pa.types.is_nested(kind):
        item = json_encoder(kind.value_type)
        return lambda value: "[" + ", ".join(map(item, value)) + "]"
    return lambda value: json_string(str(value))


def _json_float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "null" if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _map_encoder(kind: pa.MapType) -> Encoder:
    """Arrow gives a map as pairs; what is no text becomes text where JSON wants a key."""
    key, item = json_encoder(kind.key_type), json_encoder(kind.item_type)

    def member(name: Any, value: Any) -> str:
        text = key(name)
        return (text if text.startswith('"') else json_string(text)) + ": " + item(value)

    return lambda value: "{" + ", ".join(member(*pair) for pair in value) + "}"


def plain_columns(batch: pa.RecordBatch) -> list[list[Any]]:
    """Columns of numbers, text and None, for CSV and tables: what is nested is written as JSON."""
    return [_plain(column) for column in batch.columns]


def _plain(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if not pa.types.is_nested(column.type):
        return values
    encode = _encoder(column.type)
    return [None if value is None else encode(value) for value in values]

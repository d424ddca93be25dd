"""Tables of a corpus as rows of text, whatever file they stand in: CSV and its kin, JSON Lines, Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merloco.pipelines.corpora.annotation_files import foreign_content
from merloco.pipelines.corpora.annotation_tables import Row, read_table, spelled_columns
from merloco.pipelines.corpora.folders import find_entry
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.files.text import decode_lines

TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class Records:
    """The rows of one table."""

    file: str
    """Path relative to the root."""
    rows: list[tuple[int, Row | str]]
    """Line (of Parquet: row) from 1, and its cells or what is wrong with it."""
    remarks: list[str]
    """How it was read, where that is worth a note."""
    decimal_comma: bool
    """Whether a comma in a number is its decimal sign."""


def find_tables(folder: Path, name: str) -> list[Path]:
    """Files of a name in a folder, in any case, or of a name with `*`; none where it leads out of the folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return []
    if "*" in name:
        return sorted(found for found in folder.glob(name) if found.is_file() and not found.name.startswith("."))
    entry = find_entry([folder], path.as_posix())
    return [entry] if entry and entry.is_file() else []


def read_records(path: Path, file: str, columns: dict[str, str]) -> Records:
    """Read a table.

    Args:
        path: The file.
        file: Name for messages.
        columns: Key of the catalog -> column that has to be there; case, blanks, `_`, `-` and dots do not count.

    Raises:
        DataError: It is no table, or a column is missing; the sentence names the nearest one.
        OSError: It cannot be read.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(path, file, columns)
    if ending in _JSON:
        return _read_json_lines(path, file, columns)
    table = read_table(path, columns.values(), file)
    instead = foreign_content(path.read_bytes())
    table.require(columns.values() if instead else ())
    _require(file, columns, table.columns)
    rows = list(table.rows())
    expected = "separated by tabs" if ending == ".tsv" else None
    remarks = [remark for remark in table.remarks if remark != expected]
    return Records(file, rows, remarks, table.delimiter != ",")


def _require(file: str, columns: dict[str, str], found: Collection[str]) -> None:
    for key, column in columns.items():
        if column not in found:
            names = {"".join(c if c.isprintable() else "?" for c in name): None for name in found if name}
            raise DataError(f"{file}: columns.{key}: the table has no column {column!r}: {suggest(column, names)}")


def _read_json_lines(path: Path, file: str, columns: dict[str, str]) -> Records:
    lines, remarks = decode_lines(path.read_bytes())
    found: list[tuple[int, dict[str, Any] | str]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append((number, _object(line)))
    objects = [row for _, row in found if isinstance(row, dict)]
    if not objects:
        instead = foreign_content(path.read_bytes())
        first = f"the file is {instead}" if instead else f"line {found[0][0]} is {found[0][1]}"
        raise DataError(f"{file}: {first}; expected JSON Lines: one object per line, {{...}}")
    names = dict.fromkeys(name for row in objects for name in row)
    rows = _texts(found, _spelling(names, columns, remarks), file, columns)
    return Records(file, rows, remarks, False)


def _object(line: str) -> dict[str, Any] | str:
    try:
        value = json.loads(line, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        return f"not a JSON object: {error}"
    return value if isinstance(value, dict) else f"not a JSON object: {line.strip()[:40]!r}"


def _read_parquet(path: Path, file: str, columns: dict[str, str]) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        # What holds files or vectors is no annotation, and may be larger than the memory.
        plain = [
            field.name for field in table.schema_arrow if not pa.types.is_nested(field.type) and not _is_bytes(field)
        ]
        values = table.read(columns=plain)
    except pa.ArrowException as error:
        raise DataError(f"{file}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None
    remarks: list[str] = []
    spelling = _spelling(values.column_names, columns, remarks)
    _require(file, columns, spelling.values())
    found = list(enumerate(values.to_pylist(), start=1))
    return Records(file, _texts(found, spelling, file, columns), remarks, False)


def _is_bytes(field: Any) -> bool:
    return "binary" in str(field.type)


def _spelling(names: Iterable[str], columns: dict[str, str], remarks: list[str]) -> dict[str, str]:
    """Name in the file -> name in the catalog where that is the same but for case and signs."""
    names = list(names)
    spelled = spelled_columns(names, columns.values())
    other = [
        name for name, column in zip(names, spelled, strict=True) if name != column and name not in columns.values()
    ]
    if other:
        remarks.append(f"columns in another spelling ({', '.join(other[:3])}{', ...' if len(other) > 3 else ''})")
    return {
        name: name if name in columns.values() or column in names else column
        for name, column in zip(names, spelled, strict=True)
    }


def _texts(
    found: Iterable[tuple[int, dict[str, Any] | str]], spelling: dict[str, str], file: str, columns: dict[str, str]
) -> list[tuple[int, Row | str]]:
    _require(file, columns, spelling.values())

    def rows() -> Iterator[tuple[int, Row | str]]:
        for number, row in found:
            if isinstance(row, str):
                yield number, row
                continue
            cells = dict.fromkeys(spelling.values(), "") | {spelling[name]: _text(value) for name, value in row.items()}
            if any(cell.strip() for cell in cells.values()):
                yield number, cells

    return list(rows())


def _text(value: Any) -> str:
    """A value as a CSV would have it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)

"""Annotation files as lines: a damaged line costs itself, never the lines around it.

Copies of a release differ in encoding (UTF-8 with or without a byte order mark, cp1252) and in line ends; one odd byte
must not change how the rest of a file reads.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

Cells = list[str]


def read_lines(path: Path) -> list[str]:
    r"""Lines of a text file without their ends (`\n`, `\r\n`, or `\r` where there is no other).

    Each line is UTF-8 or, where it is not, cp1252; a byte order mark is not part of the text.

    Raises:
        OSError: The file cannot be read.
    """
    raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    lines = raw.split(b"\n") if b"\n" in raw else raw.split(b"\r")
    return [_decode(line.rstrip(b"\r")) for line in lines]


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def read_rows(path: Path) -> tuple[Cells, Iterator[tuple[int, Cells | str]]]:
    """Header and rows of a CSV; rows are lines, so that a stray quote costs its own line and not the rest of the file.

    Returns:
        The stripped names of the columns, none where the first line is no CSV row; then, for every line that is not
        blank, its number from 1 and its cells, or a sentence that says why it has none.

    Raises:
        OSError: The file cannot be read.
    """
    lines = read_lines(path)
    header = _cells(lines[0])
    names = [] if isinstance(header, str) else [name.strip() for name in header]
    rows = ((number, _cells(line)) for number, line in enumerate(lines[1:], start=2) if line.strip())
    return names, rows


def _cells(line: str) -> Cells | str:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        return f"not a CSV row: {error}"

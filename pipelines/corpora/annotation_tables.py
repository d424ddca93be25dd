"""Annotation tables: the one reader of every CSV of every parser.

Spreadsheets and scripts leave tables in many forms. What is certain is read, and said in `AnnotationTable.remarks`: the
delimiter, the encoding and the place of the header are those by which the known names of columns are found. What is not
certain costs its own row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from merloco.pipelines.corpora.annotation_files import foreign_content
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.text import decode_lines

Row = dict[str, str]
"""Column -> cell as it stands in the file."""

DELIMITERS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
"""Delimiter -> how sentences call it; the first one where the header does not tell."""
HEADER_LINES = 20
"""Lines at the beginning of a file among which its header is looked for."""
HEADER_BYTES = 65536
"""Beginning of a file in which they are."""
MAX_RECORD_LINES = 100
"""Lines that one row with quoted line breaks may have."""
_SEP = re.compile(r'\s*"?sep=([^"\s\w]|\t)"?[,;|\t]*', re.IGNORECASE)
"""A spreadsheet's first line that names the delimiter."""


@dataclass(slots=True)
class AnnotationTable:
    """A table whose header was found; `rows` reads on."""

    file: str
    """Name for messages."""
    header_line: int
    """Line number of the header, from 1."""
    delimiter: str
    columns: list[str]
    """In the spelling of the parser where it knows them; all different."""
    remarks: list[str]
    """What is other than in a release, complete when all rows have been read."""
    _lines: list[str]
    _repeated: str | None = None
    _instead: str | None = None
    _well_formed: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        d = re.escape(self.delimiter)
        cell = rf'(?:"(?:[^"]|"")*"|[^"{d}]*)'
        self._well_formed = re.compile(rf"{cell}(?:{d}{cell}){{{max(len(self.columns) - 1, 0)}}}")

    def require(self, names: Collection[str], expected: str | None = None) -> None:
        """Demand some columns, each once.

        Args:
            names: The columns.
            expected: What to say of them; their list by default.

        Raises:
            DataError: One is missing, or a known column stands twice.
        """
        if self._repeated:
            raise DataError(self._repeated)
        missing = [name for name in names if name not in self.columns]
        expected = expected or f"the columns {', '.join(names)}"
        if missing and self._instead:
            raise DataError(f"{self.file}: {self._instead}; expected {expected}")
        if missing:
            found = "".join(char if char.isprintable() else "?" for char in ", ".join(self.columns)[:200])
            where = f"separated by {_called(self.delimiter)} in line {self.header_line}"
            raise DataError(
                f"{self.file}: column {missing[0]!r} is missing: expected {expected}; found, {where}: {found}"
            )

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Rows below the header.

        Yields:
            The number of a row's first line, from 1, and its cells, or a sentence that says why it has none. Lines
            without a value are no rows.
        """
        width, blank, broken, position = len(self.columns), 0, 0, self.header_line
        while position < len(self._lines):
            number = position + 1
            line = self._lines[position]
            if not line.strip():
                position += 1
                continue
            cells, position = self._record(position)
            broken += position > number
            if isinstance(cells, list) and not any(cell.strip() for cell in cells):
                blank += 1
                continue
            if isinstance(cells, list):
                while len(cells) > width and not cells[-1].strip():
                    cells.pop()  # a spreadsheet pads rows to the widest
                if len(cells) != width:
                    cells = f"{len(cells)} cells; expected {width}"
            yield number, cells if isinstance(cells, str) else dict(zip(self.columns, cells, strict=True))
        if broken:
            self.remarks.append(f"rows with quoted line breaks: {broken}")
        if blank:
            self.remarks.append(f"rows without a value: {blank}")

    def _record(self, position: int) -> tuple[list[str] | str, int]:
        """The cells of the row that begins at a line, or what is wrong with it, and the position behind it."""
        line = self._lines[position]
        if '"' not in line:
            return line.split(self.delimiter), position + 1
        cells = _cells(line, self.delimiter)
        if isinstance(cells, str) and line.count('"') % 2:
            cells, behind = self._continued(position, cells)
            return cells, behind
        return cells, position + 1

    def _continued(self, position: int, problem: str) -> tuple[list[str] | str, int]:
        """A row with quoted line breaks, if it is one for certain.

        A stray quote must cost its own line and not the rest of the file: a line that is a whole row by itself is no
        part of the row above it, and the row must have as many cells as the header.
        """
        behind = position + 1

        def lines() -> Iterator[str]:
            nonlocal behind
            yield self._lines[position] + "\n"
            for line in self._lines[position + 1 : position + MAX_RECORD_LINES]:
                if self._well_formed.fullmatch(line):
                    return
                behind += 1
                yield line + "\n"

        try:
            cells = next(csv.reader(lines(), delimiter=self.delimiter, strict=True))
        except (csv.Error, StopIteration):
            return problem, position + 1
        return (cells, behind) if len(cells) == len(self.columns) else (problem, position + 1)


def read_table(path: Path, known: Collection[str], file: str | None = None) -> AnnotationTable:
    """Find the header of a table.

    The header is the line among the first ones that has the most known names, by the delimiter that gives the most;
    case, blanks, dots, `-` and `_` in a name do not count.

    Args:
        path: The file.
        known: Names of columns that the parser knows.
        file: Name for messages; the file's own by default.

    Raises:
        OSError: The file cannot be read.
    """
    return _table(path.read_bytes(), known, file or path.name)


def read_columns(path: Path, known: Collection[str]) -> list[str]:
    """Columns of a table, of which only the beginning is read: enough to tell what a file is.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        return _table(stream.read(HEADER_BYTES), known, path.name).columns


def spelled_columns(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Names of columns in the spelling of the known ones; case, blanks, dots, `-` and `_` do not count."""
    spelled = {_key(name): name for name in known}
    return [spelled.get(_key(name), name) for name in names]


def _table(raw: bytes, known: Collection[str], file: str) -> AnnotationTable:
    lines, remarks = decode_lines(raw)
    sep = next((match[1] for line in lines[:HEADER_LINES] if (match := _SEP.fullmatch(line))), None)
    spelled = {_key(name): name for name in known}
    line, delimiter, names = _header(lines, spelled, sep)
    if delimiter != ",":
        remarks.append(f"separated by {_called(delimiter)}")
    if sep is not None:
        remarks.append("a line sep= skipped")
    if line > 1:
        remarks.append(f"header in line {line}")
    columns: list[str] = []
    other: list[str] = []
    twice: list[str] = []
    for position, name in enumerate(names, start=1):
        column = spelled.get(_key(name), name)
        other += [name] * (column != name)
        if column in columns and column in spelled.values():
            twice.append(f"column {column!r} stands twice ({columns.index(column) + 1} and {position})")
        columns.append(column if column and column not in columns else f"{column} (column {position})".strip())
    if other:
        remarks.append(f"columns in another spelling ({', '.join(other[:3])}{', ...' if len(other) > 3 else ''})")
    instead = foreign_content(raw)
    return AnnotationTable(
        file,
        line,
        delimiter,
        columns,
        remarks,
        lines,
        f"{file}:{line}: {twice[0]}: expected it once" if twice else None,
        f"the file is {instead}" if instead else None,
    )


def _header(lines: list[str], spelled: Collection[str], sep: str | None) -> tuple[int, str, list[str]]:
    """Line number, delimiter and stripped names of the header."""
    best: tuple[int, str, list[str]] | None = None
    most = -1
    for number, line in enumerate(lines[:HEADER_LINES], start=1):
        if not line.strip() or _SEP.fullmatch(line):
            continue
        for delimiter in dict.fromkeys((*DELIMITERS, *([sep] if sep else []))):
            cells = _cells(line, delimiter)
            names = [name.strip().strip("\ufeff") for name in cells] if isinstance(cells, list) else []
            found = len({_key(name) for name in names} & set(spelled))
            if found > most:
                best, most = (number, delimiter, names), found
    number, delimiter, names = best or (1, ",", [])
    while names and not names[-1]:
        names.pop()  # a spreadsheet pads rows to the widest
    return number, delimiter, names


def _called(delimiter: str) -> str:
    return DELIMITERS.get(delimiter, repr(delimiter))


def _key(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name.casefold())


def _cells(line: str, delimiter: str) -> list[str] | str:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        return f"not a CSV row: {error}"

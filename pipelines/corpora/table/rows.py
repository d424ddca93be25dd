"""Rows of a table as samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from merloco.pipelines.corpora.annotation_tables import Row
from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.corpora.cells import (
    NO_SPLIT,
    Rewritten,
    decimal,
    known_label,
    split_of,
    time_reader,
    unknown_split,
    whole_number,
)
from merloco.pipelines.corpora.table.files import Records
from merloco.pipelines.corpora.table.first_rows import FirstRows, Names
from merloco.pipelines.corpora.table.ids import NO_PART, sample_id_of
from merloco.pipelines.corpora.table.intervals import Interval
from merloco.pipelines.corpora.table.media import NO_FILE, MediaFolders
from merloco.pipelines.corpora.table.options import Columns
from merloco.pipelines.corpora.units import check_lengths
from merloco.pipelines.samples.schema import Sample

SECONDS = "times as numbers, taken as seconds"
"""How times stand in most tables: no remark."""
TYPICAL_SECONDS = 4.0
LIMITS = (0.05, 600.0)
"""Median seconds that the utterances of a table can have."""
_WHOLE_NAMES = ("name", "speaker", "dialogue", "turn")
"""Columns whose numbers a spreadsheet may have made decimal ones."""


class NoSampleError(Exception):
    """A row that is no sample, and why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all tables of a corpus have in common."""

    corpus: str
    columns: Columns
    values: Mapping[str, Mapping[str, str]]
    labels: Collection[str]
    """Native names of the catalog's maps."""
    media: MediaFolders
    first_rows: FirstRows


def read_samples(reading: Reading, records: Records, file_split: str | None, parsed: Parsed) -> Iterator[Sample]:
    """The samples of a table; every other row becomes an error of `parsed`.

    Args:
        reading: What the corpus's tables have in common.
        records: The table.
        file_split: The split that the table is, null where it is none.
        parsed: Gets errors, and a note on how the table was read.

    Raises:
        DataError: Rows of one utterance that differ, or times in another unit than seconds.
    """
    reader = _RowReader(reading, records, file_split)
    lengths: dict[str, float] = {}
    for line, row in records.rows:
        try:
            sample, names, problems = reader.sample(row)
        except NoSampleError as problem:
            parsed.errors.append(RowError("bad_row", records.file, line, str(problem)))
            continue
        if not reading.first_rows.add(sample, names, records.file, line):
            continue
        parsed.errors += [RowError(code, records.file, line, problem) for code, problem in problems]
        if sample.start is not None and sample.end is not None:
            lengths[f"{records.file}:{line}"] = sample.end - sample.start
        yield sample
    start, end = reading.columns.start, reading.columns.end
    if start and end:
        check_lengths(lengths, end, start, TYPICAL_SECONDS, LIMITS, "for an utterance")
    parsed.add_reading(records.file, [*records.remarks, *reader.remarks()])


class _RowReader:
    """How the rows of one table read."""

    def __init__(self, reading: Reading, records: Records, file_split: str | None) -> None:
        columns, rows = reading.columns, [row for _, row in records.rows if isinstance(row, dict)]
        times = [column for column in (columns.start, columns.end) if column]
        self._reading, self._columns, self._file_split = reading, columns, file_split
        self._decimal_comma = records.decimal_comma
        self._seconds: Callable[[str], float | None]
        self._seconds, self._form = time_reader(row[column] for row in rows for column in times)
        self._rewritten = Rewritten()
        self._whole = [
            key
            for key in _WHOLE_NAMES
            if (column := getattr(columns, key))
            and all(whole_number(row[column]) is not None for row in rows if row[column].strip())
        ]

    def remarks(self) -> list[str]:
        """What stands otherwise than the catalog would have it."""
        return [*([self._form] if self._form and self._form != SECONDS else []), *self._rewritten.notes()]

    def sample(self, row: Row | str) -> tuple[Sample, Names, list[tuple[str, str]]]:
        """A row as a sample, the names its id is made of, and codes and sentences of what costs no row.

        Raises:
            NoSampleError: It is none.
        """
        if isinstance(row, str):
            raise NoSampleError(row)
        problems: list[tuple[str, str]] = []
        speaker, dialogue, label = (self._cell(row, key) for key in ("speaker", "dialogue", "label"))
        split, turn, interval = self._split(row), self._turn(row), self._interval(row, problems)
        text = " ".join(self._cell(row, "text").split())
        part = dialogue or speaker or (split if self._columns.split else "" if self._file_split else NO_PART)
        names = (*filter(None, (self._file_split, part)), *self._names(row, turn, interval))
        native = {
            c: cell for c, cell in row.items() if c not in (self._columns.text, *self._columns.intensities.values())
        }
        sample = Sample(
            sample_id=sample_id_of(self._reading.corpus, names),
            corpus=self._reading.corpus,
            split=split,
            label=self._label(label) if label else None,
            intensities=self._intensities(row),
            # Tables of splits often number their dialogues from the beginning each.
            dialogue=f"{self._file_split}/{dialogue}" if dialogue and self._file_split else dialogue or None,
            speaker=speaker or None,
            turn=turn,
            text=text or None,
            text_status="ok" if text else "no_text",
            text_source="transcript" if text else "none",
            native=native,
            **interval.columns(),
            **self._media(row, interval, problems),
        )
        return sample, names, problems

    def _cell(self, row: Row, key: str) -> str:
        """What a row has in the column of a shared name, empty where it has none."""
        column = getattr(self._columns, key)
        if column is None:
            return ""
        cell = row[column].strip()
        if key in self._whole and not cell.isdigit() and (number := whole_number(cell)) is not None:
            self._rewritten.add("ids taken as whole numbers", repr(cell))
            cell = str(number)
        return self._reading.values.get(key, {}).get(cell, cell)

    def _label(self, cell: str) -> str:
        label = known_label(cell, self._reading.labels)
        if label != cell:
            self._rewritten.add("labels in another spelling", f"{cell!r} taken as {label!r}")
        return label

    def _split(self, row: Row) -> str:
        word = self._file_split or self._cell(row, "split")
        split = split_of(word)
        if split is None and word.casefold() not in NO_SPLIT:
            raise NoSampleError(f"{unknown_split(word)}, or none or 3 for no split")
        return split or "none"

    def _turn(self, row: Row) -> int | None:
        cell = self._cell(row, "turn")
        turn = whole_number(cell) if cell else None
        if cell and turn is None:
            raise NoSampleError(f"{self._columns.turn} is {cell!r}; expected a whole number")
        return turn

    def _intensities(self, row: Row) -> dict[str, float] | None:
        columns = self._columns.intensities
        if not any(row[column].strip() for column in columns.values()):
            return None
        values = {}
        for name, column in columns.items():
            value = decimal(row[column], comma=self._decimal_comma)
            if value is None or value < 0:
                raise NoSampleError(f"{column} is {row[column]!r}; expected an intensity of 0 or more")
            values[name] = value
        return values

    def _interval(self, row: Row, problems: list[tuple[str, str]]) -> Interval:
        ends: list[float | None] = []
        for key in ("start", "end"):
            cell = self._cell(row, key)
            ends.append(self._seconds(cell) if cell else None)
            if cell and ends[-1] is None:
                column = getattr(self._columns, key)
                problems.append(("bad_time", f"{column} is {cell!r}; expected seconds, or a time such as 0:00:01.500"))
        interval = Interval(ends[0], ends[1], not problems)
        if interval.is_empty and not problems:
            found = f"{interval.start or 0:g}-{interval.end:g} s"
            problems.append(("bad_time", f"the interval {found} is empty; expected an end after its start"))
        return interval

    def _names(self, row: Row, turn: int | None, interval: Interval) -> Names:
        columns = self._columns
        if columns.name:
            name = self._cell(row, "name")
            if not name.strip("/ "):
                raise NoSampleError(f"{columns.name} is empty; expected the name of the utterance")
            return (name,)
        path = next((cell for key in ("media", "video", "audio") if (cell := self._cell(row, key))), "")
        if path:
            cells = [self._cell(row, key) for key in ("start", "end")]
            times = zip((interval.start, interval.end), cells, strict=True)
            ends = (cell if seconds is None else str(round(seconds * 1000)) for seconds, cell in times)
            return self._reading.media.name_of(path), *([f"t{'-'.join(ends)}"] if any(cells) else [])
        if turn is None:
            named = ", ".join(c for key in ("media", "video", "audio", "turn") if (c := getattr(columns, key)))
            raise NoSampleError(f"{named} is empty; expected what names the utterance")
        return (str(turn),)

    def _media(self, row: Row, interval: Interval, problems: list[tuple[str, str]]) -> dict[str, Any]:
        media, columns = self._reading.media, self._columns
        if columns.media:
            either = media.find(self._cell(row, "media"))
            audio, video = either, either if either.is_video else NO_FILE
        else:
            video = media.find(self._cell(row, "video"), video=True)
            audio = media.find(self._cell(row, "audio"), video=False) if columns.audio else video
        problems += [("bad_path", file.problem) for file in dict.fromkeys((audio, video)) if file.problem]
        return interval.media_columns("audio", audio) | interval.media_columns("video", video)

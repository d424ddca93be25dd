"""Rows of a table as samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from merloco.pipelines.corpora.annotation_tables import Row
from merloco.pipelines.corpora.base import Parsed, RowError, disagreement, duplicate
from merloco.pipelines.corpora.cells import (
    Rewritten,
    decimal,
    known_label,
    split_of,
    time_reader,
    unknown_split,
    whole_number,
)
from merloco.pipelines.corpora.table.files import Records
from merloco.pipelines.corpora.table.ids import NO_PART, sample_id_of
from merloco.pipelines.corpora.table.media import NO_FILE, MediaFile, MediaFolders
from merloco.pipelines.corpora.table.options import Columns
from merloco.pipelines.corpora.units import check_lengths
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

NO_SPLIT = ("", "none", "3", "nan", "null")
"""Words for no split, in lower case."""
SECONDS = "times as numbers, taken as seconds"
"""How times stand in most tables: no remark."""
TYPICAL_SECONDS = 4.0
LIMITS = (0.05, 600.0)
"""Median seconds that the utterances of a table can have."""
_WHOLE_NAMES = ("name", "speaker", "dialogue", "turn")
"""Columns whose numbers a spreadsheet may have made decimal ones."""
_BAD_INTERVAL = "bad_interval"


class _NoSampleError(Exception):
    """A row that is no sample, and why."""


@dataclass(slots=True)
class _Duplicates:
    """First sample of each id, and the names that it was made of."""

    samples: dict[str, Sample]
    names: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RowReader:
    """What the rows of all tables of a corpus have in common."""

    corpus: str
    columns: Columns
    values: Mapping[str, Mapping[str, str]]
    labels: Collection[str]
    """Native names of the catalog's maps."""
    media: MediaFolders
    parsed: Parsed
    _first: _Duplicates

    @classmethod
    def of(
        cls,
        corpus: str,
        columns: Columns,
        values: Mapping[str, Mapping[str, str]],
        labels: Collection[str],
        media: MediaFolders,
        parsed: Parsed,
    ) -> RowReader:
        """A reader that has seen no row."""
        return cls(corpus, columns, values, labels, media, parsed, _Duplicates({}, {}))

    def read(self, records: Records, file_split: str | None) -> Iterator[Sample]:
        """The samples of a table; every other row becomes an error of `parsed`.

        Args:
            records: The table.
            file_split: The split that the table is, null where it is none.

        Raises:
            DataError: Rows of one utterance that differ, or times in another unit than seconds.
        """
        table = _TableReader(self, records, file_split)
        lengths: dict[str, float] = {}
        for number, row in records.rows:
            try:
                sample, names, problems = table.sample(row)
            except _NoSampleError as problem:
                self.parsed.errors.append(RowError("bad_row", records.file, number, str(problem)))
                continue
            if not self._is_first(sample, names, records.file, number):
                continue
            errors = [RowError(code, records.file, number, problem) for code, problem in problems]
            self.parsed.errors += errors
            if sample.start is not None and sample.end is not None:
                lengths[f"{records.file}:{number}"] = sample.end - sample.start
            yield sample
        if self.columns.start and self.columns.end:
            check_lengths(lengths, self.columns.end, self.columns.start, TYPICAL_SECONDS, LIMITS, "for an utterance")
        self.parsed.add_reading(records.file, [*records.remarks, *table.remarks()])

    def _is_first(self, sample: Sample, names: tuple[str, ...], file: str, number: int) -> bool:
        first = self._first.samples.setdefault(sample.sample_id, sample)
        if first is sample:
            self._first.names[sample.sample_id] = names
            self.parsed.places[sample.sample_id] = file, number
            return True
        where = self.parsed.places[sample.sample_id]
        before = self._first.names[sample.sample_id]
        if before != names:
            problem = (
                f"{_called(names)} gives the sample id {sample.sample_id}, as {_called(before)} of "
                f"{where[0]}:{where[1]} does, which is kept; expected names that differ in letters and digits"
            )
            self.parsed.errors.append(RowError("same_id", file, number, problem))
            return False
        differing = _difference(first, sample)
        if differing:
            raise DataError(disagreement(file, number, sample.sample_id, where, *differing))
        self.parsed.errors.append(duplicate(file, number, sample.sample_id, where))
        return False


def _called(names: tuple[str, ...]) -> str:
    return repr("/".join(names))


def _difference(first: Sample, second: Sample) -> tuple[str, object, object] | None:
    """The first thing in which two rows of one utterance differ."""
    for name in (
        "label",
        "intensities",
        "split",
        "speaker",
        "turn",
        "start",
        "end",
        "text",
        "audio_path",
        "video_path",
    ):
        if getattr(first, name) != getattr(second, name):
            return name, getattr(first, name), getattr(second, name)
    return None


@dataclass(slots=True)
class _TableReader:
    """How the rows of one table read."""

    reader: RowReader
    records: Records
    file_split: str | None
    seconds: Callable[[str], float | None] = lambda _: None
    form: str | None = None
    whole: tuple[str, ...] = ()
    rewritten: Rewritten | None = None

    def __post_init__(self) -> None:
        columns, rows = self.reader.columns, [row for _, row in self.records.rows if isinstance(row, dict)]
        times = [column for column in (columns.start, columns.end) if column]
        self.seconds, self.form = time_reader(row[column] for row in rows for column in times)
        self.rewritten = Rewritten()
        self.whole = tuple(
            key
            for key in _WHOLE_NAMES
            if (column := getattr(columns, key))
            and all(whole_number(row[column]) is not None for row in rows if row[column].strip())
        )

    def remarks(self) -> list[str]:
        assert self.rewritten is not None
        return [*([self.form] if self.form and self.form != SECONDS else []), *self.rewritten.notes()]

    def sample(self, row: Row | str) -> tuple[Sample, tuple[str, ...], list[tuple[str, str]]]:
        """A row as a sample, the names its id is made of, and what in it could not be read but costs no row.

        Raises:
            _NoSampleError: It is none.
        """
        if isinstance(row, str):
            raise _NoSampleError(row)
        columns, problems = self.reader.columns, list[tuple[str, str]]()
        speaker, dialogue = self._cell(row, "speaker"), self._cell(row, "dialogue")
        split = self._split(row)
        turn = self._turn(row)
        interval = self._interval(row, problems)
        text = " ".join(self._cell(row, "text").split())
        part = dialogue or speaker or (self._cell(row, "split") if not self.file_split else "") or NO_PART
        names = (*([self.file_split] if self.file_split else []), part, self._name(row, turn, interval))
        label = self._cell(row, "label")
        sample = Sample(
            sample_id=sample_id_of(self.reader.corpus, names),
            corpus=self.reader.corpus,
            split=split,
            label=self._label(label) if label else None,
            intensities=self._intensities(row),
            dialogue=f"{self.file_split}/{dialogue}" if dialogue and self.file_split else dialogue or None,
            speaker=speaker or None,
            turn=turn,
            text=text or None,
            text_status="ok" if text else "no_text",
            text_source="transcript" if text else "none",
            native={c: cell for c, cell in row.items() if c not in (columns.text, *columns.intensities.values())},
            **interval.columns,
        )
        return replace(sample, **self._media(row, interval, problems)), names, problems

    def _cell(self, row: Row, key: str) -> str:
        """What a row has in the column of a shared name, empty where it has none."""
        column = getattr(self.reader.columns, key)
        if column is None:
            return ""
        cell = row[column].strip()
        if key in self.whole and not cell.isdigit() and (number := whole_number(cell)) is not None:
            assert self.rewritten is not None
            self.rewritten.add("ids taken as whole numbers", repr(cell))
            cell = str(number)
        return self.reader.values.get(key, {}).get(cell, cell)

    def _label(self, cell: str) -> str:
        label = known_label(cell, self.reader.labels)
        if label != cell and self.rewritten is not None:
            self.rewritten.add("labels in another spelling", f"{cell!r} taken as {label!r}")
        return label

    def _split(self, row: Row) -> str:
        if self.file_split is not None:
            return "none" if self.file_split == "none" else split_of(self.file_split) or "none"
        word = self._cell(row, "split")
        split = split_of(word)
        if split is None and word.casefold() not in NO_SPLIT:
            raise _NoSampleError(f"{unknown_split(word)}, or none or 3 for no split")
        return split or "none"

    def _turn(self, row: Row) -> int | None:
        cell = self._cell(row, "turn")
        turn = whole_number(cell) if cell else None
        if cell and turn is None:
            raise _NoSampleError(f"{self.reader.columns.turn} is {cell!r}; expected a whole number")
        return turn

    def _intensities(self, row: Row) -> dict[str, float] | None:
        columns = self.reader.columns.intensities
        if not any(row[column].strip() for column in columns.values()):
            return None
        values = {}
        for name, column in columns.items():
            value = decimal(row[column], comma=self.records.decimal_comma)
            if value is None or value < 0:
                raise _NoSampleError(f"{column} is {row[column]!r}; expected an intensity of 0 or more")
            values[name] = value
        return values

    def _interval(self, row: Row, problems: list[tuple[str, str]]) -> _Interval:
        columns = self.reader.columns
        ends: dict[str, float | None] = {}
        for key in ("start", "end"):
            cell = self._cell(row, key)
            ends[key] = self.seconds(cell) if cell else None
            if cell and ends[key] is None:
                problems.append(
                    ("bad_time", f"{getattr(columns, key)} is {cell!r}; expected seconds, or a time 0:00:01.500")
                )
        start, end = ends["start"], ends["end"]
        if problems:
            return _Interval(start, end, _BAD_INTERVAL)
        if end is not None and end <= max(start or 0.0, 0.0):
            problems.append(
                ("bad_time", f"the interval {start or 0:g}-{end:g} s is empty; expected an end after its start")
            )
            return _Interval(start, end, _BAD_INTERVAL)
        return _Interval(start, end, "negative_start" if start is not None and start < 0 else None)

    def _name(self, row: Row, turn: int | None, interval: _Interval) -> str:
        columns = self.reader.columns
        if columns.name:
            name = self._cell(row, "name")
            if not name.strip("/ "):
                raise _NoSampleError(f"{columns.name} is empty; expected the name of the utterance")
            return name
        path = next((cell for key in ("media", "video", "audio") if (cell := self._cell(row, key))), "")
        if path:
            cells = [self._cell(row, key) for key in ("start", "end")]
            times = zip((interval.start, interval.end), cells, strict=True)
            ends = (cell if seconds is None else str(round(seconds * 1000)) for seconds, cell in times)
            return self.reader.media.name_of(path) + (f"_t{'-'.join(ends)}" if any(cells) else "")
        if turn is None:
            named = ", ".join(c for key in ("media", "video", "audio", "turn") if (c := getattr(columns, key)))
            raise _NoSampleError(f"{named} is empty; expected what names the utterance")
        return str(turn)

    def _media(self, row: Row, interval: _Interval, problems: list[tuple[str, str]]) -> dict[str, Any]:
        """Columns of a sample about its media; of no interval that can be cut, none is read."""
        media = self.reader.media
        if self.reader.columns.media:
            either = media.find(self._cell(row, "media"))
            audio, video = either, either if either.is_video else NO_FILE
        else:
            video = media.find(self._cell(row, "video"), video=True)
            audio = media.find(self._cell(row, "audio"), video=False) if self.reader.columns.audio else video
        problems += [("bad_path", file.problem) for file in dict.fromkeys((audio, video)) if file.problem]
        return {
            **_file_columns("audio", audio, interval),
            **_file_columns("video", video, interval),
        }


@dataclass(frozen=True, slots=True)
class _Interval:
    start: float | None
    end: float | None
    mark: str | None
    """`bad_interval` where nothing can be cut by it."""

    @property
    def columns(self) -> dict[str, Any]:
        """What a sample says of the interval itself."""
        if self.mark == _BAD_INTERVAL:
            return {"start": self.start, "end": self.end, "marks": (_BAD_INTERVAL,)}
        start = None if self.start is None else max(self.start, 0.0)
        duration = None if self.end is None else round(self.end - (start or 0.0), 4)
        return {"start": start, "end": self.end, "duration": duration, "marks": (self.mark,) if self.mark else ()}


def _file_columns(kind: str, file: MediaFile, interval: _Interval) -> dict[str, Any]:
    if not file.found:
        return {f"{kind}_path": file.path, f"{kind}_status": "missing_media"}
    if interval.mark == _BAD_INTERVAL:
        return {f"{kind}_path": file.path, f"{kind}_status": _BAD_INTERVAL}
    times = interval.columns
    return {f"{kind}_path": file.path, f"{kind}_start": times["start"], f"{kind}_end": times["end"]}

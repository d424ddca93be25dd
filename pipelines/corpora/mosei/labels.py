"""CMU-MOSEI's labels from CSVs: the raw worker tables and the common label tables.

All readers, that of the .csd too, give the same rows: video, clip or interval, and mean intensities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from merloco.pipelines.corpora.annotation_tables import AnnotationTable, Row, read_columns, read_table
from merloco.pipelines.corpora.base import Parsed, RowError, disagreement
from merloco.pipelines.corpora.cells import (
    NO_SPLIT,
    Rewritten,
    clock_seconds,
    decimal,
    split_of,
    unknown_split,
    whole_number,
)
from merloco.pipelines.errors import DataError

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
NAMES = ("sentiment", *EMOTIONS)
"""Order of the .csd dimensions where its metadata does not name them; no table needs `sentiment`."""
ALIASES = {"happiness": "happy", "sadness": "sad", "angry": "anger"}
VIDEO, CLIP, ANSWER = "Input.VIDEO_ID", "Input.CLIP", "Answer."
"""Columns of the worker tables."""
TABLE = {"video": ("video", "file", "video_id"), "start": ("start_time", "start"), "end": ("end_time", "end")}
"""Columns of the label tables, by the names under which they are found."""
KNOWN = (
    *(name for names in TABLE.values() for name in names),
    *(prefix + name for prefix in ("", ANSWER) for name in (*NAMES, *ALIASES)),
    *("split", "text", VIDEO, CLIP),
)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Mean intensities of one segment."""

    video: str
    clip: str | None
    """Clip number, where the source has one."""
    start: float | None
    """Seconds, as released (may be negative)."""
    end: float | None
    values: dict[str, float]
    """The six emotions, and `sentiment` where the source has it, rounded to 6 decimals."""
    file: str
    line: int
    split: str | None = None
    """Split, where the source has one."""
    text: str | None = None
    """Words of the segment, where the source has them."""


def means_of(numbers: Mapping[str, float]) -> dict[str, float]:
    """`sentiment` and the six emotions in order, rounded so that every source gives the same numbers."""
    return {name: round(float(numbers[name]), 6) for name in NAMES if name in numbers}


def read_workers(paths: list[Path], parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the raw worker CSVs, averaged over the workers of each clip; intervals come from the transcripts.

    A worker's row that cannot be read costs one vote of its clip.

    Raises:
        DataError: A worker table lacks a column that is used, or has one twice.
    """
    votes: dict[tuple[str, str], list[dict[str, float]]] = {}
    first: dict[tuple[str, str], tuple[str, int]] = {}
    for path in paths:
        table = read_table(path, KNOWN)
        expected = f"{VIDEO}, {CLIP} and {ANSWER} with each of {', '.join(EMOTIONS)}"
        columns = _emotion_columns(table, ANSWER, [VIDEO, CLIP], expected)
        rewritten = Rewritten()
        for line, cells in table.rows():
            row = {} if isinstance(cells, str) else cells
            clip = _video(row.get(VIDEO, ""), rewritten), _clip(row.get(CLIP, ""), rewritten)
            numbers = _numbers(row, columns, table, rewritten)
            if all(clip):
                first.setdefault(clip, (table.file, line))
            if not all(clip) or numbers is None:
                problem = cells if isinstance(cells, str) else f"expected a video, a clip and {len(columns)} numbers"
                parsed.errors.append(RowError("bad_vote", table.file, line, problem))
                continue
            votes.setdefault(clip, []).append(numbers)
        parsed.add_reading(table.file, [*table.remarks, *rewritten.notes()])
    for (video, number), where in sorted(first.items()):
        workers = votes.get((video, number))
        if workers is None:
            parsed.errors.append(RowError("bad_row", *where, f"{video} clip {number}: no worker's row can be read"))
            continue
        names = [name for name in NAMES if all(name in worker for worker in workers)]
        means = {name: float(np.mean([worker[name] for worker in workers])) for name in names}
        yield LabelRow(video, number, None, None, means_of(means), *where)


def read_label_tables(paths: list[Path], parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the common label tables: video, start_time, end_time and the six emotions; sentiment where it is there.

    The split is that of the column `split`, else that of a file name such as `Data_Train_modified.csv`.

    Raises:
        DataError: A table lacks a column that is used, or has one twice; a split has an unknown name; two rows of one
            segment disagree.
    """
    seen: dict[tuple[str, float, float], LabelRow] = {}
    for path in paths:
        table = read_table(path, KNOWN)
        places = {name: next((o for o in options if o in table.columns), None) for name, options in TABLE.items()}
        needed = [column or TABLE[name][0] for name, column in places.items()]
        expected = f"the columns {', '.join(options[0] for options in TABLE.values())}, {', '.join(EMOTIONS)}"
        columns = _emotion_columns(table, "", needed, expected)
        rewritten = Rewritten()
        named = next((s for word in re.split(r"[\W_]+", Path(table.file).stem) if (s := split_of(word))), None)
        for line, cells in table.rows():
            row = {} if isinstance(cells, str) else cells
            video = _video(row.get(needed[0], ""), rewritten)
            begin, until = (_seconds(row.get(column, ""), table, rewritten) for column in needed[1:])
            numbers = _numbers(row, columns, table, rewritten)
            if not video or begin is None or until is None or numbers is None:
                expectation = f"expected a video, an interval and {len(columns)} numbers"
                parsed.errors.append(
                    RowError("bad_row", table.file, line, cells if isinstance(cells, str) else expectation)
                )
                continue
            split = named if "split" not in row else _split(row["split"], table.file, line, rewritten)
            text = " ".join(row.get("text", "").split()) or None
            found = LabelRow(video, None, begin, until, means_of(numbers), table.file, line, split, text)
            first = seen.setdefault((video, begin, until), found)
            for what in ("values", "split", "text"):
                if getattr(first, what) != getattr(found, what):
                    name = f"{video} {begin:g}-{until:g} s"
                    where = (first.file, first.line)
                    raise DataError(
                        disagreement(
                            table.file, line, name, where, *_differing(what, getattr(first, what), getattr(found, what))
                        )
                    )
            yield found
        parsed.add_reading(table.file, [*table.remarks, *rewritten.notes()])


def table_kind(path: Path) -> str:
    """What a CSV beside the data is, by its header: `labels`, `workers`, `no_emotions` or `other`.

    A table of which at most one expected column is missing is taken for what it nearly is, so that the reader can name
    the column.
    """
    header = set(read_columns(path, KNOWN))
    if VIDEO in header or CLIP in header:
        return "workers"
    emotions = len({ALIASES.get(name, name) for name in header} & set(EMOTIONS))
    if emotions >= len(EMOTIONS) - 1:
        return "labels"
    return "no_emotions" if header & set(TABLE["video"]) and not emotions else "other"


def csv_files(folder: Path) -> list[Path]:
    """CSV and TSV files of a folder, sorted, without the `._` stubs that macOS leaves."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".csv", ".tsv") and not path.name.startswith(".") and path.is_file()
    )


def _emotion_columns(table: AnnotationTable, prefix: str, others: list[str], expected: str) -> dict[str, str]:
    """Emotion -> its column, which may have another name; `sentiment` where it is there."""
    columns: dict[str, str] = {}
    for name in (*NAMES, *ALIASES):
        if prefix + name in table.columns:
            known = columns.setdefault(ALIASES.get(name, name), prefix + name)
            if known != prefix + name:
                raise DataError(
                    f"{table.file}:{table.header_line}: the columns {known!r} and {prefix + name!r} are one emotion: "
                    f"expected one of them"
                )
    table.require([*others, *(columns.get(name, prefix + name) for name in EMOTIONS)], expected)
    return columns


def _numbers(
    row: Row, columns: Mapping[str, str], table: AnnotationTable, rewritten: Rewritten
) -> dict[str, float] | None:
    """Emotion -> number, or null where one is none."""
    numbers = {}
    for name, column in columns.items():
        value = _decimal(row.get(column), table, rewritten)
        if value is None:
            return None
        numbers[name] = value
    return numbers


def _decimal(text: str | None, table: AnnotationTable, rewritten: Rewritten) -> float | None:
    """A number; where the cells are not separated by commas, one with a decimal comma as well."""
    value = decimal(text)
    if value is None and table.delimiter != ",":
        value = decimal(text, comma=True)
        if value is not None:
            rewritten.add("decimal commas", repr(text))
    return value


def _seconds(text: str, table: AnnotationTable, rewritten: Rewritten) -> float | None:
    """Seconds, written as a number or as a spreadsheet's time."""
    value = _decimal(text, table, rewritten)
    if value is None and (value := clock_seconds(text, decimal_fraction=True)) is not None:
        rewritten.add("times taken as seconds", repr(text))
    return value


def _video(text: str, rewritten: Rewritten) -> str:
    """The last part of a video's path; ids that are numbers lose a spreadsheet's `.0`."""
    video = text.rsplit("/", 1)[-1].strip()
    if re.fullmatch(r"\d+\.0+", video, re.ASCII):
        rewritten.add("ids taken as whole numbers", repr(text))
        return video.partition(".")[0]
    return video


def _clip(text: str, rewritten: Rewritten) -> str:
    clip = text.strip()
    number = whole_number(clip)
    if number is None or clip.isdigit():
        return clip
    rewritten.add("ids taken as whole numbers", repr(text))
    return str(number)


def _split(word: str, file: str, line: int, rewritten: Rewritten) -> str:
    if word != word.strip().lower():
        rewritten.add("splits in another spelling", repr(word))
    split = split_of(word)
    if split is None and word.strip().casefold().removesuffix(".0") not in NO_SPLIT:
        raise DataError(f"{file}:{line}: {unknown_split(word)}, or none or 3 for no split")
    return split or "none"


def _differing(what: str, there: object, here: object) -> tuple[str, object, object]:
    """The first of some intensities that differ, or the two things themselves."""
    if not isinstance(there, dict) or not isinstance(here, dict):
        return what, there, here
    name = next(name for name in (*there, *here) if there.get(name) != here.get(name))
    return name, there.get(name), here.get(name)

"""CMU-MOSEI's labels from CSVs: the raw worker tables and the common label tables.

All readers, that of the .csd too, give the same rows: video, clip or interval, and mean intensities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from merloco.pipelines.corpora.annotation_files import read_rows
from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.errors import DataError

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
NAMES = ("sentiment", *EMOTIONS)
"""Order of the .csd dimensions where its metadata does not name them."""
ALIASES = {"happiness": "happy", "sadness": "sad", "angry": "anger"}
VIDEO, CLIP = "Input.VIDEO_ID", "Input.CLIP"
"""Columns of the worker tables."""
TABLE = {"video": ("video", "file", "video_id"), "start": ("start_time", "start"), "end": ("end_time", "end")}
"""Columns of the label tables, by the names under which they are found."""
_FILE_SPLIT = re.compile(r"(?:^|_)(train|val|valid|dev|test)(?:_|$)", re.IGNORECASE)


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
    """`sentiment` and the six emotions, rounded to 6 decimals."""
    file: str
    line: int
    split: str | None = None
    """Fold code, where the source has one."""
    text: str | None = None
    """Words of the segment, where the source has them."""


def means_of(numbers: Mapping[str, float]) -> dict[str, float]:
    """`sentiment` and the six emotions in order, rounded so that every source gives the same numbers."""
    return {name: round(float(numbers[name]), 6) for name in NAMES}


def read_workers(paths: list[Path], parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the raw worker CSVs, averaged over the workers of each clip; intervals come from the transcripts.

    A worker's row that cannot be read costs one vote of its clip.

    Raises:
        DataError: A worker table lacks a column.
    """
    votes: dict[tuple[str, str], list[dict[str, float]]] = {}
    first: dict[tuple[str, str], tuple[str, int]] = {}
    for path in paths:
        header, rows = read_rows(path)
        columns = _answer_columns(path.name, header)
        for line, cells in rows:
            row = dict(zip(header, cells, strict=False)) if not isinstance(cells, str) else {}
            clip = row.get(VIDEO, "").rsplit("/", 1)[-1].strip(), row.get(CLIP, "").strip()
            numbers = {name: _number(row.get(column)) for name, column in columns.items()}
            if all(clip):
                first.setdefault(clip, (path.name, line))
            if not all(clip) or any(value is None for value in numbers.values()):
                problem = cells if isinstance(cells, str) else "expected a video, a clip and seven numbers"
                parsed.errors.append(RowError("bad_vote", path.name, line, problem))
                continue
            votes.setdefault(clip, []).append({n: v for n, v in numbers.items() if v is not None})
    for (video, number), where in sorted(first.items()):
        workers = votes.get((video, number))
        if workers is None:
            parsed.errors.append(RowError("bad_row", *where, f"{video} clip {number}: no worker's row can be read"))
            continue
        means = {name: float(np.mean([worker[name] for worker in workers])) for name in NAMES}
        yield LabelRow(video, number, None, None, means_of(means), *where)


def _answer_columns(file: str, header: list[str]) -> dict[str, str]:
    """Emotion -> column of a worker table."""
    spelled = {ALIASES.get(name, name): f"Answer.{name}" for name in (*NAMES, *ALIASES) if f"Answer.{name}" in header}
    missing = [name for name in (VIDEO, CLIP) if name not in header]
    missing += [f"Answer.{name}" for name in NAMES if name not in spelled]
    if missing:
        raise DataError(
            f"{file}: column {missing[0]!r} is missing: expected {VIDEO}, {CLIP} and Answer. with each of "
            f"{', '.join(NAMES)}"
        )
    return spelled


def read_table(path: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of a common label table: video, start_time, end_time, sentiment and the six emotions.

    The split is that of the column `split`, else that of a file name such as `Data_Train_modified.csv`.

    Raises:
        DataError: The table lacks a column.
    """
    header, rows = read_rows(path)
    columns = {name: next((o for o in options if o in header), None) for name, options in TABLE.items()}
    missing = [TABLE[name][0] for name, column in columns.items() if column is None]
    missing += [name for name in NAMES if name not in header]
    if missing:
        expected = ", ".join(options[0] for options in TABLE.values())
        raise DataError(
            f"{path.name}: column {missing[0]!r} is missing: expected the columns {expected}, {', '.join(NAMES)}"
        )
    named = _FILE_SPLIT.search(path.stem)
    for line, cells in rows:
        row: Mapping[str, str] = {} if isinstance(cells, str) else dict(zip(header, cells, strict=False))
        video, start, end = (row.get(str(column), "") for column in columns.values())
        numbers = {name: _number(row.get(name)) for name in NAMES}
        begin, until = _number(start), _number(end)
        if not video.strip() or begin is None or until is None or any(value is None for value in numbers.values()):
            problem = cells if isinstance(cells, str) else "expected a video, an interval and seven numbers"
            parsed.errors.append(RowError("bad_row", path.name, line, problem))
            continue
        values = means_of({n: v for n, v in numbers.items() if v is not None})
        split = row.get("split") or (named[1].lower() if named else None)
        text = " ".join(row.get("text", "").split()) or None
        yield LabelRow(video.strip(), None, begin, until, values, path.name, line, split, text)


def table_kind(path: Path) -> str:
    """What a CSV beside the data is, by its header: `labels`, `workers`, `no_emotions` or `other`.

    A table of which at most one expected column is missing is taken for what it nearly is, so that the reader can name
    the column.
    """
    header = set(read_rows(path)[0])
    if VIDEO in header or CLIP in header:
        return "workers"
    emotions = len(set(EMOTIONS) & header)
    if emotions >= len(EMOTIONS) - 1:
        return "labels"
    return "no_emotions" if header & set(TABLE["video"]) and not emotions else "other"


def csv_files(folder: Path) -> list[Path]:
    """CSV files of a folder, sorted, without the `._` stubs that macOS leaves."""
    return sorted(path for path in folder.glob("*.csv") if not path.name.startswith(".") and path.is_file())


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and np.isfinite(value) else None

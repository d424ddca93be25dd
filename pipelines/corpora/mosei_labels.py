"""CMU-MOSEI's labels from any of their releases: the .csd, the raw worker CSVs, the common label tables (corpora.md 3).

All readers give the same rows: video, clip or interval, and mean intensities. Row order means nothing: the .csd stores
the clips of a video in the order of their numbers as strings.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.corpora import Parsed, RowError
from pipelines.errors import DataError

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
NAMES = ("sentiment", *EMOTIONS)
"""Order of the .csd dimensions where its metadata does not name them."""
ALIASES = {"happiness": "happy", "sadness": "sad", "angry": "anger"}


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


def _values(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(float(numbers[name]), 6) for name in NAMES}


def read_csd(path: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of `CMU_MOSEI_Labels.csd` (HDF5). Dimension names come from its metadata.

    Raises:
        DataError: The file is no HDF5 computational sequence.
    """
    import h5py

    try:
        with h5py.File(path, "r") as handle:
            group = handle[next(iter(handle))]
            names = _dimension_names(group, parsed)
            videos = group["data"]
            for video in sorted(videos):
                features = np.asarray(videos[video]["features"], dtype=np.float64)
                intervals = np.asarray(videos[video]["intervals"], dtype=np.float64)
                for i, (start, end) in enumerate(intervals):
                    row = _csd_row(path.name, video, i, features, names)
                    if isinstance(row, RowError):
                        parsed.errors.append(row)
                    else:
                        yield LabelRow(video, None, round(start, 6), round(end, 6), row, path.name, i + 1)
    except (OSError, KeyError, StopIteration, TypeError) as error:
        raise DataError(f"{path.name}: not a label sequence ({error}): expected <name>/data/<video>/features") from None


def _dimension_names(group: object, parsed: Parsed) -> list[str]:
    try:
        raw = group["metadata"]["dimension names"][0]  # type: ignore[index]
        names = [str(name) for name in json.loads(raw)]
        return [ALIASES.get(name, name) for name in names]
    except (KeyError, ValueError, IndexError):
        parsed.notes.append(f"the .csd does not name its dimensions: taken as {', '.join(NAMES)}")
        return list(NAMES)


def _csd_row(file: str, video: str, i: int, features: np.ndarray, names: list[str]) -> dict[str, float] | RowError:
    if i >= len(features) or features.ndim != 2 or features.shape[1] != len(names):
        return RowError(
            "bad_row", file, i + 1, f"{video}: features of shape {features.shape}; expected {len(names)} columns"
        )
    numbers = dict(zip(names, features[i], strict=True))
    missing = [name for name in NAMES if name not in numbers]
    if missing or not np.isfinite(features[i]).all():
        return RowError("bad_row", file, i + 1, f"{video}: no finite value for {', '.join(missing or names)}")
    return _values(numbers)


def read_workers(folder: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the raw worker CSVs, averaged over the workers of each clip; intervals come from the transcripts."""
    votes: dict[tuple[str, str], list[dict[str, float]]] = {}
    first: dict[tuple[str, str], tuple[str, int]] = {}
    for path in sorted(folder.glob("*.csv")):
        for line, row in _table(path, parsed):
            if "Input.VIDEO_ID" not in row:
                break  # another table lies beside the batches
            video, clip = row["Input.VIDEO_ID"].rsplit("/", 1)[-1].strip(), row["Input.CLIP"].strip()
            answers = {ALIASES.get(n, n): row[f"Answer.{n}"] for n in (*NAMES, *ALIASES) if f"Answer.{n}" in row}
            numbers = {name: _number(answers.get(name)) for name in NAMES}
            if not video or not clip or any(value is None for value in numbers.values()):
                parsed.errors.append(RowError("bad_row", path.name, line, "expected a video, a clip and seven numbers"))
                continue
            votes.setdefault((video, clip), []).append({n: v for n, v in numbers.items() if v is not None})
            first.setdefault((video, clip), (path.name, line))
    for (video, clip), workers in sorted(votes.items()):
        means = {name: float(np.mean([worker[name] for worker in workers])) for name in NAMES}
        yield LabelRow(video, clip, None, None, _values(means), *first[video, clip])


def read_table(path: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of a common label table: video, start_time, end_time, sentiment and the six emotions."""
    for line, row in _table(path, parsed):
        keys = {"video": ("video", "file", "video_id"), "start": ("start_time", "start"), "end": ("end_time", "end")}
        found = {name: next((row[k] for k in options if k in row), None) for name, options in keys.items()}
        numbers = {name: _number(row.get(name)) for name in NAMES}
        start, end = _number(found["start"]), _number(found["end"])
        if not found["video"] or start is None or end is None or any(value is None for value in numbers.values()):
            parsed.errors.append(
                RowError("bad_row", path.name, line, "expected a video, an interval and seven numbers")
            )
            continue
        values = _values({n: v for n, v in numbers.items() if v is not None})
        yield LabelRow(found["video"], None, start, end, values, path.name, line, row.get("split"))


def is_label_table(path: Path) -> bool:
    """The header names an interval and the emotions."""
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        header = {name.strip() for name in next(csv.reader([handle.readline()]), [])}
    return {"sentiment", *EMOTIONS} <= header and bool({"start_time", "start"} & header)


def _table(path: Path, parsed: Parsed) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV by column name. Rows are lines: a stray quote costs its own line, not the rest of the file."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    header = [name.strip() for name in next(csv.reader(lines[:1]), [])]
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            cells = next(csv.reader([line.rstrip("\r")], strict=True), [])
        except csv.Error as error:
            parsed.errors.append(RowError("bad_row", path.name, number, f"not a CSV row: {error}"))
            continue
        yield number, dict(zip(header, cells, strict=False))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and np.isfinite(value) else None

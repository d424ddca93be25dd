"""CMU-MOSEI's intervals against transcripts and videos: times in another unit than seconds are found and refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from merloco.pipelines.corpora.mosei.labels import LabelRow
from merloco.pipelines.corpora.mosei.transcripts import TOLERANCE, Segment, nearest
from merloco.pipelines.corpora.units import MIN_ROWS, UNITS, check_lengths, guess_unit
from merloco.pipelines.errors import DataError
from merloco.pipelines.media.probe import MediaError, probe

TYPICAL_SECONDS = 7.3
LIMITS = (0.15, 110.0)
"""Median seconds that segments of a part of the release can have; its longest has 109."""
EXAMINED_ROWS = 500
EXAMINED_VIDEOS = 20
_UNITS = {
    **UNITS,
    "hundredths of a second": 100.0,
    **{f"frames at {rate} per second": float(rate) for rate in (24, 25, 30)},
    **{f"samples at {rate} Hz": float(rate) for rate in (16000, 44100, 48000)},
}


class _Interval(NamedTuple):
    """A label row that has an interval."""

    row: LabelRow
    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.row.file}:{self.row.line}: the interval {self.start:g}-{self.end:g} s of {self.row.video}"


def check_intervals(
    rows: Sequence[LabelRow], transcripts: Mapping[str, Sequence[Segment]], videos: Callable[[str], Path | None]
) -> None:
    """Refuse intervals outside the transcripts or the videos, and transcripts and intervals of impossible lengths.

    Args:
        rows: Label rows; those without an interval have nothing to check.
        transcripts: Video -> its segments.
        videos: Video -> its file, null where it has none.

    Raises:
        DataError: Most of the rows are so; the sentence guesses the unit.
    """
    spoken = {f"{v}.txt, clip {s.clip}": s.end - s.start for v, segments in transcripts.items() for s in segments}
    check_lengths(spoken, "the end", "the start", TYPICAL_SECONDS, LIMITS)
    timed = [_Interval(row, row.start, row.end) for row in rows if row.start is not None and row.end is not None]
    _check_transcripts([one for one in timed if transcripts.get(one.row.video)], transcripts)
    _check_videos([one for one in timed if not transcripts.get(one.row.video)], videos)
    for file in sorted({one.row.file for one in timed if not one.row.file.endswith(".csd")}):
        lengths = {f"{file}:{one.row.line}": one.end - one.start for one in timed if one.row.file == file}
        check_lengths(lengths, "the end", "the start", TYPICAL_SECONDS, LIMITS)


def _check_transcripts(rows: list[_Interval], transcripts: Mapping[str, Sequence[Segment]]) -> None:
    rows = rows[:: max(len(rows) // EXAMINED_ROWS, 1)]
    if len(rows) < MIN_ROWS:
        return

    def fitting(per_second: float) -> int:
        tolerance = TOLERANCE + (0.5 / per_second if per_second > 1 else 0.0)
        return sum(
            nearest(transcripts[one.row.video], one.start / per_second, one.end / per_second, tolerance) is not None
            for one in rows
        )

    now = fitting(1.0)
    if 2 * now >= len(rows):
        return
    unit = max(_UNITS, key=lambda name: fitting(_UNITS[name]))
    found = fitting(_UNITS[unit])
    if found > now and 2 * found >= len(rows):
        raise DataError(
            f"{rows[0]} fits no transcript, but most intervals do when they are taken as {unit}: expected seconds"
        )
    outside = [one for one in rows if one.start >= max(segment.end for segment in transcripts[one.row.video])]
    _refuse(outside, rows, "after the end of its transcript")


def _check_videos(rows: list[_Interval], videos: Callable[[str], Path | None]) -> None:
    ends: dict[str, float] = {}
    for video in dict.fromkeys(one.row.video for one in rows):
        if len(ends) == EXAMINED_VIDEOS:
            break
        path = videos(video)
        try:
            duration = probe(path).duration if path else None
        except MediaError:
            continue
        if duration:
            ends[video] = duration
    examined = [one for one in rows if one.row.video in ends]
    if len(examined) >= MIN_ROWS:
        _refuse([one for one in examined if one.start >= ends[one.row.video]], examined, "after the end of its video")


def _refuse(outside: list[_Interval], rows: list[_Interval], what: str) -> None:
    if 2 * len(outside) > len(rows):
        lengths = sorted(one.end - one.start for one in rows)
        unit = guess_unit(lengths[len(lengths) // 2] / TYPICAL_SECONDS)
        guess = f"; they look like {unit}" if unit else ""
        raise DataError(
            f"{outside[0]} begins {what}, as do {len(outside):,} of {len(rows):,} rows: expected seconds{guess}"
        )

"""CMU-MOSEI's segmented transcripts: `<video>___<clip>___<start>___<end>___<text>`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merloco.pipelines.corpora.annotation_files import read_lines
from merloco.pipelines.corpora.base import Parsed, RowError

TOLERANCE = 0.011
"""Seconds by which intervals of labels and transcripts may differ: sources round to milliseconds or less."""
_SEGMENT = re.compile(r"___(\d+)___(-?\d{1,9}(?:\.\d*)?)___(-?\d{1,9}(?:\.\d*)?)___(.*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of a segmented transcript."""

    clip: str
    start: float
    end: float
    text: str


def read_transcripts(folder: Path | None, root: Path, parsed: Parsed) -> Iterator[tuple[str, list[Segment]]]:
    """Video -> its segments, in the order of its file in `folder` (null where the release has none).

    `parsed` gets a `bad_transcript` per line or file that cannot be read, by its path below `root`.
    """
    if folder is None:
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() != ".txt":
            continue
        segments: dict[str, Segment] = {}
        where = path.relative_to(root).as_posix()
        try:
            lines = read_lines(path)
        except OSError as error:
            parsed.errors.append(RowError("bad_transcript", where, 0, f"not readable: {error.strerror}"))
            continue
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            segment = parse_segment(line, path.stem)
            if segment is None:
                message = f"{line[:60]!r}; expected {path.stem}___clip___start___end___text"
                parsed.errors.append(RowError("bad_transcript", where, number, message))
            elif segment.clip in segments:
                message = f"clip {segment.clip} occurs twice: the first is kept"
                parsed.errors.append(RowError("bad_transcript", where, number, message))
            else:
                segments[segment.clip] = segment
        yield path.stem, list(segments.values())


def parse_segment(line: str, video: str) -> Segment | None:
    """One transcript line of a video, or None where it is not one (texts may hold underscores themselves)."""
    match = _SEGMENT.fullmatch(line.removeprefix(video)) if line.startswith(video) else None
    if match is None:
        return None
    clip, start, end, text = match.groups()
    return Segment(clip, float(start), float(end), " ".join(text.split()))


def nearest(segments: Sequence[Segment], start: float, end: float, tolerance: float = TOLERANCE) -> Segment | None:
    """The segment with an interval, or None where none is within the tolerance."""

    def distance(segment: Segment) -> float:
        # One of the sources may have clamped a negative start.
        return max(abs(max(segment.start, 0.0) - max(start, 0.0)), abs(segment.end - end))

    best = min(segments, key=distance, default=None)
    return best if best is not None and distance(best) <= tolerance else None

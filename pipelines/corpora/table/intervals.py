"""The interval of an utterance in its media file, and what a sample says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from merloco.pipelines.corpora.table.media import MediaFile

BAD_INTERVAL = "bad_interval"
"""Mark of a sample whose interval cannot be cut, and status of its media: the whole file is not the utterance."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds within a media file; null is its beginning or its end."""

    start: float | None
    end: float | None
    readable: bool = True
    """Whether every time that is there could be read."""

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing."""
        return self.end is not None and self.end <= max(self.start or 0.0, 0.0)

    def columns(self) -> dict[str, Any]:
        """Start, end, duration and marks of a sample."""
        if not self.readable or self.is_empty:
            return {"start": self.start, "end": self.end, "marks": (BAD_INTERVAL,)}
        start = None if self.start is None else max(self.start, 0.0)
        duration = None if self.end is None else round(self.end - (start or 0.0), 4)
        marks = ("negative_start",) if start != self.start else ()
        return {"start": start, "end": self.end, "duration": duration, "marks": marks}

    def media_columns(self, kind: str, file: MediaFile) -> dict[str, Any]:
        """Path, status and cut of a sample's `audio` or `video`."""
        if not file.found:
            return {f"{kind}_path": file.path, f"{kind}_status": "missing_media"}
        if not self.readable or self.is_empty:
            return {f"{kind}_path": file.path, f"{kind}_status": BAD_INTERVAL}
        columns = self.columns()
        return {f"{kind}_path": file.path, f"{kind}_start": columns["start"], f"{kind}_end": columns["end"]}

"""What splits share: dialogues, media files, speakers and sentences that occur in more than one of them.

A dialogue or a recording on both sides of the test split makes every score on it too good: an error. Training and
validation that share one mislead early stopping: a warning. Speakers and sentences that recur are properties of the
corpora (six leads speak in every split of MELD; the scripts of IEMOCAP are acted in every session): warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from merloco.pipelines.checks.findings import Problem
from merloco.pipelines.samples.schema import SPLITS

MIN_WORDS = 5
"""Shorter sentences ("Yeah.", "Oh my God!") recur in any conversation and say nothing about a leak."""

Row = dict[str, Any]


def shared_across_splits(rows: list[Row]) -> Iterator[Problem]:
    """Problems `shared_dialogue`, `shared_media`, `shared_speaker` and `shared_text` of one corpus.

    Args:
        rows: Samples table rows; those of split `none` take no part.
    """
    yield from _shared(rows, "dialogue", "dialogues", lambda row: row["dialogue"], strict=True)
    yield from _shared(rows, "media", "media files", lambda row: row["video_path"] or row["audio_path"], strict=True)
    yield from _shared(rows, "speaker", "speakers", lambda row: row["speaker"], strict=False)
    yield from _shared(rows, "text", f"sentences of {MIN_WORDS} or more words", _sentence, strict=False)


def _sentence(row: Row) -> str | None:
    words = (row["text"] or "").casefold().split()
    return " ".join(words) if len(words) >= MIN_WORDS else None


def _shared(
    rows: list[Row], kind: str, plural: str, key: Callable[[Row], str | None], *, strict: bool
) -> Iterator[Problem]:
    parts: dict[str, set[str]] = {}
    for row in rows:
        value = key(row)
        if value is not None and row["split"] != "none":
            parts.setdefault(value, set()).add(row["split"])
    shared = {value for value, splits in parts.items() if len(splits) > 1}
    if not shared:
        return
    ids = [row["sample_id"] for row in rows if row["split"] != "none" and key(row) in shared]
    pairs = {pair: sum(set(pair) <= parts[value] for value in shared) for pair in combinations(SPLITS[:3], 2)}
    counted = ", ".join(f"{a} and {b} {n}" for (a, b), n in pairs.items() if n)
    into_test = any("test" in parts[value] for value in shared)
    times = Counter(value for row in rows if (value := key(row)) in shared and row["split"] != "none")
    most = min(times, key=lambda value: (-times[value], value))
    message = f"{len(shared)} {plural} occur in more than one split ({counted}), {most!r} most often"
    yield Problem(f"shared_{kind}", "error" if strict and into_test else "warning", ids, message)

"""`merloco check samples`: what in a samples table would make figures wrong, or is worth knowing before training.

An error means that an experiment on this table would be wrong or fail; a warning is a property of the corpus that a
paper about it should state (speakers that all splits share, corrupt clips, classes of three samples).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.checks.findings import FIRST_IDS, Problem, SampleFinding
from merloco.pipelines.checks.leakage import shared_across_splits
from merloco.pipelines.checks.media import file_problems, media_problems
from merloco.pipelines.samples.label_counts import unknown_labels
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import SPLITS

BAD_INTERVAL = "bad_interval"

Progress = Callable[[int], None]


def check_samples(
    corpus: str,
    entry: CorpusEntry,
    samples: pa.Table,
    root: Path | None = None,
    *,
    min_class: int = 5,
    media: bool = False,
    progress: Progress | None = None,
) -> list[SampleFinding]:
    """Check the samples of one corpus.

    Args:
        corpus: Corpus name.
        entry: The active label map says what the classes are.
        samples: The samples table.
        root: The release folder; null leaves out whether files exist.
        min_class: Smallest number of samples of a class in a split that is not worth a warning.
        media: Also open every file: lengths against intervals, and content hashes for duplicates.
        progress: Called with the number of files done since the last call.

    Returns:
        Findings, errors first, each kind in the order in which it is checked.
    """
    rows = samples.to_pylist()
    problems = [
        *_ids(rows),
        *_unknown_labels(samples, entry),
        *_lengths(rows),
        *file_problems(rows, root),
        *(media_problems(rows, root, progress) if media and root else ()),
        *shared_across_splits(rows),
        *_small_classes(corpus, samples, entry, min_class),
        *_marks(rows, entry.media_rules.known_bad),
    ]
    problems.sort(key=lambda problem: problem.severity != "error")
    return [
        SampleFinding(corpus, p.code, p.severity, len(p.ids), tuple(sorted(p.ids)[:FIRST_IDS]), p.message)
        for p in problems
    ]


def _ids(rows: list[dict[str, Any]]) -> Iterator[Problem]:
    counts = Counter(row["sample_id"] for row in rows)
    twice = [sample_id for sample_id, n in counts.items() if n > 1]
    if twice:
        yield Problem("duplicate_id", "error", twice, "ids occur more than once: features would join to the wrong rows")


def _unknown_labels(samples: pa.Table, entry: CorpusEntry) -> Iterator[Problem]:
    for label, ids in unknown_labels(samples, entry.active_map).items():
        yield Problem("unknown_label", "error", ids, f"label {label!r} is not in map {entry.map!r} of the catalog")


def _lengths(rows: list[dict[str, Any]]) -> Iterator[Problem]:
    negative, zero, empty = [], [], []
    for row in rows:
        if BAD_INTERVAL in (row["marks"] or ()):
            continue  # the parser took no length from it: the mark is a finding of its own
        ends = row["end"] - row["start"] if row["start"] is not None and row["end"] is not None else None
        lengths = [value for value in (ends, row["duration"]) if value is not None]
        if any(length < 0 for length in lengths):
            negative.append(row["sample_id"])
        elif any(length == 0 for length in lengths):
            zero.append(row["sample_id"])
        if any(_empty(row[f"{kind}_start"], row[f"{kind}_end"]) for kind in ("audio", "video")):
            empty.append(row["sample_id"])
    if negative:
        yield Problem("negative_length", "error", negative, "utterances end before they start")
    if empty:
        yield Problem("empty_cut", "error", empty, "the interval to cut from the media holds nothing")
    if zero:
        yield Problem("zero_length", "warning", zero, "utterances end where they start on the annotation's time line")


def _empty(start: float | None, end: float | None) -> bool:
    return start is not None and end is not None and end <= start


def _small_classes(corpus: str, samples: pa.Table, entry: CorpusEntry, min_class: int) -> Iterator[Problem]:
    label_map = entry.active_map
    if unknown_labels(samples, label_map):
        return
    members: dict[tuple[str, str], list[str]] = {}
    for row in apply_map(samples, corpus, label_map).to_pylist():
        if row["emotion"] is not None:
            members.setdefault((row["split"], row["emotion"]), []).append(row["sample_id"])
    for split in SPLITS[:3]:
        if not any(key[0] == split for key in members):
            continue
        counts = {name: len(members.get((split, name), [])) for name in label_map.annotated}
        small = {name: n for name, n in counts.items() if n < min_class}
        if small:
            counted = ", ".join(f"{name} {n}" for name, n in small.items())
            ids = [sample_id for name in small for sample_id in members.get((split, name), [])]
            message = f"classes under map {entry.map!r} with fewer than {min_class} in {split}: {counted}"
            yield Problem("small_class", "warning", ids, message)


_MARKS = {
    BAD_INTERVAL: "the annotated interval is empty or negative: no length is taken from it",
    "no_transcript": "no transcript segment has the interval of the label",
    "out_of_range": "intensities outside the scale of the release were clipped to it",
    "near_empty": "clips that hold almost nothing",
    "over_long": "clips that are cut far too long",
    "negative_start": "intervals that began before the media and were clamped to 0 s",
}


def _marks(rows: list[dict[str, Any]], known_bad: Mapping[str, str]) -> Iterator[Problem]:
    members: dict[str, list[str]] = {}
    for row in rows:
        for mark in row["marks"] or ():
            members.setdefault(mark, []).append(row["sample_id"])
    for mark, ids in sorted(members.items()):
        message = _MARKS.get(mark, f"samples that the parser marks {mark!r}")
        if mark == "known_bad":
            why = sorted({known_bad[sample_id] for sample_id in ids if sample_id in known_bad})
            message = "clips that are unusable in every copy of the release" + (f": {'; '.join(why)}" if why else "")
        yield Problem(mark, "warning", ids, message)

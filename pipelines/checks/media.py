"""Media behind a samples table: are the files there, do they open, are they as long as annotated, are two the same.

Headers are read, nothing is decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.pipelines.checks.findings import Problem
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.media.probe import MediaError, Probe, probe

PAST_END = 0.5
"""Seconds by which an interval may reach beyond its file: transcripts round, containers pad."""
MISMATCH = 1.0
"""Seconds by which a whole clip may differ from its annotated length."""
KINDS = ("audio", "video")

Row = dict[str, Any]
Progress = Callable[[int], None]


def file_problems(rows: list[Row], root: Path | None) -> Iterator[Problem]:
    """Problems `missing_media`, `lost_media` and `no_root`: whether the files are there, by name."""
    missing = {k: [row["sample_id"] for row in rows if row[f"{k}_status"] == "missing_media"] for k in KINDS}
    ids = sorted({*missing["audio"], *missing["video"]})
    if ids:
        counted = ", ".join(f"{kind} {len(of_kind)}" for kind, of_kind in missing.items() if of_kind)
        message = f"the release has no file for these samples ({counted}); text features can do without"
        yield Problem("missing_media", "warning", ids, message)
    users = _users(rows)
    if users and (root is None or not root.is_dir()):
        ids = sorted(set(chain.from_iterable(users.values())))
        where = "is not known" if root is None else "is not a folder"
        yield Problem("no_root", "warning", ids, f"the corpus root {where}: no file was looked at; give --root")
    elif root is not None:
        lost = [path for path in users if not (root / path).is_file()]
        if lost:
            ids = sorted(set(chain.from_iterable(users[path] for path in lost)))
            message = f"files of the last ingest that are gone: {len(lost)}, the first {lost[0]!r}: ingest again"
            yield Problem("lost_media", "error", ids, message)


def _users(rows: list[Row]) -> dict[str, list[str]]:
    """Media path -> ids of the samples that read it, sorted by path."""
    users: dict[str, list[str]] = {}
    for row in rows:
        for path in sorted({row[f"{k}_path"] for k in KINDS if row[f"{k}_status"] == "ok" and row[f"{k}_path"]}):
            users.setdefault(path, []).append(row["sample_id"])
    return dict(sorted(users.items()))


def media_files(samples: pa.Table) -> list[str]:
    """Media paths that the samples read, sorted: what a check with media opens."""
    return list(_users(samples.to_pylist()))


def media_problems(rows: list[Row], root: Path, progress: Progress | None = None) -> Iterator[Problem]:
    """Problems that need the files themselves; `progress` is called with 1 after every file.

    Yields:
        `unreadable_media`, `no_audio`, `no_video`, `interval_outside_media`, `interval_past_end`,
        `length_mismatch` and `duplicate_media`.
    """
    users = {path: ids for path, ids in _users(rows).items() if (root / path).is_file()}
    probes: dict[str, Probe] = {}
    refused: dict[str, MediaError] = {}
    for path in users:
        try:
            probes[path] = probe(root / path)
        except MediaError as error:
            refused[path] = error
        if progress:
            progress(1)
    if refused:
        ids = sorted(set(chain.from_iterable(users[path] for path in refused)))
        codes = ", ".join(f"{code} {n}" for code, n in sorted(Counter(e.code for e in refused.values()).items()))
        message = f"files that cannot be opened: {len(refused)} ({codes}), the first: {next(iter(refused.values()))}"
        yield Problem("unreadable_media", "error", ids, message)
    yield from _streams(rows, probes)
    yield from _intervals(rows, probes)
    yield from _duplicates(rows, root, users)


def _streams(rows: list[Row], probes: dict[str, Probe]) -> Iterator[Problem]:
    for kind in KINDS:
        ids = [
            row["sample_id"]
            for row in rows
            if row[f"{kind}_status"] == "ok"
            and (file := probes.get(row[f"{kind}_path"])) is not None
            and not (file.has_audio if kind == "audio" else file.has_video)
        ]
        if ids:
            yield Problem(f"no_{kind}", "warning", ids, f"the file that should hold the {kind} has no {kind} stream")


def _intervals(rows: list[Row], probes: dict[str, Probe]) -> Iterator[Problem]:
    outside: set[str] = set()
    past: set[str] = set()
    mismatch: set[str] = set()
    worst = 0.0
    for row in rows:
        for kind in KINDS:
            file = probes.get(row[f"{kind}_path"]) if row[f"{kind}_status"] == "ok" else None
            if file is None or file.duration is None:
                continue
            start, end = row[f"{kind}_start"], row[f"{kind}_end"]
            if start is not None and start >= file.duration:
                outside.add(row["sample_id"])
            elif end is not None and end > file.duration + PAST_END:
                past.add(row["sample_id"])
                worst = max(worst, end - file.duration)
            elif start is None and end is None and abs(file.duration - (row["duration"] or file.duration)) > MISMATCH:
                mismatch.add(row["sample_id"])
    if outside:
        yield Problem("interval_outside_media", "error", sorted(outside), "intervals begin after the end of their file")
    if past:
        message = f"intervals end more than {PAST_END} s after their file does, at most {worst:.1f} s"
        yield Problem("interval_past_end", "warning", sorted(past), message)
    if mismatch:
        message = f"the clip and its annotated length differ by more than {MISMATCH} s: "
        message += "a wrong cut, or a wrong time code"
        yield Problem("length_mismatch", "warning", sorted(mismatch), message)


def _duplicates(rows: list[Row], root: Path, users: dict[str, list[str]]) -> Iterator[Problem]:
    """Files of one size are hashed: only they can be equal."""
    split = {row["sample_id"]: row["split"] for row in rows}
    by_size: dict[int, list[str]] = {}
    for path in users:
        by_size.setdefault((root / path).stat().st_size, []).append(path)
    by_hash: dict[str, list[str]] = {}
    for path in chain.from_iterable(paths for paths in by_size.values() if len(paths) > 1):
        by_hash.setdefault(sha256_file(root / path), []).append(path)
    across: list[list[str]] = []
    within: list[list[str]] = []
    for group in (paths for paths in by_hash.values() if len(paths) > 1):
        splits = {split[sample_id] for path in group for sample_id in users[path]} - {"none"}
        (across if len(splits) > 1 else within).append(group)
    for groups, severity, where in ((across, "error", "of different splits"), (within, "warning", "within a split")):
        if groups:
            ids = sorted({sample_id for path in chain.from_iterable(groups) for sample_id in users[path]})
            message = f"{sum(map(len, groups))} files {where} have the bytes of another, the first {groups[0][0]!r}"
            yield Problem("duplicate_media", severity, ids, message)


def with_media_lengths(samples: pa.Table, root: Path, progress: Progress | None = None) -> pa.Table:
    """The samples table with lengths from the media where no annotation gives one; unreadable files leave null."""
    lengths: list[float | None] = []
    for row in samples.to_pylist():
        length = row["duration"]
        if length is None:
            kind = "audio" if row["audio_status"] == "ok" and row["audio_path"] else "video"
            if row[f"{kind}_status"] == "ok" and row[f"{kind}_path"]:
                length = _length(root / row[f"{kind}_path"], row[f"{kind}_start"], row[f"{kind}_end"])
        lengths.append(length)
        if progress:
            progress(1)
    position = samples.schema.get_field_index("duration")
    return samples.set_column(position, "duration", pa.array(lengths, pa.float64()))


def _length(path: Path, start: float | None, end: float | None) -> float | None:
    try:
        whole = probe(path).duration
    except MediaError:
        return None
    until = whole if end is None else end
    return None if until is None else until - (start or 0.0)

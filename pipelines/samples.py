"""The samples table on disk and the audit of an ingest: what was found, what is usable, and why the rest is not."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.catalog_entries import CorpusEntry
from pipelines.corpora import Parsed, RowError, parse_corpus
from pipelines.deletions import drop_rows, held_deletions, read_deletions
from pipelines.errors import BrokenFileError, DataError
from pipelines.files import (
    TEMPORARY,
    atomic_path,
    canonical_json,
    read_parquet,
    require_writable,
    set_aside,
    sha256_file,
    sha256_text,
    write_parquet,
)
from pipelines.labels import apply_map
from pipelines.schema import ARROW_SCHEMA, MODALITIES, SPLITS, Sample, conform, from_table, to_table
from pipelines.transcripts import (
    append_transcripts,
    compare_media,
    join_transcripts,
    read_transcripts,
    stored_transcripts,
)


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of one corpus that add up: found = left out + samples; samples = dropped + usable."""

    corpus: str
    root: str
    label_map: str
    found: int
    left_out: dict[str, int]
    """Annotation rows that did not become a sample, by named reason."""
    samples: int
    labelled: int
    dropped: dict[str, int]
    """Samples without a class under the active map, by named reason."""
    usable: int
    classes: dict[str, dict[str, int]]
    """Split -> class -> usable samples, in split and class order."""
    media: dict[str, dict[str, int]]
    """Modality -> status -> samples."""
    marks: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    """Lines that could not be read but cost a vote or a text only: their rows are samples all the same."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Every row left out, then every damaged line: code, file, line, message."""
    notes: list[str] = field(default_factory=list)
    state: str = ""
    """Hash of the release's file listing and the catalog entry: the same state needs no second reading."""


PARSER_VERSION = 3
"""Raised when a parser reads the same files differently."""


DELETED = RowError("deleted", "deletions", 0, "was removed from this store by `merloco delete`")
"""Stands in an audit for a removed sample: it is counted, so that the audit adds up, and not named."""


def release_state(entry: CorpusEntry, root: Path) -> str:
    """Hash of every file's name, size and time under a root, and of the catalog entry that reads them.

    Linked folders are followed, each once: clips often lie on another disk than the annotations.
    """
    listing = []
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders.sort()
        for name in sorted(files):
            try:
                stat = os.stat(os.path.join(folder, name))
            except OSError:  # a link to nowhere is as good as no file
                continue
            listing.append(f"{os.path.relpath(folder, root)}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}")
    head = f"{PARSER_VERSION}\n{canonical_json(entry.model_dump(exclude={'root'}))}\n"
    return sha256_text(head + "\n".join(listing))


def samples_path(store: Path, corpus: str) -> Path:
    """Where the samples table of a corpus lies."""
    return store / "samples" / f"{corpus}.parquet"


def audit_path(store: Path, corpus: str) -> Path:
    """Where the audit of the last ingest lies."""
    return store / "samples" / f"{corpus}.audit.json"


def unchanged(name: str, entry: CorpusEntry, root: Path, store: Path) -> Audit | None:
    """The audit of the last ingest if neither the release nor its catalog entry has changed since, else null."""
    root = root.absolute()
    return _last(name, root, store, release_state(entry, root)) if root.is_dir() else None


def _last(name: str, root: Path, store: Path, state: str) -> Audit | None:
    if not samples_path(store, name).is_file() or not audit_path(store, name).is_file():
        return None
    try:
        ingested_table(store, name)
        last = read_audit(store, name)
    except DataError:  # broken, or of another version: no word of it counts, and `ingest_corpus` says what comes of it
        return None
    return last if last.state == state + read_deletions(store, name).mark and last.root == str(root) else None


def ingest_corpus(name: str, entry: CorpusEntry, root: Path, store: Path) -> Audit:
    """Parse a release, write its samples table and return the audit; an unchanged release is not read again.

    A samples table or an audit that is proven broken is set aside as `<name>.broken`, which a note of the audit says.

    Args:
        name: Corpus name.
        entry: Its catalog entry.
        root: The release folder.
        store: Root of the store; `samples/<name>.parquet` and the audit beside it are replaced atomically.

    Raises:
        DataError: No root, no annotation, a samples table that a newer version of merloco wrote, or a label that the
            active map does not know. In the last case the samples table is written all the same: its labels are
            native ones.
    """
    root = root.absolute()
    state = release_state(entry, root) if root.is_dir() else ""
    last = _last(name, root, store, state)
    if last is not None:
        return last
    require_writable(store / "samples")
    parsed = parse_corpus(name, entry, root)
    if not parsed.samples:
        reasons = ", ".join(f"{code} {n}" for code, n in _counts(error.code for error in parsed.errors).items())
        first = "; ".join(f"{e.file}:{e.line}: {e.message}" for e in [*parsed.left_out, *parsed.errors][:1])
        said = f"left out: {reasons}, the first {first}" if first else "its annotation files hold no row"
        raise DataError(f"corpus {name!r}: no usable row under {str(root)!r}: {said}")
    hashed = cache(sha256_file)
    compare_media(read_transcripts(store, name), parsed.samples, root, hashed)  # hashes what it must before the lock
    with held_deletions(store, name, exclusive=True) as deleted:
        old, notes = _take_old(store, name)
        kept = [sample for sample in parsed.samples if not deleted.cover(sample.sample_id, sample.speaker, name)]
        parsed.errors += [DELETED] * (len(parsed.samples) - len(kept))
        parsed.samples = kept
        parsed.notes += notes
        heard = read_transcripts(store, name)
        known = {transcript.sample_id for transcript in heard}
        inside = [t for t in stored_transcripts(old, root) if t.sample_id not in known]
        inside = [t for t in inside if t.sample_id not in deleted.samples]
        append_transcripts(store, name, [*inside, *compare_media(heard, kept, root, hashed)])
        table = to_table(kept)
        write_parquet(samples_path(store, name), table)
        joined = join_transcripts(store, name, table)
        audit = replace(make_audit(name, entry, root, parsed, joined), state=state + deleted.mark)
        write_audit(store, audit)
    return audit


def _take_old(store: Path, corpus: str) -> tuple[list[Sample], list[str]]:
    """The samples that an ingest is about to replace, and notes on files that had to be set aside."""
    old: list[Sample] = []
    notes = []
    try:
        if samples_path(store, corpus).is_file():
            old = from_table(ingested_table(store, corpus))
    except BrokenFileError:
        notes.append(_set_aside(samples_path(store, corpus)))
    with suppress(DataError):  # no audit, or one of another version, which says nothing that this ingest does not
        try:
            read_audit(store, corpus)
        except BrokenFileError:
            notes.append(_set_aside(audit_path(store, corpus)))
    return old, notes


def _set_aside(path: Path) -> str:
    return f"{path.name} was broken and is set aside as {set_aside(path).name}"


def make_audit(name: str, entry: CorpusEntry, root: Path, parsed: Parsed, table: pa.Table) -> Audit:
    """Count a parsed corpus under its active label map."""
    label_map = entry.maps[entry.map]
    labels = apply_map(table, name, label_map).to_pylist()
    usable = [row for row in labels if row["emotion"] is not None]
    per_class = Counter((row["split"], row["emotion"]) for row in usable)
    splits = [split for split in SPLITS if any(row["split"] == split for row in labels)]
    return Audit(
        corpus=name,
        root=str(root),
        label_map=entry.map,
        found=parsed.found,
        left_out=_counts(error.code for error in parsed.left_out),
        samples=table.num_rows,
        labelled=sum(row["reason"] != "unlabelled" for row in labels),
        dropped=_counts(row["reason"] for row in labels if row["emotion"] is None),
        usable=len(usable),
        classes={split: {c: per_class[split, c] for c in label_map.annotated} for split in splits},
        media={modality: _counts(table[f"{modality}_status"].to_pylist()) for modality in MODALITIES},
        marks=_counts(mark for marks in table["marks"].to_pylist() for mark in marks),
        damaged=_counts(error.code for error in parsed.damaged),
        errors=[asdict(error) for error in (*parsed.left_out, *parsed.damaged) if error != DELETED],
        notes=list(parsed.notes),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def write_audit(store: Path, audit: Audit) -> None:
    """Replace the audit of a corpus."""
    with atomic_path(audit_path(store, audit.corpus)) as temporary:
        # Keys stay in their order: splits and classes have one.
        temporary.write_text(json.dumps(asdict(audit), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_audit(store: Path, corpus: str) -> Audit:
    """Read the audit of the last ingest.

    Raises:
        BrokenFileError: It is no JSON.
        DataError: There is none, or it is of another version.
    """
    path = audit_path(store, corpus)
    if not path.is_file():
        raise not_ingested(store, corpus)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BrokenFileError(f"{path}: not an audit ({error}): run `merloco ingest {corpus}` again") from None
    try:
        return Audit(**record)
    except TypeError as error:
        raise DataError(
            f"{path}: an audit of another version of merloco ({error}): run `merloco ingest {corpus}` again"
        ) from None


def not_ingested(store: Path, corpus: str) -> DataError:
    """The error of a corpus that has no samples table."""
    return DataError(f"corpus {corpus!r} has no samples in {str(store)!r}: run `merloco ingest {corpus}` first")


def ingested(store: Path) -> list[str]:
    """Names of the corpora that have a samples table, sorted."""
    paths = (store / "samples").glob("*.parquet")
    return sorted(path.stem for path in paths if not path.name.startswith(TEMPORARY))


def read_samples(store: Path, corpus: str) -> pa.Table:
    """Read the samples of one corpus, sorted by id: what was ingested, with what was heard where there is no text.

    Samples on the deletion list are left out from the moment they are on it. Nothing is ever changed by reading.

    Raises:
        DataError: The corpus was not ingested, the file is no samples table, or it is one of another version.
        OSError: It cannot be read now; it may well be sound.
    """
    table = ingested_table(store, corpus)
    table = drop_rows(table, read_deletions(store, corpus).covered(table))
    return join_transcripts(store, corpus, table)


def ingested_table(store: Path, corpus: str) -> pa.Table:
    """The samples table as the last ingest wrote it, in today's columns: for who rewrites it.

    Raises:
        BrokenFileError: It is no Parquet file.
        DataError, OSError: See `read_samples`.
    """
    path = samples_path(store, corpus)
    if not path.is_file():
        raise not_ingested(store, corpus)
    try:
        table = read_parquet(path)
    except BrokenFileError as error:
        raise BrokenFileError(f"{error}: run `merloco ingest {corpus}` again") from None
    if table.schema.equals(ARROW_SCHEMA):
        return table
    try:
        return conform(table)
    except DataError as error:
        raise DataError(
            f"{path}: a samples table of another version of merloco ({error}): use that version, or another --store"
        ) from None

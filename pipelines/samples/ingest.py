"""Ingest of a corpus: parse a release, keep its samples and its audit."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.catalog.unused_values import unused_values
from merloco.pipelines.corpora.base import find_parser, parse_corpus, read_options
from merloco.pipelines.errors import BrokenFileError, DataError
from merloco.pipelines.files.atomic import require_writable
from merloco.pipelines.files.formats import quarantine
from merloco.pipelines.files.hashing import canonical_json, sha256_file, sha256_text
from merloco.pipelines.files.walk import walk_once
from merloco.pipelines.plugins import source_digest
from merloco.pipelines.samples.audit import DELETED, Audit, audit_path, counted, make_audit, read_audit, write_audit
from merloco.pipelines.samples.label_counts import require_known_labels
from merloco.pipelines.samples.schema import Sample, from_table, to_table
from merloco.pipelines.samples.table import ingested_table, samples_path, write_samples
from merloco.pipelines.samples.tombstones import locked_tombstones, read_tombstones
from merloco.pipelines.samples.transcripts import (
    append_transcripts,
    compare_media,
    join_transcripts,
    read_transcripts,
    stored_transcripts,
)

PARSER_VERSION = 4
"""Raised when a parser reads the same files differently."""


def release_state(entry: CorpusEntry, root: Path) -> str:
    """Hash of every file's name, size and time under a root, and of the catalog entry that reads them.

    Linked folders are followed, each once: clips often lie on another disk than the annotations.
    """
    listing = []
    for folder, folders, files in walk_once(root):
        folders.sort()
        for name in sorted(files):
            try:
                stat = os.stat(os.path.join(folder, name))
            except OSError:  # a link to nowhere is as good as no file
                continue
            listing.append(f"{os.path.relpath(folder, root)}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return sha256_text(f"{PARSER_VERSION}\n{canonical_json(_described(entry))}\n" + "\n".join(listing))


def _described(entry: CorpusEntry) -> dict[str, Any]:
    """A catalog entry as an ingest reads it, with every option's value.

    Two options were keys of every entry once, and stand there still: a store made then is up to date. A parser of the
    user's is part of it by its source: once she has changed it, the release is read again.
    """
    parse = find_parser(entry.parser).parse
    own = {} if parse.__module__.startswith("merloco.") else {"source": source_digest(parse)}
    options = read_options(entry).model_dump(mode="json")
    once = {key: options.pop(key, value) for key, value in (("test_session", 5), ("tags", "strip"))}
    return entry.model_dump(exclude={"root", "options"}) | once | ({"options": options} if options else {}) | own


def cached_audit(name: str, entry: CorpusEntry, root: Path, store: Path) -> Audit | None:
    """The audit of the last ingest if neither the release nor its catalog entry has changed since, else null."""
    root = root.absolute()
    return _cached_audit(name, root, store, release_state(entry, root)) if root.is_dir() else None


def _cached_audit(name: str, root: Path, store: Path, state: str) -> Audit | None:
    if not samples_path(store, name).is_file() or not audit_path(store, name).is_file():
        return None
    try:
        ingested_table(store, name)
        last = read_audit(store, name)
    except DataError:  # broken, or of another version: no word of it counts, and `ingest_corpus` says what comes of it
        return None
    return last if last.state == state + read_tombstones(store, name).digest and last.root == str(root) else None


def ingest_corpus(name: str, entry: CorpusEntry, root: Path, store: Path) -> Audit:
    """Parse a release, write its samples table and return the audit; an unchanged release is not read again.

    A samples table or an audit that is proven broken is set aside as `<name>.broken`, which a note of the audit says.

    `samples/<name>.parquet` and the audit beside it are replaced atomically.

    Raises:
        DataError: No root, no annotation, a samples table that a newer version of merloco wrote, or a label that the
            active map does not know. In the last case the samples table is written all the same: its labels are
            native ones.
    """
    root = root.absolute()
    state = release_state(entry, root) if root.is_dir() else ""
    last = _cached_audit(name, root, store, state)
    if last is not None:
        return last
    require_writable(store / "samples")
    parsed = parse_corpus(name, entry, root)
    parsed.notes += unused_values(entry, parsed.samples)
    if not parsed.samples:
        reasons = ", ".join(f"{code} {n}" for code, n in counted(error.code for error in parsed.errors).items())
        first = "; ".join(f"{e.file}:{e.line}: {e.message}" for e in [*parsed.left_out, *parsed.errors][:1])
        problem = f"left out: {reasons}, the first {first}" if first else "its annotation files hold no row"
        raise DataError(f"corpus {name!r}: no usable row under {str(root)!r}: {problem}")
    hash_file = cache(sha256_file)
    compare_media(read_transcripts(store, name), parsed.samples, root, hash_file)  # hashes what it must before the lock
    with locked_tombstones(store, name, exclusive=True) as deleted:
        old, notes = _previous_samples(store, name)
        samples = [sample for sample in parsed.samples if not deleted.contains(sample.sample_id, sample.speaker, name)]
        parsed.errors += [DELETED] * (len(parsed.samples) - len(samples))
        parsed.samples = samples
        parsed.notes += notes
        transcripts = read_transcripts(store, name)
        known = deleted.samples.union(transcript.sample_id for transcript in transcripts)
        in_table = [t for t in stored_transcripts(old, root) if t.sample_id not in known]
        append_transcripts(store, name, [*in_table, *compare_media(transcripts, samples, root, hash_file)])
        table = to_table(samples)
        write_samples(store, name, table)
        joined = join_transcripts(store, name, table)
        require_known_labels(joined, name, entry.active_map, entry.map, parsed.places)
        audit = replace(make_audit(name, entry, root, parsed, joined), state=state + deleted.digest)
        write_audit(store, audit)
    return audit


def _previous_samples(store: Path, corpus: str) -> tuple[list[Sample], list[str]]:
    """The samples that an ingest is about to replace, and notes on files that had to be set aside."""
    old: list[Sample] = []
    notes = []
    try:
        if samples_path(store, corpus).is_file():
            old = from_table(ingested_table(store, corpus))
    except BrokenFileError:
        notes.append(_quarantine(samples_path(store, corpus)))
    with suppress(DataError):  # no audit, or one of another version, which says nothing that this ingest does not
        try:
            read_audit(store, corpus)
        except BrokenFileError:
            notes.append(_quarantine(audit_path(store, corpus)))
    return old, notes


def _quarantine(path: Path) -> str:
    return f"{path.name} was broken and is set aside as {quarantine(path).name}"

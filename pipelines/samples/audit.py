"""The audit of an ingest: what was found, what is usable, and why the rest is not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.errors import BrokenFileError, DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.column_findings import column_findings
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import MODALITIES, SPLITS
from merloco.pipelines.samples.table import not_ingested

DELETED = RowError("deleted", "deletions", 0, "was removed from this store by `merloco delete`")
"""Stands in an audit for a removed sample: it is counted, so that the audit adds up, and not named."""


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
    """Lines that could not be read but cost a vote, a text, a time, media or a label only: their rows are samples."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Every row left out, then every damaged line: code, file, line, message."""
    notes: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    """Columns without information: code (`all_null`, `one_value`), column, value, samples."""
    total: str = ""
    """How many of the release's rows there are, where that is far from all."""
    state: str = ""
    """Hash of the release's file listing and the catalog entry: the same state needs no second reading."""


def audit_path(store: Path, corpus: str) -> Path:
    """Where the audit of the last ingest lies."""
    return store / "samples" / f"{corpus}.audit.json"


def make_audit(name: str, entry: CorpusEntry, root: Path, parsed: Parsed, table: pa.Table) -> Audit:
    """Count a parsed corpus under its active label map."""
    label_map = entry.active_map
    labels = apply_map(table, name, label_map).to_pylist()
    usable = [row for row in labels if row["emotion"] is not None]
    per_class = Counter((row["split"], row["emotion"]) for row in usable)
    splits = [split for split in SPLITS if any(row["split"] == split for row in labels)]
    return Audit(
        corpus=name,
        root=str(root),
        label_map=entry.map,
        found=parsed.found,
        left_out=counted(error.code for error in parsed.left_out),
        samples=table.num_rows,
        labelled=sum(row["reason"] != "unlabelled" for row in labels),
        dropped=counted(row["reason"] for row in labels if row["emotion"] is None),
        usable=len(usable),
        classes={split: {c: per_class[split, c] for c in label_map.annotated} for split in splits},
        media={modality: counted(table[f"{modality}_status"].to_pylist()) for modality in MODALITIES},
        marks=counted(mark for marks in table["marks"].to_pylist() for mark in marks),
        damaged=counted(error.code for error in parsed.damaged),
        errors=[asdict(error) for error in (*parsed.left_out, *parsed.damaged) if error != DELETED],
        notes=list(parsed.notes),
        total=parsed.total,
        findings=[asdict(finding) for finding in column_findings(table, parsed.varying)],
    )


def counted(values: Iterable[str]) -> dict[str, int]:
    """Value -> how often, the most frequent first."""
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

"""Findings about samples and where they are kept: `checks/<corpus>.parquet`, the SQL view `findings`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from merloco.pipelines.files.atomic import TEMPORARY
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.tombstones import Tombstones, unchanged_tombstones

FIRST_IDS = 5
"""Ids that a finding names."""


@dataclass(frozen=True, slots=True)
class SampleFinding:
    """One thing about the samples of a corpus that is wrong or worth knowing."""

    corpus: str
    code: str
    severity: str
    """`error` or `warning`."""
    count: int
    """Samples concerned."""
    first_ids: tuple[str, ...]
    """The first of them in id order."""
    message: str


FINDINGS_SCHEMA = pa.schema(
    [
        ("corpus", pa.string()),
        ("code", pa.string()),
        ("severity", pa.string()),
        ("count", pa.int64()),
        ("first_ids", pa.list_(pa.string())),
        ("message", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a single check reports before it is counted: `ids` are all that are concerned."""

    code: str
    severity: str
    ids: list[str]
    message: str


def findings_path(store: Path, corpus: str) -> Path:
    """Where the findings of the last check of a corpus lie."""
    return store / "checks" / f"{corpus}.parquet"


def findings_paths(store: Path) -> list[Path]:
    """Files of every corpus that was checked, sorted by name."""
    return sorted(path for path in (store / "checks").glob("*.parquet") if not path.name.startswith(TEMPORARY))


def findings_table(findings: Iterable[SampleFinding]) -> pa.Table:
    """Findings as a table of `FINDINGS_SCHEMA`."""
    return pa.Table.from_pylist([asdict(finding) for finding in findings], schema=FINDINGS_SCHEMA)


def write_findings(store: Path, corpus: str, findings: Iterable[SampleFinding], seen: Tombstones | None = None) -> None:
    """Replace the findings of a corpus; none is written as an empty table, which says that it was checked.

    Findings name samples and speakers: raises `DataError` if the deletion list is no longer what it was before the
    samples were read (`seen`).
    """
    with unchanged_tombstones(store, seen or Tombstones(), corpus):
        write_parquet(findings_path(store, corpus), findings_table(findings))


def read_findings(store: Path, corpus: str) -> list[SampleFinding] | None:
    """The findings of the last check, or null if the corpus was never checked."""
    path = findings_path(store, corpus)
    if not path.is_file():
        return None
    rows = read_parquet(path).cast(FINDINGS_SCHEMA).to_pylist()
    return [SampleFinding(**{**row, "first_ids": tuple(row["first_ids"])}) for row in rows]

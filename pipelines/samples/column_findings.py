"""Columns of a samples table that say nothing: every value null, or one value everywhere.

A column that was read from the wrong place looks like this, and no row of it is an error by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

MIN_ROWS = 2
"""Rows below which one value is no finding."""


@dataclass(frozen=True, slots=True)
class ColumnFinding:
    """A column without information."""

    code: str
    """`all_null` or `one_value`."""
    column: str
    value: str | None
    """The one value, as text."""
    samples: int


def column_findings(samples: pa.Table, varying: Collection[str]) -> list[ColumnFinding]:
    """Findings about the columns that should vary; of `intensities`, each emotion is a column.

    Args:
        samples: The samples table of one corpus.
        varying: Columns that the corpus annotates (`merloco.pipelines.corpora.base.Parsed.varying`).
    """
    findings = []
    for column in varying:
        for name, values in _columns(samples, column):
            distinct = set(values)
            if distinct == {None}:
                findings.append(ColumnFinding("all_null", name, None, len(values)))
            elif len(distinct) == 1 and len(values) >= MIN_ROWS:
                findings.append(ColumnFinding("one_value", name, str(values[0]), len(values)))
    return findings


def _columns(samples: pa.Table, column: str) -> Iterator[tuple[str, list[Any]]]:
    values = samples[column].to_pylist()
    if column != "intensities":
        yield column, values
        return
    rows = [dict(pairs or ()) for pairs in values]
    for name in dict.fromkeys(name for row in rows for name in row):
        yield name, [row.get(name) for row in rows]

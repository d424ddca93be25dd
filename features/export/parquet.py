"""`merloco export parquet`: labels and features as one table, whose columns hold no null vector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merloco.features.export.rows import ExportRows, Selection, refuse_existing
from merloco.features.progress import RowProgress
from merloco.features.store import FeatureStore
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.schema import SPLITS
from merloco.pipelines.samples.tombstones import locked_tombstones

ROW_GROUP = 32 * 2**20
"""Bytes of rows that are gathered before they are written: what a writer keeps in memory."""


class RowGroups:
    """A Parquet file written as rows come, a row group of about `ROW_GROUP` bytes at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._tables: list[pa.Table] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None:
                self._flush()

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._tables:
            rows = pa.concat_tables(self._tables)
            self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._tables, self._bytes = [], 0


class SplitFiles(ExitStack):
    """A Parquet file for every split that has rows, written as they come."""

    def __init__(self, paths: Mapping[str, Path], schema: pa.Schema) -> None:
        super().__init__()
        self._paths, self._schema = paths, schema
        self._files: dict[str, RowGroups] = {}

    def write(self, table: pa.Table) -> None:
        """Add rows, each to the file of its `split`; they come in the schema's columns."""
        for split in pc.unique(table["split"]).to_pylist():
            if split not in self._files:
                self._files[split] = self.enter_context(RowGroups(self._paths[split], self._schema))
            rows = table.filter(pc.equal(table["split"], split))
            self._files[split].write(rows.select(self._schema.names).cast(self._schema))


def count_splits(counts: Counter[str], table: pa.Table) -> None:
    """Add the rows of a table to the rows per split."""
    counts.update({row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()})


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Rows of each split that has any, in the usual order."""
    return {split: counts[split] for split in SPLITS if counts.get(split)}


def write_one_parquet(
    store: FeatureStore, selection: Selection, path: Path, progress: RowProgress | None = None
) -> dict[str, int]:
    """Write `ExportRows` as one Parquet file; returns rows per split. A deletion waits until it is written.

    Raises:
        DataError: See `ExportRows`.
    """
    refuse_existing(path)
    counts: Counter[str] = Counter()
    with locked_tombstones(store.root), atomic_path(path) as temporary:
        rows = ExportRows(store, selection)
        with RowGroups(temporary, rows.schema) as file:
            for table in rows.tables(progress):
                count_splits(counts, table)
                file.write(table)
    return in_order(counts)

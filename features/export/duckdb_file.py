"""`merloco export duckdb`: the SQL views of a store as tables of one DuckDB file, which needs no merloco to be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.export.rows import refuse_existing, vector_array
from merloco.features.progress import RowProgress
from merloco.features.query.portable import quoted
from merloco.features.query.sql import error_text
from merloco.features.query.streaming import read_segments
from merloco.features.query.views import (
    MEMORY_SHARE,
    ViewWarning,
    add_mean,
    connect,
    current_folder,
    registered_views,
)
from merloco.features.shards.commit import commits, committed_shards
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.samples.table import ingested_table
from merloco.pipelines.samples.tombstones import locked_tombstones

STORAGE_VERSION = "v1.0.0"
"""Of the file, so that DuckDB 1.0 and all since open it; the current version writes what only itself reads."""
BATCH = 2048
"""Rows of a view that are read at a time."""
ROW_GROUP = 8192
"""Rows that DuckDB gathers in memory before it writes them; by itself it takes fifteen times as many."""
CLASSES_SCHEMA = pa.schema(
    [("corpus", pa.string()), ("map", pa.string()), ("place", pa.int32()), ("class", pa.string())]
)
"""What the places of `labels.target` and `labels.mask` are, from 1 as SQL counts."""


def write_duckdb(
    store: FeatureStore, path: Path, segments: bool = False, progress: RowProgress | None = None
) -> dict[str, int]:
    """Write a table for every view of `FeatureStore.sql`, the table `classes`, and the macro `mean_vector`.

    Feature views without a row are left out. With `segments` each other one has a table `<view>_segments` beside it: a
    row per segment with sample_id, segment (from 0) and embedding. The file appears whole or not at all. A deletion
    waits until it is written, and what is on the deletion list is not in it. `progress` counts rows of feature views.

    Returns:
        Rows of every table.

    Raises:
        DataError: The store has no samples, a shard is not the one that was committed, or the file cannot be written.
    """
    refuse_existing(path)
    if not store.corpora():
        raise DataError(f"store {str(store.root)!r} holds no samples: run `merloco ingest` first")
    with locked_tombstones(store.root) as deleted, atomic_path(path) as temporary:
        gone = deleted.samples.union(*(deleted.ids_in(ingested_table(store.root, name)) for name in store.corpora()))
        try:
            with closing(_File(temporary)) as file:
                _write_tables(store, file, pa.array(sorted(gone), pa.string()), segments, progress)
        except (duckdb.Error, OSError) as error:  # Arrow makes an OSError without a number of a file that is broken
            if isinstance(error, OSError) and error.errno:
                raise
            raise DataError(f"{path} was not written: {error_text(error)}") from None
        finally:
            temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)
    return file.rows


class _File:
    """A DuckDB file that grows by tables, a batch of rows at a time."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[str, int] = {}
        self._connection = duckdb.connect(config={"memory_limit": MEMORY_SHARE})
        place = str(path).replace("'", "''")
        options = f"storage_version '{STORAGE_VERSION}', row_group_size {ROW_GROUP}"
        self._connection.execute(f"attach '{place}' as file ({options}); use file")

    def write(self, name: str, batches: Iterable[pa.RecordBatch], progress: RowProgress | None = None) -> None:
        """Make a table of batches; none where there is no batch."""
        self._connection.execute("begin")  # as single statements, a quarter of the file would be blocks written twice
        for batch in batches:
            self._connection.register("batch", batch)
            statement = "insert into {} from batch" if name in self.rows else "create table {} as from batch"
            self._connection.execute(statement.format(quoted(name)))
            self._connection.unregister("batch")
            self.rows[name] = self.rows.get(name, 0) + batch.num_rows
            if progress:
                progress(batch.num_rows)
        self._connection.execute("commit")

    def finish(self, widths: Sequence[int]) -> None:
        """Add the macro for vectors of some widths, and bring all that was written from the log into the file."""
        add_mean(self._connection, widths)
        self._connection.execute("checkpoint file")

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()


def _write_tables(
    store: FeatureStore, file: _File, gone: pa.StringArray, segments: bool, progress: RowProgress | None
) -> None:
    widths = []
    with closing(connect(store)) as source:
        for name in registered_views(source):
            folder = current_folder(store, name) if name in store.catalog.views else None
            if name in store.catalog.views and not (folder and committed_shards(folder)):
                if folder:
                    message = f"view {name} is left out: of its fingerprint {folder.name} nothing is extracted"
                    warnings.warn(message, ViewWarning, stacklevel=2)
                continue
            reader = source.sql(f"from {quoted(name)}").to_arrow_reader(BATCH)
            nothing = pa.RecordBatch.from_arrays(
                [pa.nulls(0, kind) for kind in reader.schema.types], schema=reader.schema
            )
            file.write(name, _without(gone, chain([nothing], reader)), progress if folder else None)
            if folder:
                widths.append(reader.schema.field("pooled").type.list_size)
                if segments:
                    file.write(f"{name}_segments", _without(gone, _segments(folder)))
    entries = [(name, store.catalog.corpus(name)) for name in store.corpora()]
    classes = [
        {"corpus": name, "map": entry.map, "place": place, "class": label}
        for name, entry in entries
        for place, label in enumerate(entry.active_map.classes, 1)
    ]
    file.write("classes", [pa.RecordBatch.from_pylist(classes, schema=CLASSES_SCHEMA)])
    file.finish(widths)


def _without(gone: pa.StringArray, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches without the rows of deleted samples, which shards still hold where a deletion was interrupted."""
    for batch in batches:
        has_ids = "sample_id" in batch.schema.names
        yield batch.filter(pc.invert(pc.is_in(batch["sample_id"], gone))) if has_ids else batch


def _segments(folder: Path) -> Iterator[pa.RecordBatch]:
    """A row per segment of a view's committed shards, a shard at a time."""
    for commit in commits(folder):
        samples = list(read_segments(folder, commit))
        if samples:
            lengths = [len(sample.segments) for sample in samples]
            columns = {
                "sample_id": np.repeat([sample.sample_id for sample in samples], lengths),
                "segment": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
                "embedding": vector_array(np.concatenate([sample.segments for sample in samples])),
            }
            yield pa.RecordBatch.from_pydict(columns)

"""The rows of an export: labels, pooled vectors and segment sequences of samples, joined by id, a shard at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.extraction.segments import segment_dim
from merloco.features.progress import RowProgress
from merloco.features.query.matrices import dense_matrix
from merloco.features.query.streaming import read_segments
from merloco.features.shards.commit import Commit
from merloco.features.shards.format import SHARD_ROWS
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.formats import read_parquet
from merloco.pipelines.samples.labels import apply_map, labels_schema
from merloco.pipelines.samples.schema import ARROW_SCHEMA

NOT_EXTRACTED = "not_extracted"
COLUMNS = ("sample_id", "corpus", "split", "dialogue", "speaker", "text", "duration")
SHARDS_AT_HAND = 2
"""Shards of a view kept in memory: samples that came since the extraction move the others across two of them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a store is exported."""

    feature_set: str
    corpora: Sequence[str]
    modalities: Sequence[str] | None = None
    """Some of the feature set's; all if None."""
    segments: bool = False
    """Whether the sequences of segments are in it, beside the pooled vectors."""


def refuse_existing(path: Path) -> None:
    """Raise `UsageError` where something has the name already: an export overwrites nothing."""
    if path.exists():
        raise UsageError(f"{path} exists: name another file or folder, or remove it")


def export_classes(store: FeatureStore, corpora: Sequence[str]) -> tuple[str, ...]:
    """The classes of the corpora's maps in their order; raises `DataError` where they differ or there is no corpus."""
    maps = [tuple(store.catalog.corpus(name).active_map.classes) for name in corpora]
    if not maps:
        raise DataError(f"store {str(store.root)!r} holds no samples: run `merloco ingest` first")
    if any(classes != maps[0] for classes in maps):
        raise DataError("the label maps of these corpora have different classes: export them one by one")
    return maps[0]


class ExportRows:
    """Labels and features of samples, as tables of up to 256 rows in the order of the samples tables.

    Columns: `COLUMNS`, emotion (null where there is no single class), target and mask in the order of the label map's
    classes (zeros and false where there is no usable annotation), and for every view a column of its name (fixed-size
    float32 list), `<view>_present`, `<view>_status` and, with segments, `<view>_segments` (list of fixed-size float32
    lists). A vector that is not there is zeros and a sequence empty, not null, because vector stores and tensors know
    no null; `<view>_present` is their mask, `<view>_status` the reason.

    Made and read inside `locked_tombstones`, so that nobody is in it who was deleted before it is written.
    """

    def __init__(self, store: FeatureStore, selection: Selection) -> None:
        """See the class.

        Raises:
            DataError: The corpora have no samples or different classes, nothing of a view is extracted, or it is called
                as another column.
        """
        self.classes = export_classes(store, selection.corpora)
        self._store, self._corpora = store, selection.corpora
        self._views = [
            _ViewRows(store, view, selection)
            for view in store.views(selection.feature_set, selection.modalities).values()
        ]
        fields = [ARROW_SCHEMA.field(name) for name in COLUMNS]
        fields += [labels_schema(len(self.classes)).field(name) for name in ("emotion", "target", "mask")]
        self.schema = pa.schema([*fields, *(field for view in self._views for field in view.fields)])
        if taken := [name for name, n in Counter(self.schema.names).items() if n > 1]:
            raise DataError(
                f"two columns would be called {', '.join(taken)}: give the view another name in the catalog"
            )

    def tables(self, progress: RowProgress | None = None) -> Iterator[pa.Table]:
        """Give the rows; `progress` is called with the number of rows of every table.

        Raises:
            DataError: There is no sample, or a shard is not the one that was committed.
        """
        total = 0
        for corpus in self._corpora:
            samples = self._store.samples([corpus])
            total += samples.num_rows
            for start in range(0, samples.num_rows, SHARD_ROWS):
                yield self._table(corpus, samples.slice(start, SHARD_ROWS))
                if progress:
                    progress(min(SHARD_ROWS, samples.num_rows - start))
        if not total:
            raise DataError(f"there is no sample of {', '.join(self._corpora)} in {str(self._store.root)!r}")

    def _table(self, corpus: str, samples: pa.Table) -> pa.Table:
        labels = apply_map(samples, corpus, self._store.catalog.corpus(corpus).active_map)
        target, annotated = dense_matrix(labels["target"])
        mask = dense_matrix(labels["mask"])[0] & annotated[:, None]
        arrays = [samples[name] for name in COLUMNS]
        arrays += [labels["emotion"], vector_array(target), vector_array(mask)]
        ids = samples["sample_id"].combine_chunks()
        arrays += [array for view in self._views for array in view.arrays(ids)]
        return pa.Table.from_arrays(arrays, schema=self.schema)


@dataclass(frozen=True, slots=True)
class _ShardRows:
    table: pa.Table
    sequences: Mapping[str, np.ndarray]


class _ViewRows:
    """The columns of one view for any ids, with a few of its shards in memory."""

    def __init__(self, store: FeatureStore, view: FeatureView, selection: Selection) -> None:
        done = store.committed(view, selection.corpora)
        if not done:
            raise DataError(
                f"view {view.name!r} has no features: run `merloco extract --modalities {view.modality}` first"
            )
        folder = store.folder(view)
        paths = [folder / f"{commit.shard}.parquet" for commit in done]
        places = pa.concat_tables(read_parquet(path, ["sample_id", "shard"]) for path in paths)
        self._shard_of = dict(zip(places["sample_id"].to_pylist(), places["shard"].to_pylist(), strict=True))
        pooled = pa.list_(pa.float32(), done[0].pooled_dim)
        self._schema = pa.schema([("sample_id", pa.string()), ("status", pa.string()), ("pooled", pooled)])
        self._width = segment_dim(done[0].pooled_dim, view.pooling) if selection.segments else None
        commits = {commit.shard: commit for commit in done}
        self._shard = lru_cache(SHARDS_AT_HAND)(
            lambda name: _read_shard(folder, commits[name], self._schema, self._width)
        )
        self.fields = [
            pa.field(view.name, pooled),
            pa.field(f"{view.name}_present", pa.bool_()),
            pa.field(f"{view.name}_status", pa.string()),
        ]
        if self._width is not None:
            self.fields.append(pa.field(f"{view.name}_segments", pa.list_(pa.list_(pa.float32(), self._width))))

    def arrays(self, ids: pa.StringArray) -> list[pa.Array]:
        """The columns of `fields` for some ids."""
        names = dict.fromkeys(self._shard_of.get(sample_id) for sample_id in ids.to_pylist())
        shards = [self._shard(name) for name in names if name]
        rows = pa.concat_tables([self._schema.empty_table(), *(shard.table for shard in shards)])
        rows = rows.take(pc.index_in(ids, value_set=rows["sample_id"].combine_chunks()))
        matrix, present = dense_matrix(rows["pooled"])
        status = pc.fill_null(rows["status"].combine_chunks(), NOT_EXTRACTED)
        arrays: list[pa.Array] = [vector_array(matrix), pa.array(present), status]
        if self._width is not None:
            none = np.zeros((0, self._width), dtype=np.float32)
            found = {name: array for shard in shards for name, array in shard.sequences.items()}
            arrays.append(segment_lists([found.get(name, none) for name in ids.to_pylist()]))
        return arrays


def _read_shard(folder: Path, commit: Commit, schema: pa.Schema, width: int | None) -> _ShardRows:
    """Rows of a shard and, if there is a width, its sequences."""
    table = read_parquet(folder / f"{commit.shard}.parquet", schema.names)
    sequences = {} if width is None else {s.sample_id: s.segments for s in read_segments(folder, commit)}
    widths = {sequence.shape[1] for sequence in sequences.values()} - {width}
    if widths or table.schema.field("pooled").type != schema.field("pooled").type:
        raise DataError(f"{folder / commit.shard}: not as wide as the other shards of its view: run `merloco check`")
    return _ShardRows(table.cast(schema), sequences)


def vector_array(matrix: np.ndarray) -> pa.Array:
    """A matrix (N, K) as N fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def segment_lists(sequences: Sequence[np.ndarray]) -> pa.Array:
    """Arrays (n_segments, dim) of one width as lists of fixed-size lists."""
    offsets = np.cumsum([0, *(len(sequence) for sequence in sequences)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), vector_array(np.concatenate(sequences)))

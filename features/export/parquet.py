"""`merloco export --to parquet`: labels and pooled features as one table, whose columns hold no null vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.query.matrices import dense_matrix
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import SPLITS
from merloco.pipelines.samples.tombstones import drop_rows, locked_tombstones

NOT_EXTRACTED = "not_extracted"
COLUMNS = ["sample_id", "corpus", "split", "dialogue", "speaker", "text", "duration"]


def refuse_existing(path: Path) -> None:
    """Raise `UsageError` where something has the name already: an export overwrites nothing."""
    if path.exists():
        raise UsageError(f"{path} exists: name another file or folder with --out, or remove it")


def export_table(
    store: FeatureStore, feature_set: str, corpora: Sequence[str], modalities: Sequence[str] | None = None
) -> pa.Table:
    """Labels and pooled features of samples, joined by id.

    Returns:
        `COLUMNS`, emotion (null where there is no single class), target and mask in the order of the label map's
        classes (zeros and false where there is no usable annotation), and for every view a column of its name
        (fixed-size float32 list), `<view>_present` and `<view>_status`. A vector that is not there is zeros, not null,
        because vector stores and tensors know no null; `<view>_present` is its mask, `<view>_status` the reason.

    Raises:
        DataError: A corpus has no samples, their label maps have different classes, or nothing of a view is extracted.
    """
    samples = store.samples(corpora)
    classes = export_classes(store, corpora)
    labelled = pa.concat_tables(
        apply_map(samples.filter(pc.equal(samples["corpus"], name)), name, store.catalog.corpus(name).active_map)
        for name in corpora
    )
    table = samples.select(COLUMNS).append_column("emotion", labelled["emotion"])
    unlabelled = labelled["target"].is_null()
    target = _dense(labelled["target"])
    mask = pc.if_else(unlabelled, pa.scalar([False] * len(classes), labelled["mask"].type), labelled["mask"])
    table = table.append_column("target", target).append_column("mask", mask)
    for view in store.views(feature_set, modalities).values():
        vectors, status = _columns(store, view, corpora, table["sample_id"].combine_chunks())
        table = table.append_column(view.name, _dense(vectors))
        table = table.append_column(f"{view.name}_present", vectors.is_valid())
        table = table.append_column(f"{view.name}_status", status)
    return table


def export_classes(store: FeatureStore, corpora: Sequence[str]) -> tuple[str, ...]:
    """The classes of the corpora's maps in their order; raises `DataError` where they differ."""
    first, *others = [tuple(store.catalog.corpus(name).active_map.classes) for name in corpora]
    if any(classes != first for classes in others):
        raise DataError("the label maps of these corpora have different classes: export them one by one")
    return first


def _dense(vectors: pa.ChunkedArray) -> pa.Array:
    """Fixed-size lists with zeros in place of nulls."""
    values, _ = dense_matrix(vectors)
    return pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])


def _columns(
    store: FeatureStore, view: FeatureView, corpora: Sequence[str], ids: pa.StringArray
) -> tuple[pa.ChunkedArray, pa.Array]:
    done = store.committed(view, corpora)
    if not done:
        raise DataError(f"view {view.name!r} has no features: run `merloco extract --modalities {view.modality}` first")
    paths = [store.folder(view) / f"{commit.shard}.parquet" for commit in done]
    rows = pa.concat_tables(read_parquet(path, ["sample_id", "status", "pooled"]) for path in paths)
    rows = rows.combine_chunks()
    rows = rows.take(pc.index_in(ids, value_set=rows["sample_id"].combine_chunks()))
    vectors = rows["pooled"].cast(pa.list_(pa.float32(), done[0].pooled_dim))
    return vectors, pc.fill_null(rows["status"].combine_chunks(), NOT_EXTRACTED)


def write_one_parquet(store: FeatureStore, table: pa.Table, path: Path) -> dict[str, int]:
    """Write `export_table` as one Parquet file, without what was deleted since; returns rows per split."""
    refuse_existing(path)
    with locked_tombstones(store.root) as deleted:
        table = drop_rows(table, deleted.ids_in(table))
        write_parquet(path, table)
    return rows_per_split(table)


def rows_per_split(table: pa.Table) -> dict[str, int]:
    """Rows of each split that has any, in the usual order."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    return {split: counts[split] for split in SPLITS if split in counts}

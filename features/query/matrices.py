"""In-memory matrices for training: pooled features of a feature set joined with labels by sample id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from merloco.features.shards.commit import Commit
from merloco.features.shards.format import OK
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.models.fusion.dataset import Dataset
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map


def load_matrices(
    store: FeatureStore,
    feature_set: str,
    corpora: Sequence[str],
    modalities: Sequence[str] | None = None,
    vectors: bool = True,
) -> Dataset:
    """Load everything that an experiment needs.

    Args:
        store: The store.
        feature_set: Its name.
        corpora: Names.
        modalities: Some of the feature set's, or some of a modality's several views; all if None.
        vectors: Without them `features` is empty: enough to know what each row has, and far less to read.

    Raises:
        DataError: A corpus has no samples, its map has other classes than the first corpus's, or it lacks a view.
    """
    views = store.views(feature_set, modalities)
    samples = store.samples(corpora)
    labels = _labels(store, samples, corpora)
    target, annotated = dense_matrix(labels["target"])
    classes = store.catalog.corpus(corpora[0]).active_map.classes
    ids = samples["sample_id"].combine_chunks()
    names = ids.to_pylist()
    row_of = {name: row for row, name in enumerate(names)}
    features, present = {}, {}
    for modality, view in views.items():
        if vectors:
            features[modality], present[modality] = _feature_matrix(store, view, corpora, row_of)
        else:
            present[modality] = _presence(store, view, corpora, ids)
    emotions = labels["emotion"].to_pylist()
    return Dataset(
        sample_id=np.array(names),
        corpus=np.array(samples["corpus"].to_pylist()),
        split=np.array(samples["split"].to_pylist()),
        dialogue=np.array([d or name for d, name in zip(samples["dialogue"].to_pylist(), names, strict=True)]),
        features=features,
        present=present,
        modality_of={name: view.modality for name, view in views.items()},
        label=np.array([-1 if e is None else classes.index(e) for e in emotions], dtype=np.int64),
        target=target,
        mask=dense_matrix(labels["mask"])[0] & annotated[:, None],
        classes=classes,
    )


def _labels(store: FeatureStore, samples: pa.Table, corpora: Sequence[str]) -> pa.Table:
    tables, first = [], None
    for name in corpora:
        entry = store.catalog.corpus(name)
        label_map = entry.active_map
        first = first or label_map.classes
        if label_map.classes != first:
            raise DataError(
                f"corpus {name!r} uses map {entry.map!r} with the classes {', '.join(label_map.classes)}, but "
                f"{corpora[0]!r} has {', '.join(first)}: corpora trained together need one set of classes"
            )
        tables.append(apply_map(samples.filter(pc.equal(samples["corpus"], name)), name, label_map))
    return pa.concat_tables(tables)


def dense_matrix(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column of fixed-size lists as a matrix (N, K), zeros where a list is null, and which are not (N,)."""
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    values = column.drop_null().combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix = np.zeros((len(column), column.type.list_size), dtype=values.dtype)
    matrix[present] = values.reshape(-1, matrix.shape[1])
    return matrix, present


def require_extracted(store: FeatureStore, view: FeatureView, corpora: Sequence[str]) -> list[Commit]:
    """Commit records of a view for some corpora; raises `DataError` where one of them has none."""
    done = store.committed(view, corpora)
    missing = sorted(set(corpora) - {commit.corpus for commit in done})
    if missing:
        raise DataError(
            f"view {view.name!r} has no features for {', '.join(missing)}: "
            f"run `merloco extract --corpora {','.join(missing)} --modalities {view.modality}` first"
        )
    return done


def _committed(store: FeatureStore, view: FeatureView, corpora: Sequence[str]) -> tuple[list[Commit], ds.Dataset]:
    """Commit records of a view and the rows of their shards."""
    done = require_extracted(store, view, corpora)
    paths = [str(store.folder(view) / f"{commit.shard}.parquet") for commit in done]
    return done, ds.dataset(paths, format="parquet")


def _presence(store: FeatureStore, view: FeatureView, corpora: Sequence[str], ids: pa.StringArray) -> np.ndarray:
    """Which of `ids` have a vector, by the status of their rows: a row is `ok` if and only if it has one."""
    _, rows = _committed(store, view, corpora)
    present = rows.to_table(columns=["sample_id"], filter=ds.field("status") == OK)["sample_id"]
    return pc.is_in(ids, value_set=present.combine_chunks()).to_numpy(zero_copy_only=False)


def _feature_matrix(
    store: FeatureStore, view: FeatureView, corpora: Sequence[str], row_of: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled vectors of a view, each in the row of its sample id, and which of them are present."""
    done, shards = _committed(store, view, corpora)
    dim = done[0].pooled_dim
    matrix = np.zeros((len(row_of), dim), dtype=np.float32)
    present = np.zeros(len(row_of), dtype=bool)
    for batch in shards.to_batches(columns=["sample_id", "pooled"]):  # only the matrix holds all vectors
        chunk = batch["pooled"]
        rows = np.array([row_of.get(name, -1) for name in batch["sample_id"].to_pylist()], dtype=np.int64)
        usable = (rows >= 0) & chunk.is_valid().to_numpy(zero_copy_only=False)
        if not usable.all():
            chunk, rows = chunk.filter(pa.array(usable)), rows[usable]
        if len(rows) == 0:
            continue
        first, last = int(rows[0]), int(rows[-1])
        vectors = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        if np.array_equal(rows, np.arange(first, last + 1)):  # the usual case: both in the order of the samples table
            matrix[first : last + 1] = vectors
        else:
            matrix[rows] = vectors
        present[rows] = True
    return matrix, present

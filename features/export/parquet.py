"""`merloco export`: pooled features with labels as one Parquet file or a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.atomic import atomic_folder
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.table import read_samples
from merloco.pipelines.samples.tombstones import drop_rows, locked_tombstones

NOT_EXTRACTED = "not_extracted"
HF_SPLITS = {"train": "train", "val": "validation", "test": "test", "none": "none"}


def refuse_existing(path: Path) -> None:
    """Raise `UsageError` where something has the name already: an export overwrites nothing."""
    if path.exists():
        raise UsageError(f"{path} exists: name another file or folder with --out, or remove it")


def export_table(
    store: FeatureStore, feature_set: str, corpora: Sequence[str], modalities: Sequence[str] | None = None
) -> pa.Table:
    """Labels and pooled features of samples, joined by id.

    Returns:
        sample_id, corpus, split, dialogue, speaker, emotion (null where there is no single class), target and mask in
        the order of the label map's classes, and for every view a column of its name (fixed-size float32 list, null
        where there is no vector) and `<view>_status`, which says why.

    Raises:
        DataError: A corpus has no samples, or nothing of a view is extracted.
    """
    samples = store.samples(corpora)
    labels = [apply_map(read_samples(store.root, n), n, _map(store, n)) for n in corpora]
    if len({table.schema for table in labels}) > 1:
        raise DataError("the label maps of these corpora have different numbers of classes: export them one by one")
    table = samples.select(["sample_id", "corpus", "split", "dialogue", "speaker"])
    labelled = pa.concat_tables(labels)
    for name in ("emotion", "target", "mask"):
        table = table.append_column(name, labelled[name])
    for view in store.views(feature_set, modalities).values():
        vectors, status = _columns(store, view, corpora, table["sample_id"].combine_chunks())
        table = table.append_column(view.name, vectors).append_column(f"{view.name}_status", status)
    return table


def _map(store: FeatureStore, corpus: str) -> Any:
    entry = store.catalog.corpus(corpus)
    return entry.maps[entry.map]


def _columns(
    store: FeatureStore, view: FeatureView, corpora: Sequence[str], ids: pa.StringArray
) -> tuple[pa.Array, pa.Array]:
    done = store.committed(view, corpora)
    if not done:
        raise DataError(f"view {view.name!r} has no features: run `merloco extract --modalities {view.modality}` first")
    paths = [store.folder(view) / f"{commit.shard}.parquet" for commit in done]
    rows = pa.concat_tables(read_parquet(path, ["sample_id", "status", "pooled"]) for path in paths)
    rows = rows.combine_chunks()
    rows = rows.take(pc.index_in(ids, value_set=rows["sample_id"].combine_chunks()))
    vectors = rows["pooled"].combine_chunks().cast(pa.list_(pa.float32(), done[0].pooled_dim))
    return vectors, pc.fill_null(rows["status"].combine_chunks(), NOT_EXTRACTED)


def write_one_parquet(store: FeatureStore, table: pa.Table, path: Path) -> dict[str, int]:
    """Write `export_table` as one Parquet file, without what was deleted since; returns rows per split."""
    refuse_existing(path)
    with locked_tombstones(store.root) as deleted:
        table = drop_rows(table, deleted.ids_in(table))
        write_parquet(path, table)
    return _per_split(table)


def write_hf(store: FeatureStore, table: pa.Table, about: str, folder: Path) -> dict[str, int]:
    """Write a folder that `datasets.load_dataset` reads: one Parquet file per split and a card with the text `about`.

    `val` is called `validation`, as everywhere on the hub. The folder appears whole or not at all, without what was
    deleted since. Returns rows per split.
    """
    refuse_existing(folder)
    with locked_tombstones(store.root) as deleted, atomic_folder(folder) as temporary:
        table = drop_rows(table, deleted.ids_in(table))
        counts = {HF_SPLITS[split]: n for split, n in _per_split(table).items()}
        for split, name in HF_SPLITS.items():
            if name in counts:
                write_parquet(temporary / "data" / f"{name}.parquet", table.filter(pc.equal(table["split"], split)))
        (temporary / "README.md").write_text(f"---\n{_head(counts)}---\n{about}", encoding="utf-8")
    return counts


def _per_split(table: pa.Table) -> dict[str, int]:
    counts = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    return {split: counts[split] for split in HF_SPLITS if split in counts}


def _head(splits: Iterable[str]) -> str:
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in splits]
    return yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False)


def card(store: FeatureStore, feature_set: str, corpora: Sequence[str], modalities: Sequence[str] | None = None) -> str:
    """What a peer has to know of an export: views with their fingerprints, classes, label maps."""
    views = store.views(feature_set, modalities).values()
    lines = [
        f"# Pooled features of {', '.join(corpora)}",
        "",
        f"Feature set `{feature_set}` of a merloco store, one column per view. Where a view has no vector it is null,",
        "and `<view>_status` says why.",
        "",
        *(f"- `{view.name}` ({view.modality}), fingerprint `{view.fingerprint}`" for view in views),
        "",
        f"Classes of `target` and `mask`, in order: {', '.join(_map(store, corpora[0]).classes)}. Label maps:",
        "",
        *(f"- {name}: `{store.catalog.corpus(name).map}`" for name in corpora),
        "",
        "The licences of the corpora hold for features made from them.",
        "",
    ]
    return "\n".join(lines)

"""The SQL views of a store: Arrow tables and data sets over its committed files, on a connection of their own."""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from merloco.features.query.index import shards_dataset, view_rows
from merloco.features.query.runs import runs_table
from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, run_folders
from merloco.features.shards.commit import commits
from merloco.features.shards.format import OK, shard_schema
from merloco.features.views import FeatureView
from merloco.models.encoders.base import ModelError
from merloco.pipelines.catalog.loader import Catalog
from merloco.pipelines.checks.findings import FINDINGS_SCHEMA, findings_paths
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map, labels_schema
from merloco.pipelines.samples.schema import ARROW_SCHEMA
from merloco.pipelines.samples.table import ingested, read_samples

if TYPE_CHECKING:
    import pyarrow.dataset as ds


class Store(Protocol):
    """What the views need of a store (`merloco.features.store.FeatureStore`)."""

    root: Path
    catalog: Catalog

    def corpora(self, names: Iterable[str] | None = None) -> list[str]:
        """Names of ingested corpora."""

    def view(self, name: str) -> FeatureView:
        """A view of the catalog, resolved."""

    def folder(self, view: FeatureView) -> Path:
        """Where a view's shards lie."""


SHARDS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("view", "fingerprint", "shard", "corpus")),
        *((name, pa.int64()) for name in ("rows", "ok", "failed", "pooled_dim")),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("current", pa.bool_()),
    ]
)
FAILURES_SCHEMA = pa.schema([(name, pa.string()) for name in ("view", "sample_id", "status", "error", "shard")])


MEMORY_SHARE = "50%"
"""Of the memory of the machine, or of its control group where that is less; what a query needs beyond goes to disk."""
_LISTING = re.compile(r"\b(information_schema|pg_\w+|sqlite_\w+|duckdb_\w+)\b")
"""Words of queries that look at all views; `show` and `describe` do where they name none."""
_SHOWING = frozenset({"show", "describe", "desc"})


@cache
def _spill_folder() -> tempfile.TemporaryDirectory:
    """A folder of this process that nobody else may read; it goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="merloco-sql-")


def connect(store: Store, query: str = "") -> duckdb.DuckDBPyConnection:
    """A connection on which the store's views are registered; with a query, only those that it may use."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "python_enable_replacements": "false",
            "memory_limit": MEMORY_SHARE,
            # DuckDB makes the folder when it has to and removes it with the connection.
            "temp_directory": os.path.join(_spill_folder().name, uuid.uuid4().hex),
        },
    )
    mentioned = set(re.findall(r"\w+", query.lower()))
    named = [name for name in view_names(store) if mentioned.issuperset(re.findall(r"\w+", name.lower()))]
    listing = not query or _LISTING.search(query.lower()) or (not named and mentioned & _SHOWING)
    widths = []
    for name in view_names(store) if listing else named:
        try:
            rows = _FIXED[name](store) if name in _FIXED else _view(store, name, pooled="pooled" in mentioned)
            connection.register(name, rows)
            if name not in _FIXED:
                widths.append(rows.schema.field("pooled").type.list_size)
        except DataError as error:
            if not listing:
                raise
            warnings.warn(f"view {name} is left out: {error}", ViewWarning, stacklevel=2)
    if MEAN in mentioned or not query:
        add_mean(connection, widths)
    connection.execute("set enable_external_access = false; set lock_configuration = true")
    return connection


MEAN = "mean_vector"
"""Aggregate of the connection: the mean of vectors, component by component; null where there is none."""


def add_mean(connection: duckdb.DuckDBPyConnection, widths: Sequence[int]) -> None:
    """Define `mean_vector(pooled)` for the widths of the views at hand.

    A column of averages takes a sixth of the time of unnested vectors and a tenth of the memory.
    """
    widest = max(widths, default=1)
    components = ", ".join(f"avg(v[{i}])::FLOAT" for i in range(1, widest + 1))
    one = len(set(widths)) == 1
    vector = f"[{components}]::FLOAT[{widest}]" if one else f"list_slice([{components}], 1, any_value(len(v)))"
    connection.execute(f"create macro {MEAN}(v) as case when count(v) > 0 then {vector} end")


def _dataset(paths: list[Path], schema: pa.Schema) -> ds.Dataset | pa.Table:
    if not paths:
        return schema.empty_table()
    import pyarrow.dataset as ds  # see `shards_dataset`

    return ds.dataset([str(path) for path in paths], schema=schema)


def _samples(store: Store) -> pa.Table:
    tables = [read_samples(store.root, name) for name in ingested(store.root)]
    return pa.concat_tables(tables) if tables else ARROW_SCHEMA.empty_table()


def _labels(store: Store) -> pa.Table:
    tables = []
    for name in store.corpora():
        entry = store.catalog.corpus(name)
        tables.append(apply_map(read_samples(store.root, name), name, entry.active_map))
    widths = {table.schema.field("target").type.list_size for table in tables}
    if len(widths) > 1:  # maps over different classes: plain lists hold them side by side
        lists = {"target": pa.list_(pa.float32()), "mask": pa.list_(pa.bool_())}
        fields = [pa.field(f.name, lists.get(f.name, f.type)) for f in labels_schema(1)]
        tables = [table.cast(pa.schema(fields)) for table in tables]
    return pa.concat_tables(tables) if tables else labels_schema(len(store.catalog.label_order)).empty_table()


def view_folders(store: Store) -> list[tuple[str, Path, bool]]:
    """(view, folder, current) for every fingerprint on disk; without its weights a view's newest one is current."""
    folders = []
    for view_folder in sorted(path for path in (store.root / "views").glob("*") if path.is_dir()):
        name = view_folder.name
        current = current_folder(store, name) if name in store.catalog.views else None
        folders += [(name, path, path == current) for path in sorted(view_folder.iterdir()) if path.is_dir()]
    return folders


class ViewWarning(UserWarning):
    """A view is not what its name says, for example another folder answers than the one that the catalog means."""


def current_folder(store: Store, name: str, warn: bool = False) -> Path | None:
    """The folder of a view's fingerprint under the catalog; the newest on disk if its weights are not here."""
    on_disk = [path for path in (store.root / "views" / name).glob("*") if path.is_dir()]
    if not on_disk:
        return None
    try:
        return store.folder(store.view(name))
    except ModelError as error:
        newest = sorted(on_disk, key=lambda path: path.stat().st_mtime)[-1]
        if warn:
            message = f"view {name}: the newest folder answers, fingerprint {newest.name}, because {error}"
            warnings.warn(message, ViewWarning, stacklevel=2)
        return newest


def _view(store: Store, name: str, pooled: bool) -> ds.Dataset | pa.Table:
    folder = current_folder(store, name, warn=True)
    return view_rows(store.root, folder, pooled) if folder else shard_schema(1).empty_table()


def _shards(store: Store) -> pa.Table:
    rows = [
        {
            "view": name,
            "fingerprint": folder.name,
            "current": current,
            "seconds": list(commit.seconds.items()),
            **{key: getattr(commit, key) for key in ("shard", "corpus", "rows", "ok", "failed", "pooled_dim")},
        }
        for name, folder, current in view_folders(store)
        for commit in commits(folder)
    ]
    return pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA)


def _failures(store: Store) -> pa.Table:
    tables = []
    for name, folder, current in view_folders(store):
        done = [commit for commit in commits(folder) if commit.failed]
        if current and done:
            columns = ["sample_id", "status", "error", "shard"]
            table = shards_dataset(folder, done).to_table(columns=columns, filter=pc.field("status") != OK)
            tables.append(table.add_column(0, "view", pa.array([name] * table.num_rows, pa.string())))
    return pa.concat_tables([t.cast(FAILURES_SCHEMA) for t in tables]) if tables else FAILURES_SCHEMA.empty_table()


def _run_files(store: Store, name: str, schema: pa.Schema) -> ds.Dataset | pa.Table:
    return _dataset([folder / name for folder in run_folders(store.root)], schema)


_FIXED: dict[str, Callable[[Store], ds.Dataset | pa.Table]] = {
    "samples": _samples,
    "labels": _labels,
    "shards": _shards,
    "failures": _failures,
    "runs": lambda store: runs_table(store.root),
    "metrics": lambda store: _run_files(store, "metrics.parquet", METRICS_SCHEMA),
    "epochs": lambda store: _run_files(store, "epochs.parquet", EPOCHS_SCHEMA),
    "predictions": lambda store: _run_files(store, "predictions.parquet", PREDICTIONS_SCHEMA),
    "findings": lambda store: _dataset(findings_paths(store.root), FINDINGS_SCHEMA),
}


def view_names(store: Store) -> list[str]:
    """Names that a query can use: the fixed views, and one per feature view of the catalog."""
    return [*_FIXED, *store.catalog.views]


def registered_views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of the views that a connection has, sorted."""
    names = connection.execute("select view_name from duckdb_views() where not internal order by 1").fetchall()
    return [name for (name,) in names]


def describe_views(store: Store) -> list[tuple[str, str]]:
    """(view, columns) of everything that can be queried, for help texts."""
    connection = connect(store)
    views = []
    for name in registered_views(connection):
        columns = connection.execute(f"describe {json.dumps(name)}").fetchall()
        views.append((name, ", ".join(f"{column[0]} {column[1]}" for column in columns)))
    return views

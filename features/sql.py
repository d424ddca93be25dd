"""SQL over the store: an in-memory DuckDB connection whose views scan committed Parquet files through Arrow.

The connection has no reach to files or the network: DuckDB sees only what is registered here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from features.columns import unique_names
from features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, run_folders, runs_table
from features.shards import Commit, commits, shard_schema
from models.encoders import ModelError
from pipelines.errors import DataError, nearest
from pipelines.findings import FINDINGS_SCHEMA, findings_paths
from pipelines.labels import apply_map, labels_schema
from pipelines.samples import ingested, read_samples
from pipelines.schema import ARROW_SCHEMA

if TYPE_CHECKING:
    from features.store import FeatureStore

SHARDS_SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("fingerprint", pa.string()),
        ("shard", pa.string()),
        ("corpus", pa.string()),
        ("rows", pa.int64()),
        ("ok", pa.int64()),
        ("failed", pa.int64()),
        ("pooled_dim", pa.int64()),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("current", pa.bool_()),
    ]
)
FAILURES_SCHEMA = pa.schema([(name, pa.string()) for name in ("view", "sample_id", "status", "error", "shard")])


_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)
"""A pivot is a `MULTI`: DuckDB rewrites it into several."""
_UNKNOWN_TABLE = re.compile(r"Table with name (\w+) does not exist")


def run_query(store: FeatureStore, query: str) -> duckdb.DuckDBPyRelation:
    """Run one query on a fresh connection.

    Raises:
        DataError: DuckDB refuses the query; the sentence carries its reason and, for an unknown name, the views.
    """
    connection = connect(store, query)
    try:
        _check_statements(connection.extract_statements(query))
        relation = _with_unique_names(connection.sql(query))
    except duckdb.CatalogException as error:
        reason = _reason(error).split(" Did you mean")[0].rstrip("!. ")
        unknown = _UNKNOWN_TABLE.search(reason)
        hint = nearest(unknown[1], view_names(store)).partition("known:")[0] if unknown else ""
        raise DataError(f"SQL: {reason}; {hint}views here: {', '.join(view_names(store))}") from None
    except duckdb.Error as error:
        raise DataError(f"SQL: {_reason(error)}") from None
    return relation


def _with_unique_names(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The same rows under names that no two columns share: whoever reads them by name must not get another's values."""
    names = unique_names(relation.columns)
    if names == relation.columns:
        return relation
    columns = (f"#{number} as {_quoted(name)}" for number, name in enumerate(names, 1))
    return relation.project(", ".join(columns))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_statements(statements: list[duckdb.Statement]) -> None:
    """One query that reads; a store is not changed in SQL, and of several statements only the last would answer."""
    if len(statements) > 1:
        raise DataError(f"SQL: {len(statements)} statements: expected one query at a time")
    if not statements or statements[0].type not in _READING:
        raise DataError(
            "SQL: the statement gives no rows: expected a query such as `select corpus, count(*) from samples`"
        )


def answer(store: FeatureStore, query: str) -> pa.Table:
    """Run one query to its end; raises `DataError` also for what goes wrong only while rows are computed."""
    try:
        return run_query(store, query).to_arrow_table()
    except duckdb.Error as error:
        raise DataError(f"SQL: {_reason(error)}") from None


def _reason(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("^", "LINE "))]
    return re.sub(r"\s+", " ", " ".join(kept))


def connect(store: FeatureStore, query: str = "") -> duckdb.DuckDBPyConnection:
    """A connection on which the store's views are registered.

    Args:
        store: The store.
        query: Where given, views that its text does not mention are not prepared.
    """
    connection = duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": "false", "python_enable_replacements": "false"}
    )
    mentioned = set(re.findall(r"\w+", query.lower()))

    def wanted(name: str) -> bool:
        return not query or name.lower() in mentioned

    for name in view_names(store):
        if wanted(name):
            connection.register(name, _FIXED[name](store) if name in _FIXED else _view(store, name))
    connection.execute("set enable_external_access = false; set lock_configuration = true")
    return connection


def _dataset(paths: list[Path], schema: pa.Schema) -> ds.Dataset | pa.Table:
    return ds.dataset([str(path) for path in paths], schema=schema) if paths else schema.empty_table()


def _samples(store: FeatureStore) -> pa.Table:
    tables = [read_samples(store.root, name) for name in ingested(store.root)]
    return pa.concat_tables(tables) if tables else ARROW_SCHEMA.empty_table()


def _labels(store: FeatureStore) -> pa.Table:
    tables = []
    for name in store.corpora():
        entry = store.catalog.corpus(name)
        tables.append(apply_map(read_samples(store.root, name), name, entry.maps[entry.map]))
    widths = {table.schema.field("target").type.list_size for table in tables}
    if len(widths) > 1:  # maps over different classes: plain lists hold them side by side
        lists = {"target": pa.list_(pa.float32()), "mask": pa.list_(pa.bool_())}
        fields = [pa.field(f.name, lists.get(f.name, f.type)) for f in labels_schema(1)]
        tables = [table.cast(pa.schema(fields)) for table in tables]
    return pa.concat_tables(tables) if tables else labels_schema(len(store.catalog.label_order)).empty_table()


def _view_folders(store: FeatureStore) -> list[tuple[str, Path, bool]]:
    """(view, folder, current) for every fingerprint on disk; without its weights a view's newest one is current."""
    found = []
    for name in sorted(path.name for path in (store.root / "views").glob("*") if path.is_dir()):
        current = current_folder(store, name) if name in store.catalog.views else None
        for folder in sorted((store.root / "views" / name).iterdir()):
            if folder.is_dir():
                found.append((name, folder, folder == current))
    return found


def current_folder(store: FeatureStore, name: str) -> Path | None:
    """The folder of a view's fingerprint under the catalog; the newest on disk if its weights are not here."""
    on_disk = sorted(
        (p for p in (store.root / "views" / name).glob("*") if p.is_dir()), key=lambda p: p.stat().st_mtime
    )
    if not on_disk:
        return None
    try:
        return store.folder(store.view(name))
    except ModelError:
        return on_disk[-1]


def _view(store: FeatureStore, name: str) -> ds.Dataset | pa.Table:
    folder = current_folder(store, name)
    done = commits(folder) if folder else []
    if folder is None or not done:
        return shard_schema(1).empty_table()
    return _dataset([folder / f"{commit.shard}.parquet" for commit in done], shard_schema(_dim(folder, done)))


def _dim(folder: Path, done: list[Commit]) -> int:
    dims = sorted({commit.pooled_dim for commit in done})
    if len(dims) > 1:
        raise DataError(f"{folder}: shards of different widths ({dims}): run `merloco check`")
    return dims[0]


def _shards(store: FeatureStore) -> pa.Table:
    rows = [
        {
            "view": name,
            "fingerprint": folder.name,
            "current": current,
            "seconds": list(commit.seconds.items()),
            **{key: getattr(commit, key) for key in ("shard", "corpus", "rows", "ok", "failed", "pooled_dim")},
        }
        for name, folder, current in _view_folders(store)
        for commit in commits(folder)
    ]
    return pa.Table.from_pylist(rows, schema=SHARDS_SCHEMA)


def _failures(store: FeatureStore) -> pa.Table:
    tables = []
    for name, folder, current in _view_folders(store):
        done = [commit for commit in commits(folder) if commit.failed]
        if current and done:
            schema = shard_schema(_dim(folder, done))
            rows = _dataset([folder / f"{commit.shard}.parquet" for commit in done], schema)
            table = rows.to_table(columns=["sample_id", "status", "error", "shard"], filter=ds.field("status") != "ok")
            tables.append(table.add_column(0, "view", pa.array([name] * table.num_rows, pa.string())))
    return pa.concat_tables([t.cast(FAILURES_SCHEMA) for t in tables]) if tables else FAILURES_SCHEMA.empty_table()


def _run_files(store: FeatureStore, name: str, schema: pa.Schema) -> ds.Dataset | pa.Table:
    return _dataset([folder / name for folder in run_folders(store.root)], schema)


_FIXED: dict[str, Callable[[FeatureStore], ds.Dataset | pa.Table]] = {
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


def view_names(store: FeatureStore) -> list[str]:
    """Names that a query can use: the fixed views, and one per feature view of the catalog."""
    return [*_FIXED, *store.catalog.views]


def describe_views(store: FeatureStore) -> list[tuple[str, str]]:
    """(view, columns) of everything that can be queried, for help texts."""
    connection = connect(store)
    names = [row[0] for row in connection.execute("select view_name from duckdb_views() where not internal").fetchall()]
    described = []
    for name in sorted(names):
        columns = connection.execute(f"describe {json.dumps(name)}").fetchall()
        described.append((name, ", ".join(f"{column[0]} {column[1]}" for column in columns)))
    return described

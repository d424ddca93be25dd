"""`merloco check`: every committed shard against its record, the samples table and the other shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.shards import Commit, commits
from features.sql import current_folder
from pipelines.errors import DataError
from pipelines.files import TEMPORARY, sha256_file

if TYPE_CHECKING:
    from features.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing."""

    code: str
    severity: str
    """`error` (data would be wrong or lost) or `warning` (safe, but not as it should be)."""
    where: str
    """Path relative to the store."""
    message: str


def check_store(store: FeatureStore) -> list[Finding]:
    """Check every file of the store; no finding means that all of it can be trusted."""
    findings = list(_leftovers(store.root))
    for view_folder in sorted((store.root / "views").glob("*")):
        current = current_folder(store, view_folder.name) if view_folder.name in store.catalog.views else None
        for folder in sorted(path for path in view_folder.iterdir() if path.is_dir()):
            findings += _folder(store, folder)
            if folder != current:
                where = str(folder.relative_to(store.root))
                findings.append(Finding("superseded", "warning", where, "no view of the catalog has this fingerprint"))
    findings += _stale(store)
    return findings


def _leftovers(root: Path) -> Iterator[Finding]:
    for path in sorted(root.rglob(f"{TEMPORARY}*")):
        yield Finding("leftover", "warning", str(path.relative_to(root)), "unfinished file of a killed writer")


def _folder(store: FeatureStore, folder: Path) -> Iterator[Finding]:
    where = folder.relative_to(store.root)
    try:
        done = commits(folder)
    except DataError as error:
        yield Finding("broken_commit", "error", str(where), str(error))
        return
    names = {commit.shard for commit in done}
    for path in sorted(folder.glob("*.tar")) + sorted(folder.glob("*.parquet")):
        if path.stem not in names and not path.name.startswith(TEMPORARY):
            yield Finding("orphan", "warning", str(path.relative_to(store.root)), "no commit record: it does not exist")
    seen: dict[str, str] = {}
    for commit in done:
        problems = list(_shard(folder, commit))
        yield from (Finding(code, "error", f"{where}/{commit.shard}", message) for code, message in problems)
        if problems:
            continue
        for sample_id in pq.read_table(folder / f"{commit.shard}.parquet", columns=["sample_id"])[
            "sample_id"
        ].to_pylist():
            if sample_id in seen:
                message = f"sample {sample_id} is also in {seen[sample_id]}"
                yield Finding("duplicate", "error", f"{where}/{commit.shard}", message)
            seen[sample_id] = commit.shard


def _shard(folder: Path, commit: Commit) -> Iterator[tuple[str, str]]:
    for kind, expected in (("tar", commit.tar_sha256), ("parquet", commit.parquet_sha256)):
        path = folder / f"{commit.shard}.{kind}"
        if not path.is_file():
            yield "missing_file", f"{path.name} is not there"
            return
        if sha256_file(path) != expected:
            yield "hash", f"{path.name} is not the file that was committed"
            return
    table = pq.read_table(folder / f"{commit.shard}.parquet")
    pooled = table["pooled"]
    ok = table.filter(pc.equal(table["status"], "ok"))
    if table.num_rows != commit.rows or ok.num_rows != commit.ok:
        yield "count", f"{table.num_rows} rows, {ok.num_rows} ok; committed were {commit.rows} and {commit.ok}"
    if pooled.type != pa.list_(pa.float32(), commit.pooled_dim):
        yield "dimension", f"pooled is {pooled.type}; committed was a width of {commit.pooled_dim}"
    elif not np.isfinite(pooled.drop_null().combine_chunks().flatten().to_numpy()).all():
        yield "not_finite", "pooled vectors hold NaN or infinity"
    with tarfile.open(folder / f"{commit.shard}.tar") as tar:
        keys = [member.name.removesuffix(".segments.npy") for member in tar if member.name.endswith(".segments.npy")]
    if keys != ok["sample_id"].to_pylist():
        yield "tar_ids", "the tar does not hold the segments of exactly the samples that are ok"


def _stale(store: FeatureStore) -> Iterator[Finding]:
    """Shards that were made from other samples than the table now holds."""
    for view_folder in sorted((store.root / "views").glob("*")):
        current = current_folder(store, view_folder.name) if view_folder.name in store.catalog.views else None
        if current is None or not current.is_dir():
            continue
        definition = json.loads((current / "view.json").read_text(encoding="utf-8"))["definition"]
        planned = store.plan_inputs(definition["modality"])
        for commit in commits(current):
            where = f"{current.relative_to(store.root)}/{commit.shard}"
            if commit.shard not in planned:
                yield Finding("stale", "warning", where, "the samples table no longer asks for this shard")
            elif planned[commit.shard] != commit.inputs:
                yield Finding("stale", "warning", where, "the samples changed: run `merloco extract` again")

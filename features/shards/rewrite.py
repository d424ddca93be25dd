"""One committed shard rewritten without some of its rows; the rows that stay keep their bytes."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from merloco.features.shards.commit import Commit, commit_path, drop_shard, shard_files
from merloco.features.shards.format import OK, Row, Shard, inputs_digest, values_digest
from merloco.pipelines.errors import BrokenFileError
from merloco.pipelines.files.atomic import atomic_paths
from merloco.pipelines.files.formats import read_parquet, write_json
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.samples.tombstones import Tombstones, drop_rows


class _DamagedError(Exception):
    """The files of a shard are not those of its record."""


def prune_shard(folder: Path, commit: Commit, ids: Collection[str], inputs: str) -> None:
    """Rewrite a committed shard without some samples; a shard of which nothing is left is removed.

    The new record, with the given `inputs`, is put in place before the files that it describes. After a kill in
    between, the files do not match it, but what this function makes of them does: that is how the next call knows that
    they are sound. A shard that was damaged before is removed, because what is left of it cannot be trusted; `extract`
    makes it again.
    """
    tar, parquet = shard_files(folder, commit.shard)
    try:
        table = _as_written(drop_rows(read_parquet(parquet), ids))
        members = _members(tar, ids)
        on_disk = sha256_file(tar), sha256_file(parquet)
    except (tarfile.TarError, BrokenFileError, FileNotFoundError):
        table = None  # any other error, such as too many open files, says nothing about the shard
    if table is None or table.num_rows == 0:
        drop_shard(folder, commit.shard)
        return
    committed = commit.tar_sha256, commit.parquet_sha256
    try:
        with atomic_paths(tar, parquet) as (new_tar, new_parquet):
            pq.write_table(table, new_parquet, compression="zstd")
            _write_members(new_tar, members)
            rewritten = sha256_file(new_tar), sha256_file(new_parquet)
            if committed not in (on_disk, rewritten):
                raise _DamagedError
            statuses = Counter(table["status"].to_pylist())
            record = replace(
                commit,
                inputs=inputs,
                rows=table.num_rows,
                ok=statuses[OK],
                failed=table.num_rows - statuses[OK],
                statuses=dict(sorted(statuses.items())),
                tar_sha256=rewritten[0],
                parquet_sha256=rewritten[1],
                tar_bytes=new_tar.stat().st_size,
                parquet_bytes=new_parquet.stat().st_size,
                values_sha256=values_digest(table),
            )
            write_json(commit_path(folder, commit.shard), asdict(record))
    except _DamagedError:
        drop_shard(folder, commit.shard)


def drop_deleted(shard: Shard, modality: str, rows: Sequence[Row], deleted: Tombstones) -> tuple[Shard, Sequence[Row]]:
    """A planned shard and its rows without what was deleted since the plan, as a plan of now would have it."""
    ids = deleted.ids_in(shard.samples)
    if not ids:
        return shard, rows
    samples = drop_rows(shard.samples, ids)
    shard = replace(shard, samples=samples, inputs=inputs_digest(samples, modality))
    return shard, [row for row in rows if row.sample_id not in ids]


def _as_written(table: pa.Table) -> pa.Table:
    """Vectors in the type that they are written with: read from Parquet, their values are called `element`."""
    i = table.schema.get_field_index("pooled")
    field = table.schema.field(i)
    return table.cast(table.schema.set(i, field.with_type(pa.list_(pa.float32(), field.type.list_size))))


def _members(path: Path, ids: Collection[str]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Files of a tar as they are, but those of some samples; a key ends at the first dot."""
    with tarfile.open(path) as tar:
        members = [member for member in tar if member.isreg() and member.name.partition(".")[0] not in ids]
        return [(member, stream.read()) for member in members if (stream := tar.extractfile(member))]


def _write_members(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with path.open("wb") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))

"""One shard on disk: a WebDataset tar of segment arrays, a Parquet row per input, a commit record written last."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merloco.features.shards.commit import Commit, commit_path, read_commit, shard_files, verify_files
from merloco.features.shards.tar import read_array, tar_files
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_paths
from merloco.pipelines.files.formats import json_text
from merloco.pipelines.files.hashing import canonical_json, sha256_file, sha256_text
from merloco.pipelines.media.clips import DecodeInfo
from merloco.pipelines.samples.tombstones import drop_rows

SHARD_ROWS = 256
"""Rows per shard. Shards are cut from the sorted samples table, never from the work that remains."""

OK = "ok"
MISSING = "missing_media"
RETRYABLE = frozenset({MISSING, "decode_error", "timeout", "decoder_died", "encode_error"})
"""Statuses that `--retry-failed` does again; the others (`no_face`, `no_text`, ...) are facts about the sample."""

STAGES = ("decode", "detect", "encode", "write", "wait")
"""What a shard's seconds are spent on, side by side. `decode` and `detect` are their threads' time divided by the
number of threads, so that the stages compare; `wait` is the time in which the encoder had nothing to do."""
TOOLS = ("numpy", "pyarrow", "torch", "transformers", "av", "decord2", "webdataset")
INFO_COLUMNS = tuple(f.name for f in fields(DecodeInfo))
INPUT_COLUMNS = {
    "audio": ("sample_id", "audio_path", "audio_start", "audio_end", "audio_status"),
    "video": ("sample_id", "video_path", "video_start", "video_end", "video_side", "video_status"),
    "text": ("sample_id", "text", "text_status"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """The outcome of one sample: vectors, or a status that says why there are none."""

    sample_id: str
    status: str
    error: str | None = None
    segments: np.ndarray | None = None
    """float32 (n_segments, dim)."""
    pooled: np.ndarray | None = None
    """float32 (pooled_dim,)."""
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    info: DecodeInfo = field(default_factory=DecodeInfo)
    """How its medium was decoded."""
    frames: int | None = None
    """Frames that were looked at; None for sound and text, and where nothing was."""
    face_frames: int | None = None
    """How many of them show a face that counts."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A planned shard: a run of consecutive samples of one corpus."""

    name: str
    corpus: str
    samples: pa.Table
    inputs: str
    """sha256 over what the encoder would read: ids, media paths, intervals and texts."""


def plan_shards(corpus: str, samples: pa.Table, modality: str, deleted: Collection[str] = ()) -> list[Shard]:
    """Cut a samples table (sorted by id) into shards for one modality.

    Ids on the store's deletion list keep their places in the cut, so that a deletion moves no other sample to another
    shard; a shard of which nothing is left has no plan.
    """
    samples = drop_rows(samples, deleted)
    places = np.arange(samples.num_rows)
    if deleted:
        ids = samples["sample_id"].to_pylist()
        positions = {sample_id: i for i, sample_id in enumerate(sorted({*ids, *deleted}))}
        places = np.array([positions[sample_id] for sample_id in ids], dtype=np.int64)
    numbers, sizes = np.unique(places // SHARD_ROWS, return_counts=True)
    shards = []
    start = 0
    for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
        part = samples.slice(start, size)
        start += size
        shards.append(Shard(f"{corpus}-{number:05d}", corpus, part, inputs_digest(part, modality)))
    return shards


def inputs_digest(samples: pa.Table, modality: str) -> str:
    """sha256 over what an encoder of a modality would read of some samples (`Shard.inputs`)."""
    return sha256_text(canonical_json(samples.select(INPUT_COLUMNS[modality]).to_pylist()))


def shard_schema(pooled_dim: int) -> pa.Schema:
    """Columns of `<shard>.parquet`."""
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            ("error", pa.string()),
            pa.field("n_segments", pa.int32(), nullable=False),
            pa.field("decode_errors", pa.int32(), nullable=False),
            ("decoder", pa.string()),
            ("decode_notes", pa.string()),
            ("n_channels", pa.int32()),
            ("level_dbfs", pa.float32()),
            ("clipped_share", pa.float32()),
            ("n_frames", pa.int32()),
            ("n_face_frames", pa.int32()),
            ("pooled", pa.list_(pa.float32(), pooled_dim)),
            pa.field("shard", pa.string(), nullable=False),
        ]
    )


def lost_media(samples: pa.Table, modality: str, missing: int) -> int:
    """How many of a shard's `missing` (status `missing_media`) rows lack media that the ingest had seen."""
    if modality == "text":
        return 0
    absent = pc.sum(pc.equal(samples[f"{modality}_status"], MISSING)).as_py() or 0
    return max(0, missing - int(absent))


def write_shard(
    folder: Path, shard: Shard, rows: Sequence[Row], pooled_dim: int, seconds: Mapping[str, float], lost: int = 0
) -> Commit:
    """Write tar, Parquet and, last, the commit record; the same rows give the same bytes.

    Raises:
        ValueError: The rows are not the planned samples in their order, or a vector has a wrong width or is not finite.
    """
    if [row.sample_id for row in rows] != shard.samples["sample_id"].to_pylist():
        raise ValueError(f"shard {shard.name}: rows are not the planned samples")
    for row in rows:
        if row.pooled is not None and (row.pooled.shape != (pooled_dim,) or not np.isfinite(row.pooled).all()):
            raise ValueError(f"shard {shard.name}, {row.sample_id}: expected {pooled_dim} finite values")
    begun = time.perf_counter()
    table = _to_table(shard.name, rows, pooled_dim)
    statuses = Counter(row.status for row in rows)
    path = commit_path(folder, shard.name)
    with atomic_paths(*shard_files(folder, shard.name), path, withdraw=path) as (tar, parquet, record):
        _write_tar(tar, rows)
        pq.write_table(table, parquet, compression="zstd")
        commit = Commit(
            shard=shard.name,
            corpus=shard.corpus,
            inputs=shard.inputs,
            rows=len(rows),
            ok=statuses[OK],
            failed=len(rows) - statuses[OK],
            statuses=dict(sorted(statuses.items())),
            pooled_dim=pooled_dim,
            # Of the files that this process wrote, not of what lies under their names: that may be another writer's.
            tar_sha256=sha256_file(tar),
            parquet_sha256=sha256_file(parquet),
            versions={tool: version(tool) for tool in TOOLS},
            seconds={stage: round(s, 3) for stage, s in {**seconds, "write": time.perf_counter() - begun}.items()},
            tar_bytes=tar.stat().st_size,
            parquet_bytes=parquet.stat().st_size,
            lost=lost,
            values_sha256=values_digest(table),
        )
        record.write_text(json_text(asdict(commit)), encoding="utf-8")
    return commit


def _write_tar(path: Path, rows: Sequence[Row]) -> None:
    """WebDataset layout. Files of one key stand together, and fixed times and owners make the bytes repeatable."""
    from webdataset import TarWriter

    with path.open("wb") as stream, TarWriter(stream, mtime=0, user="", group="") as tar:
        for row in rows:
            if row.segments is None:
                continue
            entry: dict[str, Any] = {"__key__": row.sample_id, "segments.npy": row.segments}
            entry |= {f"{name}.npy": array for name, array in sorted(row.extras.items())}
            counts = {"n_segments": len(row.segments), "decode_errors": row.info.decode_errors}
            tar.write({**entry, "json": {"sample_id": row.sample_id, **counts}})


def _to_table(shard: str, rows: Sequence[Row], pooled_dim: int) -> pa.Table:
    columns = {
        "sample_id": [row.sample_id for row in rows],
        "status": [row.status for row in rows],
        "error": [row.error for row in rows],
        "n_segments": [0 if row.segments is None else len(row.segments) for row in rows],
        **{name: [getattr(row.info, name) for row in rows] for name in INFO_COLUMNS},
        "n_frames": [row.frames for row in rows],
        "n_face_frames": [row.face_frames for row in rows],
        "pooled": pa.array([row.pooled for row in rows], pa.list_(pa.float32(), pooled_dim)),
        "shard": [shard] * len(rows),
    }
    return pa.table(columns, schema=shard_schema(pooled_dim))


def values_digest(table: pa.Table) -> str:
    """Hash of what training takes of a shard, in its order: the ids that have a pooled vector, and the vectors.

    It is the same whatever wrote the Parquet file: compression, row groups and versions play no part.
    """
    table = table.filter(pc.is_valid(table["pooled"])).combine_chunks()
    digest = hashlib.sha256("\n".join(table["sample_id"].to_pylist()).encode())
    digest.update(f"\n{table['pooled'].type.list_size}\n".encode())
    for chunk in table["pooled"].chunks:
        digest.update(chunk.flatten().to_numpy(zero_copy_only=False).astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def shard_values(folder: Path, commit: Commit) -> str:
    """The `values_digest` of a committed shard: of its record, or, where an older one lacks it, of its rows."""
    if commit.values_sha256 is not None:
        return commit.values_sha256
    return values_digest(pq.read_table(folder / f"{commit.shard}.parquet", columns=["sample_id", "pooled"]))


def read_rows(folder: Path, shard: str) -> list[Row]:
    """Read a committed shard back: Parquet joined with the tar by sample id.

    Raises:
        DataError: The files are not those that were committed; they must not get a new, valid record.
    """
    commit = read_commit(folder, shard)
    if commit is not None and (problem := verify_files(folder, commit, verify=True)):
        raise DataError(f"{folder / shard}: {problem}: run `merloco extract --verify` to make the shard again")
    tar, parquet = shard_files(folder, shard)
    arrays: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for key, kind, content in tar_files(tar):
        if kind.endswith(".npy"):
            arrays[key][kind.removesuffix(".npy")] = read_array(content, f"{tar}, {key}")
    rows = []
    for record in pq.read_table(parquet).to_pylist():
        extras = arrays[record["sample_id"]]
        pooled = None if record["pooled"] is None else np.asarray(record["pooled"], dtype=np.float32)
        rows.append(
            Row(
                sample_id=record["sample_id"],
                status=record["status"],
                error=record["error"],
                segments=extras.pop("segments", None),
                pooled=pooled,
                extras=extras,
                info=DecodeInfo(**{name: record[name] for name in INFO_COLUMNS if name in record}),
                frames=record.get("n_frames"),
                face_frames=record.get("n_face_frames"),
            )
        )
    return rows

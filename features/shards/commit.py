"""Commit records: a shard without one does not exist."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import TEMPORARY
from merloco.pipelines.files.hashing import canonical_json, sha256_file, sha256_text

_ENDING = ".commit.json"


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit record. A shard without one does not exist."""

    shard: str
    corpus: str
    inputs: str
    rows: int
    ok: int
    failed: int
    statuses: dict[str, int]
    pooled_dim: int
    tar_sha256: str
    parquet_sha256: str
    versions: dict[str, str]
    seconds: dict[str, float]
    """Seconds per stage (`STAGES`); what several views share is divided among them."""
    tar_bytes: int | None = None
    parquet_bytes: int | None = None
    """Sizes of both files; None in a record of merloco 0.1.0."""
    values_sha256: str | None = None
    """`values_digest` of the rows; None in a record of merloco 0.2 and before."""
    lost: int = 0
    """Rows without media that the ingest had seen: a fault of the moment (`lost_media`), not a fact of the samples."""


def commit_path(folder: Path, shard: str) -> Path:
    """Where the commit record of a shard lies."""
    return folder / f"{shard}{_ENDING}"


def shard_files(folder: Path, shard: str) -> tuple[Path, Path]:
    """Where the tar and the Parquet file of a shard lie."""
    return folder / f"{shard}.tar", folder / f"{shard}.parquet"


def read_commit(folder: Path, shard: str) -> Commit | None:
    """The commit record of a shard, or None where the shard does not exist.

    Raises:
        DataError: The record is not one that merloco wrote.
    """
    path = commit_path(folder, shard)
    try:
        return Commit(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: broken commit record ({error}): delete it and run `merloco extract` again") from None


def committed_shards(folder: Path) -> list[str]:
    """Names of the shards of a view folder, sorted; none where there is no folder."""
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        return []
    records = (name for name in files if name.endswith(_ENDING) and not name.startswith(TEMPORARY))
    return sorted(name.removesuffix(_ENDING) for name in records)


def commits(folder: Path) -> list[Commit]:
    """All commit records of a view folder, in shard order."""
    return [commit for name in committed_shards(folder) if (commit := read_commit(folder, name))]


def commits_digest(folder: Path) -> bytes:
    """sha256 over the commit records of a view folder as they are on disk: what tells its rows from all others."""
    digest = hashlib.sha256()
    for name in committed_shards(folder):
        with suppress(FileNotFoundError), open(commit_path(folder, name), "rb", buffering=0) as record:
            content = record.read()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.digest()


def commit_digest(commit: Commit | None) -> str | None:
    """What tells a commit record from the one that was there before it; None where there is none."""
    return None if commit is None else sha256_text(canonical_json(asdict(commit)))


def verify_files(folder: Path, commit: Commit, verify: bool = False) -> str | None:
    """What is wrong with the files of a committed shard by their sizes, or with `verify` by their hashes; or None."""
    sizes, digests = (commit.tar_bytes, commit.parquet_bytes), (commit.tar_sha256, commit.parquet_sha256)
    for path, size, digest in zip(shard_files(folder, commit.shard), sizes, digests, strict=True):
        try:
            bytes_on_disk = path.stat().st_size
        except FileNotFoundError:
            return f"{path.name} is not there"
        if size is not None and bytes_on_disk != size:
            return f"{path.name} has {bytes_on_disk} bytes; committed were {size}"
        if verify and sha256_file(path) != digest:
            return f"{path.name} is not the file that was committed"
    return None


def drop_shard(folder: Path, shard: str) -> None:
    """Remove a shard, its record first: from then on it does not exist."""
    for path in (commit_path(folder, shard), *shard_files(folder, shard)):
        path.unlink(missing_ok=True)

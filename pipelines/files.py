"""Files that are whole or absent: temp name, fsync, rename; hashes and canonical JSON."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY = ".tmp-"
"""Prefix of unfinished files. `glob("*.x")` matches them too, so readers skip names that begin with it."""


def temporary_name(name: str) -> str:
    """A name for an unfinished file or folder: it says who writes it, so that what a killed writer left is known."""
    return f"{TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}-{name}"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def sweep(root: Path) -> int:
    """Remove what killed writers of this host left under `root`; files of living and of other hosts' writers stay.

    Returns:
        Number of files and folders removed.
    """
    removed = 0
    for path in sorted(root.rglob(f"{TEMPORARY}*")):
        host, pid, *_ = path.name.removeprefix(TEMPORARY).split("-")
        if host == _host() and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            removed += 1
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is flushed to disk and takes the name `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / temporary_name(path.name)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys sorted."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as zstd Parquet atomically; the same table gives the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: what is hashed must not depend on key order or white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256_text(text: str) -> str:
    """Hexadecimal sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

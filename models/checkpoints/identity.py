"""Identity of weight files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from merloco.models.errors import ModelError


def sha256_of(path: str | Path) -> str:
    """sha256 of a weight file, or of all files of a model folder by relative name and content.

    Raises:
        ModelError: Nothing is there.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}\0{_hash_file(file)}\n".encode())
        return digest.hexdigest()
    if not path.is_file():
        raise ModelError(
            f"weights {str(path)!r} not found: put the published file there, or change `checkpoint` in the catalog"
        )
    return _hash_file(path)


def _hash_file(path: Path) -> str:
    stat = path.stat()
    return _hash_once(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_once(path: str, _size: int, _mtime: int) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

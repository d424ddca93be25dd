"""Identity of weight files, and the parameters of a catalog entry with their defaults."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from merloco.models.encoders.base import EncoderSpec
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


def parameters_of(spec: EncoderSpec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's parameters: defaults, overridden by the catalog.

    Raises:
        ModelError: The catalog names a parameter that this encoder does not have.
    """
    for name in spec.parameters:
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            known = ", ".join(sorted(defaults)) or "none"
            raise ModelError(f"encoder kind {spec.kind!r} has no parameter {name!r}: {hint}known: {known}")
    return {**defaults, **spec.parameters}

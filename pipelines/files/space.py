"""Disk space, and errors of full or read-only file systems as one sentence."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merloco.pipelines.errors import DataError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Raise `DataError` about `folder` for a full or read-only file system; other `OSError`s pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DataError(
                f"no room left to write to {str(folder)!r} ({os.strerror(error.errno)}): free some space and run the "
                "same command again; what was finished stays, and nothing half-written does"
            ) from error
        if error.errno in NOT_ALLOWED:
            raise DataError(
                f"{str(folder)!r} cannot be written ({os.strerror(error.errno)}): expected a folder that this user may "
                "write to"
            ) from error
        raise


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise `DataError` if fewer than `needed` bytes are free around an existing folder, saying `what` needs them."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"not enough room in {str(folder)!r}: {what} needs about {size_text(needed)}, {size_text(free)} is free"
        )


def size_text(size: float) -> str:
    """Bytes for people: `812 bytes`, `3.4 MB`, `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

"""A lock of the file system for the short moment in which something is committed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from merloco.pipelines.files.space import storage_errors

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers that has no locks (some cluster file systems, as mounted)."""
HELD: set[IO[bytes]] = set()
"""Open files whose locks this process holds."""


def _close_in_child() -> None:
    """A forked child shares its parent's locks and would hold them beyond the parent's death: it closes its copies."""
    while HELD:
        HELD.pop().close()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def file_lock(path: Path, exclusive: bool = True) -> Iterator[None]:
    """Wait for a lock and hold it while the block runs; it ends with its holder, also with one that was killed.

    Where the file system has no locks the block runs without one.

    Args:
        path: The lock file, made where it is not there. It holds nothing.
        exclusive: Whether nobody else may hold it; several may hold one that is not exclusive.

    Raises:
        DataError: The lock file cannot be written.
    """
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        HELD.add(handle)
        try:
            yield
        finally:
            HELD.discard(handle)

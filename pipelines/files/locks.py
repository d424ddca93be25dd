"""Locks of the file system, which end with their holder, also with one that was killed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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


def lock_file(handle: IO[Any], exclusive: bool = True, wait: bool = True) -> bool:
    """Lock an open file; where the file system has no locks it counts as locked.

    Args:
        handle: The file; closing it ends the lock.
        exclusive: Whether nobody else may hold it; several may hold one that is not exclusive.
        wait: Until somebody else's lock ends.

    Returns:
        False if somebody else holds it, which only happens without `wait`.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


@contextmanager
def file_lock(path: Path, exclusive: bool = True) -> Iterator[None]:
    """Wait for a lock (see `lock_file`) on an empty file, made where it is not there, and hold it in the block.

    Raises:
        DataError: The lock file cannot be written.
    """
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab")
    with handle:
        lock_file(handle, exclusive)
        HELD.add(handle)
        try:
            yield
        finally:
            HELD.discard(handle)

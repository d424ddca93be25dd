"""One writer per shard at a time, across processes and across machines that share the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from merloco.pipelines.files.locks import HELD, lock_file
from merloco.pipelines.files.space import storage_errors

PREFIX = ".claim-"


@contextmanager
def shard_lock(folders: list[Path], shard: str) -> Iterator[bool]:
    """Try to lock one shard of some views (`store/views/<view>/<fingerprint>`), all or none, for the block.

    This is a lock of the file system (`flock`, which NFS servers keep for their clients): it ends with its holder, also
    with one that was killed or whose machine was taken away, so no clock and no host name has to be trusted. Where the
    file system has no locks, everybody acquires: two writers then do the same work twice and write the same bytes.

    Yields:
        Whether it was acquired; False while another writer holds it.
    """
    with ExitStack() as locks:
        yield all(_acquire(locks, folder / f"{PREFIX}{shard}") for folder in sorted(folders))


def shard_is_locked(folders: list[Path], shard: str) -> bool:
    """Whether another writer holds the shard at this moment."""
    with shard_lock(folders, shard) as acquired:
        return not acquired


def active_locks(root: Path) -> list[tuple[Path, str]]:
    """Folder and shard of every lock in a store that somebody holds; lock files of dead holders stay."""
    paths = sorted((root / "views").glob(f"*/*/{PREFIX}*"))
    return [(path.parent, path.name.removeprefix(PREFIX)) for path in paths if _is_locked(path)]


def _is_locked(path: Path) -> bool:
    """Whether somebody holds a lock file; nothing is made or removed, so that a command which only looks can ask."""
    try:
        with path.open("rb") as handle:
            return not lock_file(handle, exclusive=False, wait=False)
    except FileNotFoundError:
        return False


def _acquire(locks: ExitStack, path: Path) -> bool:
    """Lock a file until `locks` is closed; False if somebody else has it."""
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = locks.enter_context(path.open("ab"))
            if not lock_file(handle, wait=False):
                return False
            if _is_at(handle, path):
                HELD.add(handle)
                locks.callback(HELD.discard, handle)
                # Removed while it is still locked: whoever waits for the old file sees that it is no longer at `path`.
                locks.callback(path.unlink, missing_ok=True)
                return True


def _is_at(handle: IO[bytes], path: Path) -> bool:
    """Whether an open file is still the one at `path`: its last holder may have removed it before we got the lock."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove_stale_locks(root: Path) -> None:
    """Remove the lock files that killed extractors left in a store."""
    for path in (root / "views").glob(f"*/*/{PREFIX}*"):
        with ExitStack() as locks:
            _acquire(locks, path)

"""Files that are whole or absent: temporary name, fsync, rename; and the removal of what killed writers left."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merloco.pipelines.files.space import storage_errors

TEMPORARY = ".tmp-"
"""Prefix of unfinished files. `glob("*.x")` matches them too, so readers skip names that begin with it."""


def temporary_name(name: str) -> str:
    """A name for an unfinished file or folder: it says who writes it, so that what a killed writer left is known."""
    return f"{TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}-{name}"


def _host() -> str:
    """Where a process number means something: the running kernel and its process namespace, not the host's name."""
    parts = [platform.node()]
    with suppress(OSError):  # no /proc: the name has to do
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def walk(root: Path) -> list[Path]:
    """Files and folders under `root`, sorted; one that a writer takes away meanwhile is no error, as with `rglob`."""
    return sorted(Path(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files))


def temporary_files(root: Path) -> list[tuple[Path, str]]:
    """Unfinished files and folders under `root`, sorted, and what is known of their writers.

    Returns:
        Path and `dead` (a killed writer of this host), `living`, or `elsewhere` (another host's: it may still write).
        What lies inside an unfinished folder is not named again.
    """
    paths = []
    for path in walk(root):
        inside = any(part.startswith(TEMPORARY) for part in path.relative_to(root).parts[:-1])
        if inside or not path.name.startswith(TEMPORARY):
            continue
        host, pid, *_ = [*path.name.removeprefix(TEMPORARY).split("-"), ""]
        if host != _host() or not pid.isdigit():
            paths.append((path, "elsewhere"))
        else:
            paths.append((path, "living" if _alive(int(pid)) else "dead"))
    return paths


def remove_temporary_files(root: Path) -> int:
    """Remove what killed writers of this host left under `root`, no other writer's; returns how many."""
    dead = [path for path, writer in temporary_files(root) if writer == "dead"]
    for path in dead:
        remove(path)
    return len(dead)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; what is gone already is no error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # PermissionError: another user's
    return True


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is flushed to disk and takes the name `path`.

    Raises `DataError` where the file system is full or read-only.
    """
    with atomic_paths(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_paths(*paths: Path, withdraw: Path | None = None) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path for each of several files of one folder; on success they take their names.

    Args:
        paths: The files, in the order in which they take their names.
        withdraw: A file that vouches for the files as they were. It is removed once the new ones are on disk and
            before the first of them takes its name, so that it never vouches for a mixture.

    Raises:
        DataError: The file system is full or read-only.
    """
    folder = paths[0].parent
    temporaries = tuple(folder / temporary_name(path.name) for path in paths)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield temporaries
            for temporary in temporaries:
                _sync_file(temporary)
            if withdraw is not None:
                withdraw.unlink(missing_ok=True)
                sync_folder(folder)
            for temporary, path in zip(temporaries, paths, strict=True):
                os.replace(temporary, path)
            sync_folder(folder)
        finally:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success all of it is flushed to disk and takes the name `folder`.

    Raises:
        DataError: The file system is full or read-only.
        OSError: There is a folder of that name, and it is not empty.
    """
    temporary = folder.parent / temporary_name(folder.name)
    with storage_errors(folder.parent):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            sync_tree(temporary)
            temporary.rename(folder)
            sync_folder(folder.parent)
        finally:
            remove(temporary)


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk: after a power cut, a renamed file could have its old name or none."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems flush no folder
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file below a folder, and the names in it, to disk: before the folder itself takes its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _sync_file(path)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def usual_mode(path: Path) -> None:
    """Give a file the permissions that `open` would have given it: some writers keep theirs to their user."""
    probe = path.with_name(temporary_name("mode"))
    probe.touch()
    shutil.copymode(probe, path)
    probe.unlink()


def require_writable(folder: Path) -> None:
    """Write and remove a probe: a read-only or full store is reported before any work is done for it.

    Raises:
        DataError: The folder cannot be written.
    """
    probe = folder / temporary_name("probe")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as handle:
                handle.write(bytes(4096))
                os.fsync(handle.fileno())
        finally:
            probe.unlink(missing_ok=True)

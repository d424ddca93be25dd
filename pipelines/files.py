"""Files that are whole or absent: temp name, fsync, rename; hashes and canonical JSON."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import BrokenFileError, DataError

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
    return sorted(Path(here, name) for here, folders, files in os.walk(root) for name in (*folders, *files))


def unfinished(root: Path) -> list[tuple[Path, str]]:
    """Unfinished files and folders under `root`, sorted, and what is known of their writers.

    Returns:
        Path and `dead` (a killed writer of this host), `living`, or `elsewhere` (another host's: it may still write).
        What lies inside an unfinished folder is not named again.
    """
    found = []
    for path in walk(root):
        inside = any(part.startswith(TEMPORARY) for part in path.relative_to(root).parts[:-1])
        if inside or not path.name.startswith(TEMPORARY):
            continue
        host, pid, *_ = [*path.name.removeprefix(TEMPORARY).split("-"), ""]
        if host != _host() or not pid.isdigit():
            found.append((path, "elsewhere"))
        else:
            found.append((path, "living" if _alive(int(pid)) else "dead"))
    return found


def sweep(root: Path) -> int:
    """Remove what killed writers of this host left under `root`; files of living and of other hosts' writers stay.

    Returns:
        Number of files and folders removed.
    """
    dead = [path for path, writer in unfinished(root) if writer == "dead"]
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
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only file system into one sentence about `folder`; other `OSError`s pass as they are.

    Raises:
        DataError: No room is left, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
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


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work whose result would not fit.

    Args:
        folder: A folder that exists, on the file system that will hold the result.
        needed: Bytes that the result is expected to take.
        what: What is to be written, for the sentence.

    Raises:
        DataError: Less is free than needed.
    """
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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is flushed to disk and takes the name `path`.

    Raises:
        DataError: The file system is full or read-only.
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
                with temporary.open("rb") as handle:
                    os.fsync(handle.fileno())
            if withdraw is not None:
                withdraw.unlink(missing_ok=True)
                sync_folder(folder)
            for temporary, path in zip(temporaries, paths, strict=True):
                os.replace(temporary, path)
            sync_folder(folder)
        finally:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


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
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def json_text(value: Any, sort_keys: bool = True) -> str:
    """Readable JSON; a number that is not finite, for which JSON has no word, is null."""
    return json.dumps(_finite(value), indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def usual_mode(path: Path) -> None:
    """Give a file the permissions that `open` would have given it: some writers keep theirs to their user."""
    probe = path.with_name(temporary_name("mode"))
    probe.touch()
    shutil.copymode(probe, path)
    probe.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys sorted."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as zstd Parquet atomically; the same table gives the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table.

    Args:
        path: The file.
        columns: Those that are wanted; None takes all.

    Raises:
        BrokenFileError: It is there and read, and is no table.
        OSError: It cannot be read now (no permission, too many open files, a broken disk): it may well be sound.
    """
    try:
        # Opened once: `pq.read_table` opens a file twice, and a writer may have replaced it in between.
        with pa.OSFile(str(path)) as file:
            return pq.ParquetFile(file).read(columns)
    except pa.ArrowInvalid as error:
        raise BrokenFileError(f"{path}: not a Parquet file ({_first_line(error)})") from None
    except OSError as error:
        if error.errno:  # the system's own; Arrow says without one that what it read makes no sense
            raise type(error)(error.errno, os.strerror(error.errno), str(path)) from error
        raise BrokenFileError(f"{path}: a damaged Parquet file ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def set_aside(path: Path) -> Path:
    """Give a broken file the name `<name>.broken`, or `<name>.broken-2`, ...: nothing is lost, and a new one can come.

    Returns:
        Its new name.

    Raises:
        DataError: The folder cannot be written.
    """
    names = (path.with_name(f"{path.name}.broken{'' if n == 1 else f'-{n}'}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    with storage_errors(path.parent):
        path.rename(aside)
        sync_folder(path.parent)
    return aside


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

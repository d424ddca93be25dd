"""JSON and Parquet files, written atomically and read with one sentence for a broken one."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from merloco.pipelines.errors import BrokenFileError
from merloco.pipelines.files.atomic import atomic_path, sync_folder
from merloco.pipelines.files.space import storage_errors


def json_text(value: Any, sort_keys: bool = True) -> str:
    """Readable JSON; a number that is not finite, for which JSON has no word, is null."""
    return json.dumps(_finite(value), indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically, keys sorted."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as zstd Parquet atomically; the same table gives the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or some columns of it.

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


def quarantine(path: Path) -> Path:
    """Rename a broken file to `<name>.broken`, or `<name>.broken-2`, ...: nothing is lost, and a new one can come.

    Returns its new path; raises `DataError` where the folder cannot be written.
    """
    names = (path.with_name(f"{path.name}.broken{'' if n == 1 else f'-{n}'}") for n in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    with storage_errors(path.parent):
        path.rename(aside)
        sync_folder(path.parent)
    return aside

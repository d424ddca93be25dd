"""The rows of a feature view for SQL: its Parquet files, or one uncompressed copy of them, the index.

The index lies beside the shards and is an Arrow stream that is mapped into memory, so that a query over all vectors
decompresses nothing. It is derived. The first query that names `pooled` writes it, where the store can be written;
where it is missing, damaged or made of other commit records than there are now, the Parquet files answer. After the
stream come the sha256 of those records and the sum of all words before it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from merloco.features.shards.commit import Commit, commits, commits_digest
from merloco.features.shards.format import shard_schema
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.files.space import require_space
from merloco.pipelines.samples.tombstones import locked_tombstones

if TYPE_CHECKING:
    import pyarrow.dataset as ds

INDEX = ".index.arrows"
"""Its name in `views/<view>/<fingerprint>`."""
_WORD = np.dtype("<u8")
_DIGEST = hashlib.sha256().digest_size
_END = _DIGEST + _WORD.itemsize


def view_rows(root: Path, folder: Path, pooled: bool) -> ds.Dataset | pa.Table:
    """All rows of a view's committed shards, in the columns of `shard_schema`.

    Args:
        root: Root of the store.
        folder: `views/<view>/<fingerprint>`.
        pooled: Whether vectors are read. Then the index answers; other columns are small in the Parquet files.
    """
    table = None
    if pooled:
        table = read_index(folder)
        if table is None:
            table = _make_index(root, folder)
    if table is not None:
        return table
    done = commits(folder)
    return shards_dataset(folder, done) if done else shard_schema(1).empty_table()


def shards_dataset(folder: Path, done: list[Commit]) -> ds.Dataset:
    """The Parquet files of committed shards.

    Raises:
        DataError: Their vectors have different widths.
    """
    import pyarrow.dataset as ds  # it brings pandas, which takes as long to import as a usual query

    dims = sorted({commit.pooled_dim for commit in done})
    if len(dims) > 1:
        raise DataError(f"{folder}: shards of different widths ({dims}): run `merloco check`")
    return ds.dataset([str(folder / f"{commit.shard}.parquet") for commit in done], schema=shard_schema(dims[0]))


def read_index(folder: Path) -> pa.Table | None:
    """The rows of a view's index; None where it is missing, damaged or of other commit records than there are now."""
    path = folder / INDEX
    try:
        with path.open("rb") as file:
            file.seek(-_END, 2)
            if file.read(_DIGEST) != commits_digest(folder):
                return None
    except OSError:
        return None
    return index_rows(path)


def index_rows(path: Path) -> pa.Table | None:
    """What is in the file of an index, be it out of date; None where it is damaged or gone."""
    try:
        state = path.stat()
        content = pa.memory_map(str(path)).read_buffer()
        if not _is_sound(str(path), state.st_ino, state.st_size, state.st_mtime_ns):
            return None
        return pa.ipc.open_stream(content).read_all()
    except (OSError, ValueError, pa.ArrowException):
        return None


@lru_cache(maxsize=64)
def _is_sound(path: str, _inode: int, _size: int, _modified: int) -> bool:
    """Whether a file ends with the sum of its words; it is added up once per process while it is the same file."""
    content = pa.memory_map(path).read_buffer()
    if content.size <= _END or content.size % _WORD.itemsize:
        return False
    words = np.frombuffer(content, dtype=_WORD)
    return bool(words[:-1].sum(dtype=_WORD) == words[-1])


def _make_index(root: Path, folder: Path) -> pa.Table | None:
    """Write the index and return its rows; None where there are none, or they cannot be read or written now.

    What hinders it hinders no answer: of a broken shard the query itself will tell.
    """
    with suppress(DataError, OSError, pa.ArrowException):
        with locked_tombstones(root):  # a deletion waits, and then removes the index if it holds what was deleted
            digest, done = commits_digest(folder), commits(folder)
            if not done:
                return None
            # A query must not take the room that an extraction may need.
            require_space(folder, 2 * 4 * sum(commit.rows * commit.pooled_dim for commit in done), "an index")
            _write_index(folder / INDEX, shards_dataset(folder, done), digest)
        return read_index(folder)
    return None


def _write_index(path: Path, rows: ds.Dataset, digest: bytes) -> None:
    with atomic_path(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
            for batch in rows.to_batches():
                stream.write_batch(batch)
        with temporary.open("ab") as file:
            file.write(digest)
        total = np.memmap(temporary, dtype=_WORD, mode="r").sum(dtype=_WORD)
        with temporary.open("ab") as file:
            file.write(total.tobytes())

"""Samples tables on disk: which corpora are ingested, and their rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from merloco.pipelines.errors import BrokenFileError, DataError
from merloco.pipelines.files.atomic import TEMPORARY
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.schema import conform, stored
from merloco.pipelines.samples.tombstones import drop_rows, read_tombstones
from merloco.pipelines.samples.transcripts import join_transcripts


def samples_path(store: Path, corpus: str) -> Path:
    """Where the samples table of a corpus lies."""
    return store / "samples" / f"{corpus}.parquet"


def write_samples(store: Path, corpus: str, table: pa.Table) -> None:
    """Replace the samples table of a corpus atomically."""
    write_parquet(samples_path(store, corpus), stored(table))


def not_ingested(store: Path, corpus: str) -> DataError:
    """The error of a corpus that has no samples table."""
    return DataError(f"corpus {corpus!r} has no samples in {str(store)!r}: run `merloco ingest {corpus}` first")


def ingested(store: Path) -> list[str]:
    """Names of the corpora that have a samples table, sorted."""
    paths = (store / "samples").glob("*.parquet")
    return sorted(path.stem for path in paths if not path.name.startswith(TEMPORARY))


def read_samples(store: Path, corpus: str) -> pa.Table:
    """Read the samples of one corpus, sorted by id: what was ingested, with what was heard where there is no text.

    Samples on the deletion list are left out from the moment they are on it. Nothing is ever changed by reading.

    Raises:
        DataError: The corpus was not ingested, the file is no samples table, or it is one of another version.
        OSError: It cannot be read now; it may well be sound.
    """
    table = ingested_table(store, corpus)
    table = drop_rows(table, read_tombstones(store, corpus).ids_in(table))
    return join_transcripts(store, corpus, table)


def ingested_table(store: Path, corpus: str) -> pa.Table:
    """The samples table as the last ingest wrote it, in today's columns: for who rewrites it.

    Raises:
        BrokenFileError: It is no Parquet file.
        DataError, OSError: See `read_samples`.
    """
    path = samples_path(store, corpus)
    if not path.is_file():
        raise not_ingested(store, corpus)
    try:
        table = read_parquet(path)
    except BrokenFileError as error:
        raise BrokenFileError(f"{error}: run `merloco ingest {corpus}` again") from None
    try:
        return conform(table)
    except DataError as error:
        raise DataError(
            f"{path}: a samples table of another version of merloco ({error}): use that version, or another --store"
        ) from None

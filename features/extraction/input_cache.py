"""Encoder inputs of many samples on disk: read and cut once, then taken at random for as many epochs as training needs.

    <folder>/<number>.bin     the arrays of a block of samples, one after the other
    <folder>/<number>.json    written last: every sample's status, and where its units lie

A block without its .json does not exist, so a killed reader costs one block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.extraction.encoder import by_id
from merloco.features.extraction.reader import Reader
from merloco.features.progress import RowProgress
from merloco.features.shards.format import OK
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.samples.tombstones import locked_tombstones

BLOCK = 64
"""Samples per block on disk."""
CONCURRENCY = 8
"""Samples held in memory as they were decoded."""
SliceFn = Callable[[Sequence[Any]], Sequence[Sequence[Sequence[np.ndarray]]]]
"""Turns what was read of samples into their units, each a few arrays."""


@dataclass(frozen=True, slots=True)
class _Place:
    """One array: its file, its offset in bytes, its type and shape."""

    file: int
    offset: int
    dtype: str
    shape: tuple[int, ...]


class InputCache(Sequence[list[np.ndarray]]):
    """All units of a list of samples; `cache[i]` reads the arrays of one."""

    def __init__(self, folder: Path, blocks: int) -> None:
        self.statuses: list[str] = []
        """(n_samples,) `ok`, or why a sample has no unit."""
        sample_index: list[int] = []
        self._units: list[list[_Place]] = []
        self._files = []
        for number in range(blocks):
            path = folder / f"{number:05d}.bin"
            record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            self._files.append(np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else None)
            for sample in record["samples"]:
                for unit in sample["units"]:
                    sample_index.append(len(self.statuses))
                    self._units.append([_Place(number, at, dtype, tuple(shape)) for at, dtype, shape in unit])
                self.statuses.append(sample["status"])
        self.sample_index = np.array(sample_index, dtype=np.int64)
        """(n_units,) the sample of each unit."""

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, number: int) -> list[np.ndarray]:  # type: ignore[override]
        return [self._read(place) for place in self._units[number]]

    def _read(self, place: _Place) -> np.ndarray:
        size = int(np.prod(place.shape)) * np.dtype(place.dtype).itemsize
        file = self._files[place.file]
        if file is None or size == 0:
            return np.zeros(place.shape, dtype=place.dtype)
        content = np.array(file[place.offset : place.offset + size])
        return content.view(place.dtype).reshape(place.shape)


def cache_inputs(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    reader: Reader,
    slice_fn: SliceFn,
    empty: str = "no_features",
    progress: RowProgress | None = None,
    store: Path | None = None,
) -> InputCache:
    """Read samples into a cache; what is there already is not read again.

    Args:
        folder: Where the cache lies. Its name has to stand for records, reader and slice_fn.
        records: Rows of the samples table.
        reader: See `merloco.features.extraction.reader.make_reader`.
        slice_fn: Turns items' values into units.
        empty: Status of a sample that was read and has no unit.
        progress: Called with the number of samples done since the last call.
        store: Root of the store whose deletion list is obeyed.

    Raises:
        DataError: The cache holds other samples, or some of them were deleted meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [records[begin : begin + BLOCK] for begin in range(0, len(records), BLOCK)]
    for number, block in enumerate(blocks):
        path = folder / f"{number:05d}.json"
        if path.is_file():
            cached = [sample["id"] for sample in json.loads(path.read_text(encoding="utf-8"))["samples"]]
            if cached != [record["sample_id"] for record in block]:
                raise DataError(
                    f"{path}: holds other samples than expected: remove its folder and run the command again"
                )
            if progress:
                progress(len(block))
        else:
            _write_block(path, block, reader, slice_fn, empty, progress, partial(_require_undeleted, records, store))
    try:
        return InputCache(folder, len(blocks))
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: was removed while it was used: run the same command again") from None


@contextmanager
def _require_undeleted(records: Sequence[Mapping[str, Any]], store: Path | None) -> Iterator[None]:
    """Commit what was read, unless a sample was deleted since: units cannot be taken out of a training."""
    if store is None:
        yield
        return
    with locked_tombstones(store) as deleted:
        if any(deleted.contains(r["sample_id"], r["speaker"], r["corpus"]) for r in records):
            raise DataError("samples of this training were deleted while they were read: run the same command again")
        yield


def _write_block(
    path: Path,
    block: Sequence[Mapping[str, Any]],
    reader: Reader,
    slice_fn: SliceFn,
    empty: str,
    progress: RowProgress | None,
    commit_guard: Callable[[], AbstractContextManager[None]],
) -> None:
    samples: list[dict[str, Any]] = []
    with ExitStack() as commit:
        with (
            atomic_path(path.with_suffix(".bin")) as temporary,
            temporary.open("wb") as handle,
            ThreadPoolExecutor(max_workers=2) as threads,
        ):
            offset = 0
            for begin in range(0, len(block), CONCURRENCY):
                items = list(threads.map(reader, block[begin : begin + CONCURRENCY]))
                sliced = by_id(items, lambda readable: slice_fn([item.value for item in readable]))
                for item in items:
                    places: list[list[list[Any]]] = []
                    units = sliced.get(item.sample_id, ())
                    if isinstance(units, Exception):  # it breaks the encoder and costs itself
                        error = f"{type(units).__name__}: {units}"
                        item, units = replace(item, status="encode_error", error=error), ()
                    for unit in units:
                        places.append([])
                        for array in unit:
                            places[-1].append([offset, array.dtype.str, list(array.shape)])
                            offset += handle.write(np.ascontiguousarray(array).tobytes())
                    status = empty if item.status == OK and not places else item.status
                    samples.append({"id": item.sample_id, "status": status, "error": item.error, "units": places})
                if progress:
                    progress(len(items))
            commit.enter_context(commit_guard())  # from here to the record: the block appears now
        write_json(path, {"samples": samples})

"""Segment sequences streamed from the tars: each committed sample exactly once in order, or shuffled by a seed.

The stages form a webdataset pipeline. Webdataset's own opening and decoding are not used: they run commands for `pipe:`
names, skip links and `__name__` members silently, give a partial last sample of a truncated tar, and read pickles.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merloco.features.shards.commit import Commit, shard_files, verify_files
from merloco.features.shards.format import OK
from merloco.features.shards.tar import read_array, tar_files
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.pipelines.errors import DataError

SHUFFLE_BUFFER = 1024
"""Samples among which a worker draws the next one; shards are shuffled as a whole."""
CHUNK = 64
"""Samples that a worker hands over at a time when they are shuffled."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The sequence of one sample."""

    sample_id: str
    segments: np.ndarray
    """float32 (n_segments, dim)."""
    extras: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Part:
    folder: Path
    commit: Commit
    verify: bool = True
    """Whether its files are hashed: once for as long as their sizes and times stay."""

    @property
    def state(self) -> tuple[Any, ...]:
        """What stands for the files that were hashed; empty where they are not there."""
        try:
            stats = [path.stat() for path in shard_files(self.folder, self.commit.shard)]
        except OSError:
            return ()
        hashes = self.commit.tar_sha256, self.commit.parquet_sha256
        return (str(self.folder), self.commit.shard, *hashes, *((s.st_size, s.st_mtime_ns, s.st_ino) for s in stats))


_VERIFIED: set[tuple[Any, ...]] = set()
"""States of shards that this process, or its workers, have hashed in a whole pass."""


def stream_segments(
    store: FeatureStore,
    view: FeatureView | str,
    corpora: Collection[str] | None = None,
    *,
    only: Collection[str] | None = None,
    seed: int | None = None,
    epoch: int = 0,
    workers: int = 0,
) -> Iterator[Segments]:
    """Stream the segments of a view.

    Args:
        store: The store.
        view: The feature view, or its name.
        corpora: Corpora; all that are committed if none is named.
        only: Ids of the samples that are wanted, for example those of a split.
        seed: None streams every sample exactly once in the order of the shards, whatever the number of workers.
            A seed shuffles: the same seed, epoch and number of workers give the same order, and each sample once.
        epoch: Number of the pass, mixed into the seed.
        workers: Processes that read; 0 reads in this one.

    Yields:
        The samples that have vectors; the others have a status in the view's table.

    Raises:
        DataError: A shard is not the one that was committed, or its tar holds anything that merloco did not write.
    """
    import webdataset as wds

    if isinstance(view, str):
        view = store.view(view)
    parts = [_Part(store.folder(view), commit) for commit in store.committed(view, corpora)]
    states = [part.state for part in parts]
    parts = [replace(part, verify=state not in _VERIFIED) for part, state in zip(parts, states, strict=True)]
    wanted = None if only is None else frozenset(only)
    # An item is what a worker hands over at a time. Shards are given to the workers in turn, and torch asks its workers
    # in turn: handed over as a whole, they come back in order.
    stages: list[Any] = [wds.split_by_worker, partial(_read, wanted=wanted)]
    if seed is not None:
        mixed = random.Random(f"{seed}-{epoch}")
        mixed.shuffle(parts)
        stages += [chain.from_iterable, wds.detshuffle(SHUFFLE_BUFFER, SHUFFLE_BUFFER, mixed.randrange(2**31)), _chunks]
    pipeline = wds.DataPipeline(partial(iter, parts), *stages)
    source: Iterable[Any] = pipeline
    if workers:
        source = wds.WebLoader(pipeline, num_workers=workers, batch_size=None, collate_fn=_as_it_is)
    # Closed, so that workers end with the stream also where an error keeps its frames alive.
    with closing(item for item in source) as items:
        for item in items:
            for sample in item:
                if isinstance(sample, DataError):
                    raise sample
                yield sample
    _VERIFIED.update(state for state in states if state)


def _read(parts: Iterable[_Part], wanted: frozenset[str] | None) -> Iterator[list[Segments | DataError]]:
    """One list per shard. An error is an item: raised in a worker, it would arrive as the text of a traceback."""
    for part in parts:
        try:
            samples = read_segments(part.folder, part.commit, part.verify)
            yield [sample for sample in samples if wanted is None or sample.sample_id in wanted]
        except DataError as error:
            yield [error]
            return


def _chunks(samples: Iterable[Any]) -> Iterator[list[Any]]:
    samples = iter(samples)
    while chunk := list(islice(samples, CHUNK)):
        yield chunk


def _as_it_is(item: Any) -> Any:
    return item


def read_segments(folder: Path, commit: Commit, verify: bool = True) -> Iterator[Segments]:
    """Read the tar of one committed shard after a comparison with its record: hashes, or only sizes.

    Raises:
        DataError: See `stream_segments`.
    """
    from webdataset.tariterators import group_by_keys

    tar, parquet = shard_files(folder, commit.shard)
    if problem := verify_files(folder, commit, verify):
        raise DataError(f"{folder / commit.shard}: {problem}: run `merloco extract --verify`")
    table = pq.read_table(parquet, columns=["sample_id", "status", "n_segments"])
    rows = table.filter(pc.equal(table["status"], OK)).to_pylist()
    files = ({"fname": f"{key}.{kind}", "data": data, "__url__": str(tar)} for key, kind, data in tar_files(tar))
    expected = [(row["sample_id"], row["n_segments"]) for row in rows]
    sizes = []
    for sample in group_by_keys(files):
        decoded = _decode(sample, tar)
        sizes.append((decoded.sample_id, len(decoded.segments)))
        yield decoded
    if sizes != expected or len(sizes) != commit.ok:
        raise DataError(f"{tar}: {len(sizes)} samples, {commit.ok} were committed, or others: run `merloco check`")


def _decode(sample: dict[str, Any], tar: Path) -> Segments:
    """Arrays and the id of one group of files; a group without segments or description is not a sample."""
    key = sample["__key__"]
    if "segments.npy" not in sample or "json" not in sample or json.loads(sample["json"]).get("sample_id") != key:
        raise DataError(f"{tar}: {key!r} is no whole sample: run `merloco check`")
    decode: Callable[[bytes], np.ndarray] = partial(read_array, where=f"{tar}, {key}")
    arrays = {kind.removesuffix(".npy"): decode(data) for kind, data in sample.items() if kind.endswith(".npy")}
    return Segments(key, arrays.pop("segments"), arrays)

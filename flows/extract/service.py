"""Extraction: the plan that a command or flow makes, and the work on one shard, which is the body of a task."""

from __future__ import annotations

import os
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from merloco.features.catalog import load_catalog
from merloco.features.extraction.disk_space import require_store_room
from merloco.features.extraction.pipeline import ShardTarget, extract_views
from merloco.features.extraction.reader import decoders, read_sample
from merloco.features.shards.commit import Commit, commit_digest, read_commit
from merloco.features.shards.format import MISSING, RETRYABLE, read_rows
from merloco.features.shards.locks import remove_stale_locks, shard_lock
from merloco.features.store import FeatureStore, PlannedShard
from merloco.features.views import FeatureView
from merloco.flows.arguments import find_device
from merloco.flows.extract.jobs import Progress, ShardJob, extract_jobs
from merloco.models.encoders.base import Encoder
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import remove_temporary_files
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.media.pool import TIME_LIMIT


def extract_one(job: ShardJob, progress: Progress | None = None) -> list[Commit]:
    """Extract one shard of the job's views. Encoders stay loaded within a process.

    Args:
        job: What to extract.
        progress: Called with the number of rows done since the last call; a sample counts once for every view.

    Returns:
        One commit record per view, in the job's order.
    """
    with _LOAD_LOCK:  # jobs of one process run beside each other: none loads what another is loading
        store = _store(job.catalog, job.store)
        planned = {p.view.name: p for p in _plan(job.catalog, job.store, job.views, job.corpus, job.shard)}
        targets = [_target(store, job, planned[name]) for name in job.views]
        device_lock = None if job.device == "cpu" else _DEVICE_LOCKS[job.device]
    views = [target.view for target in targets]
    media = decoders(job.time_limit)
    return extract_views(
        targets,
        lambda record: read_sample(views, record, Path(job.root), media),
        readers=READERS,
        detectors=DETECTORS if job.device == "cpu" else 1,
        progress=progress,
        device_lock=device_lock,
    )


def _target(store: FeatureStore, job: ShardJob, planned: PlannedShard) -> ShardTarget:
    view = planned.view
    folder = store.folder(view)
    store.write_view_manifest(view)
    again: frozenset[str] = frozenset()
    if planned.state == "lost":
        again = frozenset({MISSING})
    if planned.state in ("lost", "failed") and job.retry_failed:
        again = RETRYABLE
    reuse_rows = (
        {row.sample_id: row for row in read_rows(folder, job.shard) if row.status not in again} if again else {}
    )
    encoder = _encoder(job.catalog, job.store, view.name, job.device)
    return ShardTarget(
        view, encoder, planned.shard, folder, reuse_rows, store.root, Path(job.root) if job.root else None
    )


READERS = min(len(os.sched_getaffinity(0)), 16)
"""Threads that read ahead, each with a decoder process."""
DETECTORS = 2
"""Threads that look for faces on a CPU: most of the work is there, and a job may be the only one."""
_LOAD_LOCK = threading.Lock()
_DEVICE_LOCKS: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""GPU -> held by the job whose encoders work: the next one reads meanwhile, the last one writes. The cores of a CPU are
shared: small networks do not fill them."""


def pending(store: FeatureStore, job: ShardJob) -> ShardJob | None:
    """The job without the views that somebody else has committed since the plan; None if nothing is left of it."""
    left = []
    for name, replaced in zip(job.views, job.replaces, strict=True):
        commit = read_commit(store.folder(store.view(name)), job.shard)
        if commit is None or commit_digest(commit) == replaced:
            left.append((name, replaced))
    if not left:
        return None
    views, replaces = zip(*left, strict=True)
    return replace(job, views=views, replaces=replaces)


def extract_locked(job: ShardJob, progress: Progress | None = None) -> list[Commit] | None:
    """Extract one shard unless another extractor has it: the body of an extract task.

    Returns:
        The commit records that were written, or None while somebody else works on the shard.

    Raises:
        DataError: This machine does not see the files of the job.
    """
    require_visible(job)
    with _LOAD_LOCK:
        _begin(job.run)
        store = _store(job.catalog, job.store)
    with shard_lock([store.folder(store.view(name)) for name in job.views], job.shard) as ours:
        if not ours:
            return None
        left = pending(store, job)
        return [] if left is None else extract_one(replace(left, device=find_device(left.device)), progress)


def require_visible(job: ShardJob) -> None:
    """Refuse a job whose catalog, store or corpus this process does not see, before anything is written.

    A cluster may have workers on which a file system is not mounted: a folder is not there, or there and empty, and
    each sample of the shard would count as one whose media are lost.

    Raises:
        DataError: Which worker, and which path.
        OSError: A fault that may pass.
    """
    needed = [("catalog", job.catalog, job.catalog), ("store", job.store, os.path.join(job.store, "store.json"))]
    if job.root:
        needed.append((f"corpus {job.corpus!r}", job.root, job.root))
    for what, path, probed in needed:
        if reason := _why_unseen(probed):
            raise DataError(
                f"the worker on {platform.node()!r} (process {os.getpid()}) does not see the {what} at {path!r} "
                f"({reason}): mount it there under this path, or stop that worker; then run the same command again"
            )


def _why_unseen(path: str) -> str | None:
    try:
        if os.path.isfile(path):
            with open(path, "rb"):
                return None
        with os.scandir(path) as entries:
            return None if any(entries) else "an empty folder"
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        return error.strerror


_RUN: list[str] = [""]


def _begin(run: str) -> None:
    if run != _RUN[0]:
        clear_caches()
        _RUN[0] = run


@lru_cache(maxsize=8)
def _store(catalog: str, store: str) -> FeatureStore:
    return FeatureStore.open(store, load_catalog(catalog, store))


@lru_cache(maxsize=16)
def _plans(catalog: str, store: str, views: tuple[str, ...], corpus: str) -> dict[str, list[PlannedShard]]:
    """Shard -> its plan for every view; the samples are read once for all shards of a corpus."""
    opened = _store(catalog, store)
    found: dict[str, list[PlannedShard]] = defaultdict(list)
    for planned in opened.plan([opened.view(view) for view in views], [corpus]):
        found[planned.shard.name].append(planned)
    return dict(found)


def _plan(catalog: str, store: str, views: tuple[str, ...], corpus: str, shard: str) -> list[PlannedShard]:
    plans = _plans(catalog, store, views, corpus)
    if shard not in plans:
        raise DataError(
            f"shard {shard}: the samples table no longer asks for it: corpus {corpus!r} was ingested again meanwhile; "
            "what was finished stays: run the same command again"
        )
    return plans[shard]


@lru_cache(maxsize=8)
def _encoder(catalog: str, store: str, view: str, device: str) -> Encoder:
    return _store(catalog, store).view(view).build(device)


def clear_caches() -> None:
    """Drop loaded stores, plans and encoders: a new command in the same process must see the disk as it is."""
    for cached in (_store, _plans, _encoder):
        cached.cache_clear()


def plan_extraction(
    store: FeatureStore,
    catalog_path: str,
    views: Sequence[FeatureView],
    corpora: Sequence[str] | None,
    roots: Mapping[str, str],
    device: str,
    *,
    retry_failed: bool = False,
    verified: Callable[[int], None] | None = None,
    time_limit: float = TIME_LIMIT,
) -> tuple[list[PlannedShard], list[ShardJob]]:
    """The shards that views have in a store, and the jobs that are left to do, for which there is room.

    Args:
        store: The store.
        catalog_path: Its catalog, for the workers.
        views: What to extract.
        corpora: Of what; None takes all that are ingested.
        roots: Corpus -> release, where the command line says so.
        device: For the jobs.
        retry_failed: Do failed rows again.
        verified: Given, every committed file is read; called with the number of shards that were.
        time_limit: Seconds that one sample may take to decode.

    Raises:
        DataError: The store holds no samples, or there is no room.
    """
    planned = store.plan(views, corpora, verified)
    if not planned:
        raise DataError(f"store {str(store.root)!r} holds no samples: run `merloco ingest` first")
    jobs = extract_jobs(store, catalog_path, planned, roots, device, retry_failed, time_limit)
    with storage_errors(store.root):
        remove_temporary_files(store.root)
        remove_stale_locks(store.root)
    if jobs:
        store.keep_catalog()
        require_store_room(store, planned)
        clear_caches()
    return planned, jobs

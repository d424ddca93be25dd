"""Building a store without Prefect: ingest corpora, extract shards. The flows run these same functions as tasks."""

from __future__ import annotations

import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from features.claims import claim
from features.extract import Target, extract_views
from features.reading import decoders, read_sample
from features.shards import MISSING, RETRYABLE, Commit, Shard, read_commit, read_rows, record_id
from features.store import TO_DO, FeatureStore, PlannedShard
from flows.options import find_device, require_root
from models.encoders import Encoder
from pipelines.catalog import Catalog, load_catalog
from pipelines.decoding import TIME_LIMIT
from pipelines.errors import DataError
from pipelines.samples import Audit, ingest_corpus, read_audit

Progress = Callable[[int], None]


def corpus_root(catalog: Catalog, name: str, roots: Mapping[str, str], store: Path | None = None) -> Path:
    """Where a corpus lies: the command line, the catalog (environment), then where it was ingested from.

    Args:
        catalog: The catalog.
        name: The corpus.
        roots: Corpus -> folder, as the command line says.
        store: Root of the store that holds its samples; None where it is about to be ingested.

    Returns:
        An absolute path; of an ingested corpus, a folder that is there.

    Raises:
        DataError: None of them says, or the root of an ingested corpus is not a folder.
    """
    entry = catalog.corpus(name)
    found = roots.get(name) or entry.root
    if not found and store is not None:
        found = read_audit(store, name).root
    if not found:
        raise DataError(
            f"corpus {name!r} has no root: set {name.upper()}_ROOT to the unpacked release, "
            f"or give --root {name}=FOLDER"
        )
    root = Path(os.path.abspath(found))
    if store is not None:
        require_root(name, root)
    return root


def ingest_one(catalog_path: str, store: str, name: str, root: str) -> Audit:
    """Ingest one corpus: the body of an ingest task."""
    catalog = load_catalog(catalog_path, store)
    opened = FeatureStore.open(store, catalog, create=True)
    return ingest_corpus(name, catalog.corpus(name), Path(root), opened.root)


@dataclass(frozen=True, slots=True)
class ShardJob:
    """One shard of one or several views that read the same media, as ids and paths: what an extract task takes."""

    catalog: str
    store: str
    views: tuple[str, ...]
    corpus: str
    shard: str
    root: str
    rows: int = 0
    """Samples of the shard."""
    device: str = "cpu"
    retry_failed: bool = False
    time_limit: float = TIME_LIMIT
    """Seconds that one sample may take to decode."""
    replaces: tuple[str | None, ...] = ()
    """Per view, the identity of the commit record that the plan saw; None where there was none."""
    run: str = ""
    """Which command asks: a worker that has served another one drops what it had loaded."""

    @property
    def label(self) -> str:
        """A short name for logs and task runs, for example `prosody+face_hog-meld-00003`."""
        return f"{'+'.join(self.views)}-{self.shard}"


def extract_jobs(
    store: FeatureStore,
    catalog_path: str,
    planned: Sequence[PlannedShard],
    roots: Mapping[str, str],
    device: str,
    retry_failed: bool,
    time_limit: float = TIME_LIMIT,
) -> list[ShardJob]:
    """The jobs that a plan leaves: missing, stale and damaged shards, and on request failed rows.

    Views that need the same shard and read the same media are one job, so that a clip is decoded once.
    """
    states = TO_DO | ({"failed"} if retry_failed else set())
    run = uuid.uuid4().hex

    @cache
    def root(corpus: str, modality: str) -> str:
        """Texts are in the samples table: for them a release need not be at hand."""
        return "" if modality == "text" else str(corpus_root(store.catalog, corpus, roots, store.root))

    groups: dict[tuple[str, str], list[PlannedShard]] = {}
    for p in planned:
        if p.state in states:
            groups.setdefault((p.shard.name, media_source(p.view.modality, p.shard)), []).append(p)
    return [
        ShardJob(
            catalog=catalog_path,
            store=str(store.root),
            views=tuple(p.view.name for p in group),
            corpus=group[0].shard.corpus,
            shard=shard,
            root=root(group[0].shard.corpus, group[0].view.modality),
            rows=group[0].shard.samples.num_rows,
            device=device,
            retry_failed=retry_failed,
            time_limit=time_limit,
            replaces=tuple(record_id(p.commit) for p in group),
            run=run,
        )
        for (shard, _), group in groups.items()
    ]


def media_source(modality: str, shard: Shard) -> str:
    """What a view of a modality reads of a shard: `text`, `audio`, `video`, or `clip` where one file holds both."""
    if modality == "text":
        return modality
    both = pc.equal(shard.samples["audio_path"], shard.samples["video_path"])
    return "clip" if pc.any(both).as_py() else modality


def extract_one(job: ShardJob, progress: Progress | None = None) -> list[Commit]:
    """Extract one shard of the job's views. Encoders stay loaded within a process.

    Args:
        job: What to extract.
        progress: Called with the number of rows done since the last call; a sample counts once for every view.

    Returns:
        One commit record per view, in the job's order.
    """
    with _LOADING:  # jobs of one process run beside each other: none loads what another is loading
        store = _store(job.catalog, job.store)
        planned = {p.view.name: p for p in _plan(job.catalog, job.store, job.views, job.corpus, job.shard)}
        targets = [_target(store, job, planned[name]) for name in job.views]
        turn = None if job.device == "cpu" else _TURNS[job.device]
    views = [target.view for target in targets]
    media = decoders(job.time_limit)
    return extract_views(
        targets,
        lambda record: read_sample(views, record, Path(job.root), media),
        readers=READERS,
        progress=progress,
        turn=turn,
    )


def _target(store: FeatureStore, job: ShardJob, planned: PlannedShard) -> Target:
    view = planned.view
    folder = store.folder(view)
    store.describe(view)
    again: frozenset[str] = frozenset()
    if planned.state == "lost":
        again = frozenset({MISSING})
    if planned.state in ("lost", "failed") and job.retry_failed:
        again = RETRYABLE
    keep = {row.sample_id: row for row in read_rows(folder, job.shard) if row.status not in again} if again else {}
    encoder = _encoder(job.catalog, job.store, view.name, job.device)
    return Target(view, encoder, planned.shard, folder, keep, store.root, Path(job.root) if job.root else None)


READERS = min(len(os.sched_getaffinity(0)), 16)
"""Threads that read ahead, each with a decoder process."""
_LOADING = threading.Lock()
_TURNS: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""GPU -> held by the job whose encoders work: the next one reads meanwhile, the last one writes. The cores of a CPU are
shared: small networks do not fill them."""


def remaining(store: FeatureStore, job: ShardJob) -> ShardJob | None:
    """The job without the views that somebody else has committed since the plan; None if nothing is left of it."""
    left = []
    for name, replaced in zip(job.views, job.replaces, strict=True):
        commit = read_commit(store.folder(store.view(name)), job.shard)
        if commit is None or record_id(commit) == replaced:
            left.append((name, replaced))
    if not left:
        return None
    views, replaces = zip(*left, strict=True)
    return replace(job, views=views, replaces=replaces)


def extract_claimed(job: ShardJob, progress: Progress | None = None) -> list[Commit] | None:
    """Extract one shard unless another extractor has it: the body of an extract task.

    Returns:
        The commit records that were written, or None while somebody else works on the shard.
    """
    with _LOADING:
        _begin(job.run)
        store = _store(job.catalog, job.store)
    with claim([store.folder(store.view(name)) for name in job.views], job.shard) as ours:
        if not ours:
            return None
        left = remaining(store, job)
        return [] if left is None else extract_one(replace(left, device=find_device(left.device)), progress)


_RUN: list[str] = [""]


def _begin(run: str) -> None:
    if run != _RUN[0]:
        forget()
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


def forget() -> None:
    """Drop loaded stores, plans and encoders: a new command in the same process must see the disk as it is."""
    for cached in (_store, _plans, _encoder):
        cached.cache_clear()


def summarize(commits: Sequence[Commit]) -> dict[str, Any]:
    """Totals of a run of shards: samples, failures by status, seconds per leg."""
    statuses: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for commit in commits:
        for status, count in commit.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
        for leg, value in commit.seconds.items():
            seconds[leg] = seconds.get(leg, 0.0) + value
    return {"shards": len(commits), "rows": sum(c.rows for c in commits), "statuses": statuses, "seconds": seconds}


FAILED_HERE = frozenset({"decode_error", "timeout", "decoder_died", "encode_error", "not_finite"})
"""Statuses that speak of this run, and so does `missing_media` of samples whose files the ingest saw; others, such as
`no_face`, speak of the corpus."""
BUDGET_FROM_ROWS = 50
"""The failure budget is not applied before this many rows: one bad clip of three says nothing."""


def check_budget(commits: Sequence[Commit], max_failures: float) -> None:
    """Abort a run in which too many items fail.

    Raises:
        DataError: More than `max_failures` (a share) of the rows failed; the sentence counts the statuses.
    """
    statuses = summarize(commits)["statuses"]
    rows = sum(statuses.values())
    failed = {status: n for status, n in statuses.items() if status in FAILED_HERE}
    if lost := sum(commit.lost for commit in commits):
        failed[MISSING] = lost
    if rows >= BUDGET_FROM_ROWS and sum(failed.values()) > max_failures * rows:
        counted = ", ".join(f"{status} {n}" for status, n in sorted(failed.items(), key=lambda item: -item[1]))
        raise DataError(
            f"stopped: {sum(failed.values())} of {rows} samples failed ({counted}), more than the budget of "
            f'{max_failures:.0%}: see `merloco sql "select error, count(*) from failures group by all order by 2 desc"`'
        )

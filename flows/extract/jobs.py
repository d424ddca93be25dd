"""The jobs of an extraction: which shards of which views, and the failure budget."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow.compute as pc

from merloco.features.shards.commit import Commit, commit_digest
from merloco.features.shards.format import MISSING, Shard
from merloco.features.store import TO_DO, FeatureStore, PlannedShard
from merloco.flows.arguments import corpus_root
from merloco.pipelines.errors import DataError
from merloco.pipelines.media.pool import TIME_LIMIT

Progress = Callable[[int], None]


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
            # Absolute: workers may have been started in another folder.
            catalog=os.path.abspath(store.catalog.file or catalog_path),
            store=os.path.abspath(store.root),
            views=tuple(p.view.name for p in group),
            corpus=group[0].shard.corpus,
            shard=shard,
            root=root(group[0].shard.corpus, group[0].view.modality),
            rows=group[0].shard.samples.num_rows,
            device=device,
            retry_failed=retry_failed,
            time_limit=time_limit,
            replaces=tuple(commit_digest(p.commit) for p in group),
            run=run,
        )
        for (shard, _), group in groups.items()
    ]


def summarize(commits: Sequence[Commit]) -> dict[str, Any]:
    """Totals of a run of shards: samples, failures by status, seconds per stage."""
    statuses: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for commit in commits:
        for status, count in commit.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
        for stage, value in commit.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return {"shards": len(commits), "rows": sum(c.rows for c in commits), "statuses": statuses, "seconds": seconds}


FAILED_HERE = frozenset({"decode_error", "timeout", "decoder_died", "encode_error", "not_finite"})
"""Statuses that speak of this run, and so does `missing_media` of samples whose files the ingest saw; others, such as
`no_face`, speak of the corpus."""
MAX_FAILURES = 0.2
"""Share of failed samples that ends an extraction, where nothing else is asked for."""
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


def media_source(modality: str, shard: Shard) -> str:
    """What a view of a modality reads of a shard: `text`, `audio`, `video`, or `clip` where one file holds both."""
    if modality == "text":
        return modality
    both = pc.equal(shard.samples["audio_path"], shard.samples["video_path"])
    return "clip" if pc.any(both).as_py() else modality

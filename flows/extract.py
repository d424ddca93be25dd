"""The extract flow: one task per shard, taking turns on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from features.shards import Commit
from features.store import FeatureStore
from flows.build import ShardJob, check_budget, extract_jobs, extract_one, in_order, summarize
from models.errors import ModelError
from pipelines.catalog import load_catalog
from pipelines.errors import DataError


async def _transient(_task: Task, _run: TaskRun, state: State) -> bool:
    """Retry what may pass (a file system hiccup), not what a user has to mend."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, (DataError, ModelError))


extract_task = task(
    name="extract-shard",
    task_run_name="extract-{job.label}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[1, 10],
    retry_condition_fn=_transient,
)(extract_one)


IN_PAIRS: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2)
"""One shard is read while the one before it is encoded; jobs take turns on a device."""


@flow(name="extract", task_runner=IN_PAIRS, log_prints=False)  # type: ignore[arg-type]
def extract_flow(
    jobs: list[ShardJob], max_failures: float = 0.2, progress: Callable[[int], None] | None = None
) -> list[Commit]:
    """Extract shards; the first error ends the run after the shards in hand, and what is committed stays.

    Args:
        jobs: The shards that a plan leaves.
        max_failures: Share of failed samples above which the run is aborted.
        progress: Called with the number of samples done since the last call.
    """
    commits: list[Commit] = []
    for done in in_order(jobs, lambda job: extract_task.submit(job, progress)):
        commits.extend(done)
        check_budget(commits, max_failures)
    return commits


@flow(name="extract-store")
def extract_store_flow(
    catalog: str,
    store: str,
    features: str = "light",
    corpora: list[str] | None = None,
    modalities: list[str] | None = None,
    device: str = "cuda",
    max_failures: float = 0.2,
) -> dict[str, Any]:
    """Plan and extract on a node: what a deployment runs. Roots come from the catalog or from the ingest.

    Returns:
        Shards, rows, statuses and seconds per leg of what was done.
    """
    opened = FeatureStore.open(store, load_catalog(catalog))
    planned = opened.plan(opened.views(features, modalities).values(), corpora)
    jobs = extract_jobs(opened, catalog, planned, {}, device, retry_failed=False)
    return summarize(extract_flow(jobs, max_failures))

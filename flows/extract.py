"""The extract flow: one task per shard, one at a time per device, on one machine or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL
from prefect.states import State
from prefect.tasks import Task, exponential_backoff
from pydantic import Field

from features.card import coverage_table
from features.room import require_store_room
from features.store import FeatureStore
from flows.build import ShardJob, extract_claimed, extract_jobs, summarize
from flows.options import device_list
from flows.runners import Runner, make_runner, reachable_api
from flows.shard_queue import BACK_OFF, RETRIES, Extracted, ShardQueue, is_transient
from pipelines.catalog import load_catalog


async def _transient(_task: Task, _run: TaskRun, state: State) -> bool:
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)


extract_task = task(
    name="extract-shard",
    task_run_name="extract-{job.label}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACK_OFF),
    retry_jitter_factor=0.5,
    retry_condition_fn=_transient,
)(extract_claimed)


@flow(name="extract", validate_parameters=False, log_prints=False)
def extract_flow(queue: ShardQueue, devices: list[str], inside: bool = True) -> Extracted:
    """Extract the shards of a queue, a task each.

    Args:
        queue: The shards. No data model: Prefect keeps its name and does not copy it into its database.
        devices: A device per task that may run at the same time.
        inside: Whether tasks run in this process and can move the queue's progress bar themselves.
    """
    share = _progress_artifact(queue)

    def finished(job: ShardJob) -> None:
        if queue.progress and not inside:
            queue.progress(job.rows * len(job.views))
        share()

    def submit(job: ShardJob) -> Any:
        return extract_task.submit(job, queue.progress if inside else None)

    done = queue.run(submit, devices, finished)
    share()
    if PREFECT_API_URL.value():
        views = [queue.store.view(name) for name in sorted({name for job in queue.jobs for name in job.views})]
        table = coverage_table(queue.store, views, sorted({job.corpus for job in queue.jobs}))
        create_table_artifact(table=table, key="extract-coverage", description="Samples that have a vector")
    return done


def run_extract_flow(
    queue: ShardQueue,
    devices: list[str],
    runner: Runner = "threads",
    workers: int | None = None,
    address: str | None = None,
) -> Extracted:
    """Run the extract flow on a task runner.

    Args:
        queue: The shards.
        devices: Devices of this machine, or what the workers at `address` call theirs.
        runner: Where the tasks run.
        workers: Tasks at a time; None takes one per device, or one per worker of the cluster at `address`.
        address: Scheduler of a running Dask or Ray cluster.
    """
    task_runner, slots = make_runner(runner, devices, workers, address)
    with reachable_api(runner, address):
        return extract_flow.with_options(task_runner=task_runner)(queue, slots, runner == "threads")


def _progress_artifact(queue: ShardQueue) -> Callable[[], None]:
    """A bar in the Prefect UI, where a server shows one; the function moves it."""
    if not PREFECT_API_URL.value():
        return lambda: None
    artifact = create_progress_artifact(0.0, key="extract-progress", description=f"{len(queue.jobs)} shard jobs")
    assert isinstance(artifact, UUID)  # a coroutine only where an event loop runs

    total = sum(len(job.views) for job in queue.jobs)

    def move() -> None:
        update_progress_artifact(artifact, progress=100.0 * (len(queue.done.commits) + queue.done.elsewhere) / total)

    return move


@flow(name="extract-store", log_prints=False)
def extract_store_flow(
    catalog: str,
    store: str,
    features: str = "light",
    corpora: list[str] | None = None,
    modalities: list[Literal["audio", "video", "text"]] | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    verify: bool = False,
    max_failures: Annotated[float, Field(ge=0, le=1)] = 0.2,
    runner: Runner = "threads",
    workers: Annotated[int, Field(ge=1)] | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Plan and extract on a node: what a deployment runs. Roots come from the catalog or from the ingest.

    Returns:
        Shards, rows, statuses and seconds per leg of what was done.
    """
    opened = FeatureStore.open(store, load_catalog(catalog, store))
    views = list(opened.views(features, modalities).values())
    planned = opened.plan(views, corpora, (lambda _: None) if verify else None)
    jobs = extract_jobs(opened, catalog, planned, {}, device, retry_failed)
    require_store_room(opened, planned)
    devices = [device] if address else device_list(device)
    done = run_extract_flow(ShardQueue(opened, jobs, max_failures), devices, runner, workers, address)
    return summarize(done.commits)

"""The extract flow: one task per shard, one at a time per device, on one machine or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL
from prefect.states import State
from prefect.tasks import Task, exponential_backoff
from pydantic import Field

from merloco.features.cards.coverage import coverage_table
from merloco.features.catalog import load_catalog
from merloco.features.shards.commit import Commit
from merloco.features.store import FeatureStore
from merloco.flows.arguments import device_list
from merloco.flows.extract.jobs import MAX_FAILURES, Progress, ShardJob, summarize
from merloco.flows.extract.runners import Runner, cluster_name, make_runner, reachable_api
from merloco.flows.extract.service import extract_locked, plan_extraction
from merloco.flows.extract.shard_queue import BACK_OFF, RETRIES, Extracted, ShardQueue, is_transient
from merloco.flows.tasks.catalog_names import CorpusName, FeatureSetName, ModalityName
from merloco.flows.tasks.display import corpus_tags, feature_tags, record_table, tag_flow_run


async def _transient(_task: Task, _run: TaskRun, state: State) -> bool:
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, BaseException) and is_transient(error)


@task(
    name="extract-shard",
    task_run_name="extract-{job.label}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACK_OFF),
    retry_jitter_factor=0.5,
    retry_condition_fn=_transient,
)
def extract_task(job: ShardJob, progress: Progress | None = None) -> list[Commit] | None:
    """Extract one shard unless another extractor has it."""
    commits = extract_locked(job, progress)
    logger = get_run_logger()
    for commit in commits or ():
        statuses = ", ".join(f"{status} {count}" for status, count in sorted(commit.statuses.items()))
        logger.info("%s: %d rows, %s", commit.shard, commit.rows, statuses)
        if commit.lost:
            logger.warning("%s: %d rows lack media that the ingest saw: they stay work", commit.shard, commit.lost)
    if commits is None:
        logger.info("another extractor is working on it")
    return commits


@flow(name="extract", validate_parameters=False, log_prints=False)
def extract_flow(
    queue: ShardQueue, features: str, devices: list[str], inside: bool = True, cluster: str = ""
) -> Extracted:
    """Extract the shards of a queue, a task each.

    Args:
        queue: The shards. No data model: Prefect keeps its name and does not copy it into its database.
        features: The feature set whose views they are of.
        devices: A device per task that may run at the same time.
        inside: Whether tasks run in this process and can move the queue's progress bar themselves.
        cluster: What other processes are reached by, for the error when it is gone.
    """
    tag_flow_run(corpus_tags(queue_corpora(queue)) | feature_tags([features]))
    share = _progress_artifact(queue)

    def finished(job: ShardJob) -> None:
        if queue.progress and not inside:
            queue.progress(job.rows * len(job.views))
        share()

    def submit(job: ShardJob) -> Any:
        tagged = extract_task.with_options(tags=corpus_tags([job.corpus]) | feature_tags([features]))
        return tagged.submit(job, queue.progress if inside else None)

    try:
        done = queue.run(submit, devices, finished, cluster)
    finally:  # shards that are done are in the store although others have failed
        share()
        views = [queue.store.view(name) for name in sorted({name for job in queue.jobs for name in job.views})]
        record_table(
            "extract-coverage", coverage_table(queue.store, views, queue_corpora(queue)), "Samples that have a vector"
        )
    get_run_logger().info("%d shards committed, %d by other extractors", len(done.commits), done.elsewhere)
    return done


def queue_corpora(queue: ShardQueue) -> list[str]:
    """The corpora of a queue's shards."""
    return sorted({job.corpus for job in queue.jobs})


def run_extract_flow(
    queue: ShardQueue,
    features: str,
    devices: list[str],
    runner: Runner = "threads",
    workers: int | None = None,
    address: str | None = None,
) -> Extracted:
    """Run the extract flow on a task runner.

    Args:
        queue: The shards.
        features: The feature set whose views they are of.
        devices: Devices of this machine, or what the workers at `address` call theirs.
        runner: Where the tasks run.
        workers: Tasks at a time; None takes one per device, or one per worker of the cluster at `address`.
        address: Scheduler of a running Dask or Ray cluster.
    """
    task_runner, slots = make_runner(runner, devices, workers, address)
    title = f"extract {features} {', '.join(queue_corpora(queue))}"
    named = extract_flow.with_options(task_runner=task_runner, flow_run_name=lambda: title)
    with reachable_api(runner, address):
        return named(queue, features, slots, runner == "threads", cluster_name(runner, address))


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


@flow(name="extract-store", flow_run_name="extract {features}", log_prints=False)
def extract_store_flow(
    catalog: str,
    store: str,
    features: FeatureSetName = "light",
    corpora: list[CorpusName] | None = None,
    modalities: list[ModalityName] | None = None,
    device: str = "auto",
    retry_failed: bool = False,
    verify: bool = False,
    max_failures: Annotated[float, Field(ge=0, le=1)] = MAX_FAILURES,
    runner: Runner = "threads",
    workers: Annotated[int, Field(ge=1)] | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Plan and extract on a node: what a deployment runs. Roots come from the catalog or from the ingest.

    Returns:
        Shards, rows, statuses and seconds per stage of what was done.

    Raises:
        UsageError: The catalog has no such feature set or corpus: said before any task.
    """
    opened = FeatureStore.open(store, load_catalog(catalog, store))
    opened.catalog.feature_set(features)
    chosen = opened.corpora(corpora)
    views = list(opened.views(features, modalities).values())
    tag_flow_run(corpus_tags(chosen) | feature_tags([features]))
    verified = (lambda _: None) if verify else None
    _, jobs = plan_extraction(opened, catalog, views, corpora, {}, device, retry_failed=retry_failed, verified=verified)
    devices = [device] if address else device_list(device)
    done = run_extract_flow(ShardQueue(opened, jobs, max_failures), features, devices, runner, workers, address)
    return summarize(done.commits)

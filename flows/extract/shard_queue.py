"""The queue of an extraction: which shard comes next, on which device, and what happens to errors."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Protocol

from merloco.features.shards.commit import Commit
from merloco.features.shards.locks import shard_is_locked
from merloco.features.store import FeatureStore
from merloco.flows.extract.jobs import Progress, ShardJob, check_budget
from merloco.flows.extract.service import extract_locked, pending
from merloco.flows.tasks.attempts import raise_code_error
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.space import require_space

RETRIES = 3
BACK_OFF = 2.0
"""Seconds before the first retry after a transient fault; doubled before each further one."""
MAX_FAILED_IN_A_ROW = 5
"""Shards that fail one after the other, with none between them that is done, before the others are not tried."""
MAX_LISTED = 5
"""Sentences of failed shards that an error repeats."""
WAIT = 2.0
"""Seconds between looks at shards that another extractor holds."""


class Submitted(Protocol):
    """A job that was handed to a worker: what Prefect's futures and those of `concurrent.futures` have in common."""

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> None:
        """Call `fn` with the future when the job has ended."""
        ...

    def result(self) -> list[Commit] | None:
        """What the job returned, or its error."""
        ...


@dataclass(slots=True)
class Extracted:
    """What an extraction did."""

    commits: list[Commit] = field(default_factory=list)
    elsewhere: int = 0
    """Shards that another extractor committed meanwhile, counted per view."""


class ShardQueue:
    """The jobs of one extraction.

    Before a job is handed out its shard is looked up again: what another extractor has committed since the plan is
    left out, and what it is working on comes last.
    """

    # Slots, so that Prefect records a flow's queue by its name and not with every job in it.
    __slots__ = ("done", "held", "jobs", "max_failures", "progress", "store", "waiting")

    def __init__(
        self,
        store: FeatureStore,
        jobs: Sequence[ShardJob],
        max_failures: float,
        progress: Progress | None = None,
        held: Callable[[int], None] | None = None,
    ) -> None:
        """Make a queue.

        Args:
            store: The store.
            jobs: What the plan leaves.
            max_failures: Share of failed samples above which the run is aborted.
            progress: Called with the number of rows done since the last call.
            held: Called with their number when all jobs that are left are held by other extractors.
        """
        self.store, self.max_failures, self.progress, self.held = store, max_failures, progress, held
        self.jobs = tuple(jobs)
        self.waiting = deque(jobs)
        self.done = Extracted()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Prefect sends a flow's parameters along with every task; the queue itself stays in the flow's process."""
        return str, (f"{len(self.jobs)} shard jobs",)

    def run(
        self,
        submit: Callable[[ShardJob], Submitted],
        devices: Sequence[str],
        finished: Callable[[ShardJob], None] | None = None,
        cluster: str = "",
    ) -> Extracted:
        """Hand jobs to workers, one at a time per device; a shard that fails does not keep the others from being tried.

        What speaks against all that are left ends the run after the shards in hand: no room, no workers, a cluster that
        is gone, too many failed samples, or as many failed shards in a row as `MAX_FAILED_IN_A_ROW`.

        Args:
            submit: Starts a job, whose device is filled in, and returns its future.
            devices: A device per job that may run at the same time; a device may be named more than once.
            finished: Called with every job that was done here, when it is done.
            cluster: What the workers are reached by, for the error when it is gone.

        Returns:
            The commit records that were written, and the number of shards that others wrote.

        Raises:
            DataError: Shards failed; those that are done are in the store.
            Exception: The first error that is one of the code, as it was raised.
        """
        free = deque(devices)
        running: dict[Submitted, ShardJob] = {}
        ended: SimpleQueue[Submitted] = SimpleQueue()
        errors: list[Exception] = []
        in_a_row, stopped = 0, False
        while running or (self.waiting and not stopped):
            try:
                while free and not stopped and (job := self._next(running.values())):
                    job = replace(job, device=free.popleft())
                    try:
                        future = submit(job)
                    except Exception as caught:
                        self.waiting.appendleft(job)
                        free.append(job.device)
                        raise readable_error(caught, job, cluster) from None
                    running[future] = job
                    future.add_done_callback(ended.put)
            except DataError as caught:
                errors.append(caught)
                stopped = True
            if running:
                future = ended.get()
                job = running.pop(future)
                free.append(job.device)
                try:
                    commits = future.result()
                except Exception as caught:
                    errors.append(readable_error(caught, job, cluster))
                    in_a_row += 1
                    stopped = stopped or in_a_row == MAX_FAILED_IN_A_ROW or ends_workers(caught)
                    continue
                in_a_row = 0
                try:
                    self._finish(job, commits, finished)
                except Exception as caught:
                    errors.append(caught)
                    stopped = True
            elif self.waiting and not stopped:  # wait for the others' commits, or for their end
                if self.held:
                    self.held(len(self.waiting))
                time.sleep(WAIT)
        if errors:
            raise_failures(errors, len(self.waiting))
        return self.done

    def _next(self, in_hand: Iterable[ShardJob]) -> ShardJob | None:
        """Take the first job that is still to do and held by nobody; None if there is none at this moment.

        Raises:
            DataError: There is no room for it beside the jobs in hand.
        """
        for _ in range(len(self.waiting)):
            job = self.waiting.popleft()
            try:
                left = pending(self.store, job)
                held = left and shard_is_locked(
                    [self.store.folder(self.store.view(view)) for view in left.views], left.shard
                )
            except OSError:  # the worker will meet the same fault, and tries again
                return job
            others = len(job.views) - (len(left.views) if left else 0)
            self.done.elsewhere += others
            if others and self.progress:
                self.progress(others * job.rows)
            if left is None:
                continue
            if held:
                self.waiting.append(left)
                continue
            largest = max(((c.tar_bytes or 0) + (c.parquet_bytes or 0) for c in self.done.commits), default=0)
            unwritten = sum(len(job.views) for job in (left, *in_hand))
            require_space(self.store.root, unwritten * largest, f"shard {left.label}, with those in hand,")
            return left
        return None

    def _finish(self, job: ShardJob, commits: list[Commit] | None, finished: Callable[[ShardJob], None] | None) -> None:
        if commits is None:  # somebody else was faster to claim it
            self.waiting.append(job)
            return
        self.done.commits.extend(commits)
        self.done.elsewhere += len(job.views) - len(commits)
        if finished:
            finished(job)
        check_budget(self.done.commits, self.max_failures)


def raise_failures(errors: Sequence[Exception], untried: int) -> None:
    """Raise one error for all shards that failed.

    Args:
        errors: In the order in which they came.
        untried: How many shard jobs were not begun.
    """
    raise_code_error(errors)
    if len(errors) == 1:
        raise errors[0]
    sentences = list(dict.fromkeys(str(error) for error in errors))
    if (more := len(sentences) - MAX_LISTED) > 0:
        sentences[MAX_LISTED:] = [f"{more} more shards failed"]
    if untried:
        sentences.append(f"{untried} more were not tried")
    raise DataError("; ".join(sentences))


def is_transient(error: BaseException) -> bool:
    """Whether a fault may pass by itself (a file system hiccup); what a user has to mend is a `DataError`."""
    return isinstance(error, OSError)


KILLED_WORKER = ("distributed.scheduler.KilledWorker", "ray.exceptions.WorkerCrashedError")
LOST_CLUSTER = ("distributed.client.ClosedClientError", "distributed.client.FutureCancelledError")
"""Errors of Dask and Ray by their names: neither need be installed."""


def _is_one_of(error: Exception, names: Sequence[str]) -> bool:
    return f"{type(error).__module__}.{type(error).__qualname__}" in names


def ends_workers(error: Exception) -> bool:
    """Whether nobody is left who could work on the other shards."""
    return isinstance(error, BrokenExecutor) or _is_one_of(error, LOST_CLUSTER)


def readable_error(error: Exception, job: ShardJob, cluster: str = "") -> Exception:
    """A fault of storage, worker or cluster as an error that the command line prints; others as they are."""
    if _is_one_of(error, LOST_CLUSTER):
        return DataError(
            f"{cluster} was lost: what was finished stays in the store; see that it runs, then run the same command "
            "again to go on"
        )
    if isinstance(error, BrokenExecutor) or _is_one_of(error, KILLED_WORKER):
        return DataError(
            f"shard {job.label}: its worker process was killed (out of memory?): run the same command again to go on, "
            "with fewer --workers if it happens again"
        )
    if is_transient(error):
        return DataError(
            f"shard {job.label}: {error} (after {RETRIES} retries): run the same command again when it has passed"
        )
    return error


JOBS_PER_DEVICE = 2
"""Jobs of one process at a time per device: a shard is read while the one before it is encoded and written."""


def run_here(queue: ShardQueue, devices: Sequence[str]) -> Extracted:
    """Run a queue in threads of this process, without Prefect, with the retries that a flow would make."""
    interrupted = threading.Event()

    def report(count: int) -> None:
        if interrupted.is_set():  # threads do not see Ctrl-C: they end with the batch in hand
            raise KeyboardInterrupt
        if queue.progress:
            queue.progress(count)

    slots = [*devices] * JOBS_PER_DEVICE
    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            return queue.run(lambda job: pool.submit(_with_retries, job, report), slots)
        except KeyboardInterrupt:
            interrupted.set()
            raise


def _with_retries(job: ShardJob, progress: Progress) -> list[Commit] | None:
    for attempt in range(RETRIES):
        try:
            return extract_locked(job, progress)
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(BACK_OFF * 2**attempt)
    return extract_locked(job, progress)

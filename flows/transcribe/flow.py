"""The transcribe flow: one task per corpus."""

from __future__ import annotations

from functools import partial

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from merloco.flows.tasks.attempts import TasksFailedError, attempt_all
from merloco.flows.tasks.display import corpus_tags, record_table, tag_flow_run
from merloco.flows.transcribe.service import TranscribeJob, transcribe_corpus


@task(name="transcribe-corpus", task_run_name="transcribe-{job.corpus}", cache_policy=NO_CACHE)
def transcribe_task(job: TranscribeJob) -> dict[str, int]:
    """Transcribe one corpus."""
    counts = transcribe_corpus(job)
    get_run_logger().info(", ".join(f"{what} {count}" for what, count in counts.items()))
    return counts


@flow(
    name="transcribe",
    flow_run_name=lambda: f"transcribe {', '.join(job.corpus for job in flow_run.parameters['jobs'])}",
    validate_parameters=False,
)
def transcribe_flow(jobs: list[TranscribeJob]) -> dict[str, dict[str, int]]:
    """Transcribe corpora one after the other; one that fails does not keep the others from being heard.

    Returns:
        Corpus -> counts.

    Raises:
        TasksFailedError: Corpora could not be transcribed; it holds the counts of the others.
    """
    tag_flow_run(corpus_tags([job.corpus for job in jobs]))
    try:
        counts = attempt_all(
            {job.corpus: partial(transcribe_task.with_options(tags=corpus_tags([job.corpus])), job) for job in jobs}
        )
    except TasksFailedError as error:
        _record({name: result for name, result in error.outcomes.items() if isinstance(result, dict)})
        raise
    _record(counts)
    return counts


def _record(counts: dict[str, dict[str, int]]) -> None:
    rows = [{"corpus": name, **result} for name, result in counts.items()]
    record_table("transcripts", rows, "Samples that were heard")

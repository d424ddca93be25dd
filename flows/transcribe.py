"""The transcribe flow: one task per corpus."""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.transcription import TranscribeJob, transcribe_corpus

transcribe_task = task(name="transcribe-corpus", task_run_name="transcribe-{job.corpus}", cache_policy=NO_CACHE)(
    transcribe_corpus
)


@flow(name="transcribe", validate_parameters=False)
def transcribe_flow(jobs: list[TranscribeJob]) -> list[dict[str, int]]:
    """Transcribe corpora one after the other."""
    return [transcribe_task(job) for job in jobs]

"""Transcripts for samples that have none: Whisper's text goes into the samples table once, with its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from models.asr import Transcriber
from pipelines.catalog import load_catalog
from pipelines.deletions import read_deletions
from pipelines.files import write_parquet
from pipelines.media import MediaError, read_audio
from pipelines.samples import read_samples, samples_path
from pipelines.schema import Sample, from_table, to_table

BATCH = 32
"""Samples between two looks at the progress."""


@dataclass(frozen=True, slots=True)
class TranscribeJob:
    """One corpus to transcribe, as names and paths."""

    catalog: str
    store: str
    corpus: str
    root: str
    model: str
    revision: str | None = None
    device: str = "cpu"


def needs_transcript(sample: Sample) -> bool:
    """No text from the release, sound that may be there, and not heard before."""
    return sample.text_source == "none" and sample.audio_status == "ok" and "asr" not in sample.native


def transcribe_corpus(job: TranscribeJob, progress: Callable[[int], None] | None = None) -> dict[str, int]:
    """Transcribe a corpus and replace its samples table atomically.

    Args:
        job: Corpus, model and places.
        progress: Called with the number of samples done since the last call.

    Returns:
        Counts: transcribed, no_speech, failed.
    """
    load_catalog(job.catalog, job.store).corpus(job.corpus)
    store = Path(job.store)
    samples = from_table(read_samples(store, job.corpus))
    todo = [i for i, sample in enumerate(samples) if needs_transcript(sample)]
    counts = {"transcribed": 0, "no_speech": 0, "failed": 0}
    if not todo:
        return counts
    transcriber = Transcriber(job.model, job.revision, job.device)
    for begin in range(0, len(todo), BATCH):
        part = todo[begin : begin + BATCH]
        waves, heard = [], []
        for i in part:
            sample = samples[i]
            try:
                path = Path(job.root) / (sample.audio_path or "")
                waves.append(read_audio(path, sample.audio_start, sample.audio_end).wave)
                heard.append(i)
            except MediaError:
                counts["failed"] += 1
        for i, transcript in zip(heard, transcriber.transcribe(waves), strict=True):
            samples[i] = with_transcript(samples[i], transcript.text, transcript.no_speech, transcriber)
            counts["no_speech" if transcript.no_speech else "transcribed"] += 1
        if progress:
            progress(len(part))
    deleted = read_deletions(store, job.corpus)  # now, not when the hours of listening began
    kept = [s for s in samples if not deleted.cover(s.sample_id, s.speaker, job.corpus)]
    write_parquet(samples_path(store, job.corpus), to_table(kept))
    return counts


def with_transcript(sample: Sample, text: str, no_speech: bool, transcriber: Transcriber) -> Sample:
    """The sample with what was heard, and by whom."""
    heard = {"model": transcriber.model, "revision": transcriber.revision, "no_speech": no_speech}
    return replace(
        sample,
        text=text or None,
        text_source="asr",
        text_status="ok" if text else "no_text",
        native={**sample.native, "asr": heard},
    )

"""Transcripts for samples that have none: what Whisper hears goes into the corpus's transcripts, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from merloco.features.extraction.reader import decoders
from merloco.features.shards.locks import shard_lock
from merloco.models.asr import RATE, Transcriber
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.media.pool import TIME_LIMIT, Decoder
from merloco.pipelines.media.probe import MediaError
from merloco.pipelines.samples.schema import Sample, from_table
from merloco.pipelines.samples.table import read_samples
from merloco.pipelines.samples.tombstones import locked_tombstones
from merloco.pipelines.samples.transcripts import (
    Hasher,
    Transcript,
    append_transcripts,
    compare_media,
    file_state,
    read_transcripts,
    transcripts_path,
)

BATCH = 32
"""Samples that are committed together: what a kill costs."""
READERS = 2
"""Threads that decode, each with a process of its own."""


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
    return sample.text_source == "none" and sample.audio_status == "ok"


def pending_samples(store: Path, corpus: str, root: Path | None) -> list[Sample]:
    """Samples that are to be heard, after a look whether a file that was heard is another one now.

    Args:
        store: Root of the store.
        corpus: The corpus.
        root: Its root; None where it is not known, and then no file is looked at.
    """
    heard = read_transcripts(store, corpus)
    if heard and root is not None:
        samples = from_table(read_samples(store, corpus))
        hashed = cache(sha256_file)
        if compare_media(heard, samples, root, hashed):  # hashes what it must before the lock
            with locked_tombstones(store, corpus, exclusive=True):
                append_transcripts(store, corpus, compare_media(read_transcripts(store, corpus), samples, root, hashed))
    return [sample for sample in from_table(read_samples(store, corpus)) if needs_transcript(sample)]


def transcribe_corpus(job: TranscribeJob, progress: Callable[[int], None] | None = None) -> dict[str, int]:
    """Transcribe what a corpus has left; a killed run goes on after its last batch.

    Args:
        job: Corpus, model and places.
        progress: Called with the number of samples done since the last call.

    Returns:
        Counts: transcribed, no_speech, failed.

    Raises:
        DataError: Another process is transcribing the corpus, or the store cannot be written.
    """
    store, root = Path(job.store), Path(job.root)
    counts = Counter({"transcribed": 0, "no_speech": 0, "failed": 0})
    with shard_lock([transcripts_path(store, job.corpus).parent], job.corpus) as ours:
        if not ours:
            raise DataError(f"corpus {job.corpus!r} is being transcribed by another process: wait for its end")
        pending = pending_samples(store, job.corpus, root)
        if not pending:
            return dict(counts)
        transcriber = Transcriber(job.model, job.revision, job.device)
        hashed = lru_cache(maxsize=BATCH)(sha256_file)  # many utterances may lie in one file
        for begin in range(0, len(pending), BATCH):
            batch = pending[begin : begin + BATCH]
            heard = _transcribe(batch, root, transcriber, hashed)
            _commit(store, job.corpus, heard)
            counts["failed"] += len(batch) - len(heard)
            counts.update("no_speech" if transcript.no_speech else "transcribed" for _, transcript in heard)
            if progress:
                progress(len(batch))
    return dict(counts)


def _transcribe(
    batch: Sequence[Sample], root: Path, transcriber: Transcriber, hash_file: Hasher
) -> list[tuple[Sample, Transcript]]:
    """What is said in the samples of a batch that can be read."""
    media = decoders(TIME_LIMIT)
    with ThreadPoolExecutor(READERS) as pool:
        sounds = list(pool.map(lambda sample: _read(sample, root, media, hash_file), batch))
    readable = [(sample, *sound) for sample, sound in zip(batch, sounds, strict=True) if sound is not None]
    said = transcriber.transcribe([wave for _, wave, _ in readable])
    return [
        (sample, replace(about, text=s.text or None, no_speech=s.no_speech, model=s.model, revision=s.revision))
        for (sample, _, about), s in zip(readable, said, strict=True)
    ]


def _read(sample: Sample, root: Path, media: Decoder, hash_file: Hasher) -> tuple[np.ndarray, Transcript] | None:
    """Sound of a sample, and which content of which file it is; None where it cannot be read."""
    path = root / (sample.audio_path or "")
    state = file_state(path)  # before it is read: a file that changes meanwhile is compared again
    try:
        wave = media.read_audio(path, sample.audio_start, sample.audio_end, RATE).wave
    except MediaError:
        return None
    size, modified = state or (None, None)
    about = Transcript(sample.sample_id, sample.audio_start, sample.audio_end, bytes=size, modified=modified)
    return wave, replace(about, sha256=hash_file(path))


def _commit(store: Path, corpus: str, heard: Sequence[tuple[Sample, Transcript]]) -> None:
    """Add what was heard, but not of who was deleted since the samples were read."""
    with locked_tombstones(store, corpus, exclusive=True) as deleted:
        lines = [t for s, t in heard if not deleted.contains(s.sample_id, s.speaker, corpus)]
        append_transcripts(store, corpus, lines)

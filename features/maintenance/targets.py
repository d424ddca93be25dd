"""Whom `merloco delete` means: sample ids and speakers, found in the samples tables or on the deletion list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.samples.table import ingested, ingested_table
from merloco.pipelines.samples.tombstones import Tombstones, read_tombstones


@dataclass(frozen=True, slots=True)
class DeletionTarget:
    """What to delete from one corpus."""

    corpus: str
    samples: frozenset[str]
    speakers: frozenset[str] = frozenset()
    """Names of persons, of whom all samples go."""


def resolve_targets(store: FeatureStore, sample_ids: Sequence[str], speakers: Sequence[str]) -> list[DeletionTarget]:
    """Find the samples that are meant by ids and by `CORPUS/SPEAKER`; one target per corpus, sorted by corpus.

    Raises:
        UsageError: A speaker is not written as `CORPUS/SPEAKER`.
        DataError: No such corpus, sample or speaker, neither in the samples nor on the deletion list.
    """
    samples: defaultdict[str, set[str]] = defaultdict(set)
    persons: defaultdict[str, set[str]] = defaultdict(set)
    read_corpus = cache(partial(_read_corpus, store))
    for sample_id in sample_ids:
        corpus = sample_id.partition("/")[0]
        content = read_corpus(corpus)
        if sample_id not in content.ids and sample_id not in content.deleted.samples:
            raise DataError(f"no sample {sample_id!r} in corpus {corpus!r}: {suggest(sample_id, content.ids)}")
        samples[corpus].add(sample_id)
    for person in speakers:
        corpus, slash, speaker = person.partition("/")
        if not slash or not corpus or not speaker:
            raise UsageError(f"--speaker {person!r}: expected CORPUS/SPEAKER, for example --speaker iemocap/Ses01_F")
        content = read_corpus(corpus)
        spoken = content.speakers
        if speaker not in spoken and not content.deleted.contains_speaker(corpus, speaker):
            raise DataError(f"nobody called {speaker!r} speaks in corpus {corpus!r}: {suggest(speaker, spoken)}")
        samples[corpus].update(spoken.get(speaker, ()))
        persons[corpus].add(speaker)
    return [DeletionTarget(c, frozenset(samples[c]), frozenset(persons[c])) for c in sorted(samples)]


@dataclass(frozen=True, slots=True)
class _Corpus:
    """What a target is looked up in."""

    ids: frozenset[str]
    speakers: Mapping[str, Sequence[str]]
    """Speaker -> ids of the samples in which they speak."""
    deleted: Tombstones


def _read_corpus(store: FeatureStore, name: str) -> _Corpus:
    known = ingested(store.root)
    if name not in known:
        raise DataError(f"no corpus {name!r} in store {str(store.root)!r}: {suggest(name, known)}")
    table = ingested_table(store.root, name)
    ids = table["sample_id"].to_pylist()
    speakers: defaultdict[str, list[str]] = defaultdict(list)
    for sample_id, speaker in zip(ids, table["speaker"].to_pylist(), strict=True):
        if speaker is not None:
            speakers[speaker].append(sample_id)
    return _Corpus(frozenset(ids), dict(speakers), read_tombstones(store.root, name))

"""Whom `merloco delete` means: sample ids and speakers, found in the samples tables or on the deletion list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pipelines.deletions import read_deletions, speaker_key
from pipelines.errors import DataError, UsageError, nearest
from pipelines.samples import ingested, read_samples

if TYPE_CHECKING:
    from features.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Selection:
    """What to delete from one corpus."""

    corpus: str
    samples: frozenset[str]
    speakers: frozenset[str] = frozenset()
    """Hashes of the persons' names."""


def select(store: FeatureStore, sample_ids: Sequence[str], speakers: Sequence[str]) -> list[Selection]:
    """Find the samples that are meant.

    Args:
        store: The store.
        sample_ids: Sample ids.
        speakers: `CORPUS/SPEAKER`, the speaker as the samples table names them.

    Returns:
        One selection per corpus, sorted by corpus.

    Raises:
        UsageError: A speaker is not written as `CORPUS/SPEAKER`.
        DataError: No such corpus, sample or speaker, neither in the samples nor on the deletion list.
    """
    samples: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    for sample_id in sample_ids:
        corpus = _known_corpus(store, sample_id.partition("/")[0])
        known = read_samples(store.root, corpus)["sample_id"].to_pylist()
        if sample_id not in known and sample_id not in read_deletions(store.root, corpus).samples:
            raise DataError(f"no sample {sample_id!r} in corpus {corpus!r}: {nearest(sample_id, known)}")
        samples.setdefault(corpus, set()).add(sample_id)
    for person in speakers:
        corpus, slash, speaker = person.partition("/")
        if not slash or not corpus or not speaker:
            raise UsageError(f"--speaker {person!r}: expected CORPUS/SPEAKER, for example --speaker iemocap/Ses01F")
        table = read_samples(store.root, _known_corpus(store, corpus))
        spoken = table.filter(pc.equal(table["speaker"], speaker))["sample_id"].to_pylist()
        key = speaker_key(corpus, speaker)
        if not spoken and key not in read_deletions(store.root, corpus).speakers:
            names = {name for name in table["speaker"].to_pylist() if name is not None}
            raise DataError(f"nobody called {speaker!r} speaks in corpus {corpus!r}: {nearest(speaker, names)}")
        samples.setdefault(corpus, set()).update(spoken)
        keys.setdefault(corpus, set()).add(key)
    return [Selection(c, frozenset(samples[c]), frozenset(keys.get(c, ()))) for c in sorted(samples)]


def _known_corpus(store: FeatureStore, name: str) -> str:
    known = ingested(store.root)
    if name not in known:
        raise DataError(f"no corpus {name!r} in store {str(store.root)!r}: {nearest(name, known)}")
    return name

"""The deletion list of a store: what was removed from it and must not come back with the next ingest.

It holds only what that takes: ids of removed samples (pseudonyms) and, for a person, a hash of the speaker's name in
the release. One small file per deletion, never changed, so that two deletions at once cannot lose each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import DataError
from pipelines.files import TEMPORARY, canonical_json, sha256_text, write_json


@dataclass(frozen=True, slots=True)
class Deletions:
    """Everything that was removed from one corpus of a store."""

    samples: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()
    """`speaker_key` of every removed person."""

    def cover(self, sample_id: str, speaker: str | None, corpus: str) -> bool:
        """Whether a sample must stay out: by its id, or because a removed person speaks in it."""
        return sample_id in self.samples or (speaker is not None and speaker_key(corpus, speaker) in self.speakers)

    @property
    def mark(self) -> str:
        """Empty without a deletion, else a hash: a part of what decides whether an ingest reads a release again."""
        if not self.samples and not self.speakers:
            return ""
        return "-" + sha256_text(canonical_json([sorted(self.samples), sorted(self.speakers)]))[:16]


def speaker_key(corpus: str, speaker: str) -> str:
    """What the list keeps of a person instead of a name."""
    return sha256_text(f"{corpus}/{speaker}")


def deletions_folder(store: Path) -> Path:
    """Where the deletion list lies."""
    return store / "deletions"


def read_deletions(store: Path, corpus: str) -> Deletions:
    """The deletion list of one corpus; empty where nothing was deleted.

    Raises:
        DataError: A file of the list is broken: going on would bring somebody back.
    """
    samples: set[str] = set()
    speakers: set[str] = set()
    for path in sorted(deletions_folder(store).glob("*.json")):
        if path.name.startswith(TEMPORARY):
            continue
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["corpus"] == corpus:
                samples.update(entry["samples"])
                speakers.update(entry["speakers"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: broken deletion list ({error}): restore it, or remove it and run `merloco delete` again"
            ) from None
    return Deletions(frozenset(samples), frozenset(speakers))


def add_deletions(store: Path, corpus: str, samples: Iterable[str], speakers: Iterable[str]) -> None:
    """Add to the deletion list; the same deletion twice is one file."""
    entry = {"corpus": corpus, "samples": sorted(samples), "speakers": sorted(speakers)}
    write_json(deletions_folder(store) / f"{corpus}-{sha256_text(canonical_json(entry))[:16]}.json", entry)

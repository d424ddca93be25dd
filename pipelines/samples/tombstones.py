"""The deletion list of a store: what was removed from it and must not come back.

It holds only what that takes: ids of removed samples (pseudonyms) and, for a person, a keyed hash of the speaker's name
in the release. One small file per deletion, never changed, so that two deletions at once cannot lose each other.

Every writer of rows commits inside `locked_tombstones`, and a deletion adds to the list inside its exclusive form. So a
commit lies wholly before the deletion, which then finds it and takes the rows out, or wholly after it, and then the
writer has read the list and left the rows out itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import TEMPORARY, atomic_path
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.files.hashing import canonical_json, sha256_text
from merloco.pipelines.files.locks import file_lock

KEYED = "hmac-sha256:"
"""Begins the hash of a speaker that was made with the store's key; without it, it is the sha256 of an older version."""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Everything that was removed from a store, or from one corpus of it."""

    samples: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()
    """`speaker_key` of every removed person."""
    key: bytes = b""
    """The store's key, with which those hashes were made."""

    def contains(self, sample_id: str, speaker: str | None, corpus: str) -> bool:
        """Whether a sample must stay out: by its id, or because a removed person speaks in it."""
        return sample_id in self.samples or (speaker is not None and self.contains_speaker(corpus, speaker))

    def contains_speaker(self, corpus: str, speaker: str) -> bool:
        """Whether a person was removed, by a hash of this store or by one of an older version of merloco."""
        hashes = {speaker_key(corpus, speaker), speaker_key(corpus, speaker, self.key)} if self.speakers else set()
        return not self.speakers.isdisjoint(hashes)

    def ids_in(self, table: pa.Table) -> frozenset[str]:
        """Ids of the rows of a samples table that must stay out."""
        ids = table["sample_id"].to_pylist()
        matches = self.samples.intersection(ids)
        if self.speakers:
            contains = cache(self.contains_speaker)
            rows = zip(ids, table["corpus"].to_pylist(), table["speaker"].to_pylist(), strict=True)
            matches |= {i for i, corpus, speaker in rows if speaker is not None and contains(corpus, speaker)}
        return matches

    @property
    def digest(self) -> str:
        """Empty without a deletion, else a hash: a part of what decides whether an ingest reads a release again."""
        if not self.samples and not self.speakers:
            return ""
        return "-" + sha256_text(canonical_json([sorted(self.samples), sorted(self.speakers)]))[:16]


def drop_rows(table: pa.Table, ids: Collection[str]) -> pa.Table:
    """The rows of a table whose `sample_id` is not among `ids`."""
    if not ids:
        return table
    dropped = pa.array(sorted(ids), pa.string())
    return table.filter(pc.invert(pc.is_in(table["sample_id"], dropped))).combine_chunks()


def speaker_key(corpus: str, speaker: str, key: bytes = b"") -> str:
    """What the list keeps of a person instead of a name.

    With the key of a store it can be compared with no other store's list and looked up in no table of hashed names.
    """
    name = f"{corpus}/{speaker}"
    return KEYED + hmac.new(key, name.encode(), hashlib.sha256).hexdigest() if key else sha256_text(name)


def tombstones_folder(store: Path) -> Path:
    """Where the deletion list lies."""
    return store / "deletions"


def key_path(store: Path) -> Path:
    """Where the key for hashes of speakers lies; it is made with the first person's deletion."""
    return tombstones_folder(store) / "speakers.key"


def read_tombstones(store: Path, corpus: str | None = None) -> Tombstones:
    """The deletion list of one corpus, or of all; empty where nothing was deleted.

    Raises:
        DataError: A file of the list is broken, or the key is gone: going on would bring somebody back.
    """
    samples: set[str] = set()
    speakers: set[str] = set()
    for path in sorted(tombstones_folder(store).glob("*.json")):
        if path.name.startswith(TEMPORARY):
            continue
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if corpus in (None, entry["corpus"]):
                samples.update(entry["samples"])
                speakers.update(entry["speakers"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: broken deletion list ({error}): restore it, or remove it and run `merloco delete` again"
            ) from None
    key = _read_key(store) if any(name.startswith(KEYED) for name in speakers) else b""
    return Tombstones(frozenset(samples), frozenset(speakers), key)


def _read_key(store: Path) -> bytes:
    path = key_path(store)
    try:
        return bytes.fromhex(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{path}: no key ({type(error).__name__}), and without it nobody can tell which speakers were deleted: "
            "restore it from a copy of the store"
        ) from None


@contextmanager
def locked_tombstones(store: Path, corpus: str | None = None, exclusive: bool = False) -> Iterator[Tombstones]:
    """The list (see `read_tombstones`), and nobody adds to it in the block: a writer reads it here and commits here.

    With `exclusive` no other writer may commit meanwhile: for who adds to the list or rewrites a file in place.
    Raises `DataError` where the list is broken or the store cannot be written.
    """
    with file_lock(store / ".lock", exclusive):
        yield read_tombstones(store, corpus)


@contextmanager
def unchanged_tombstones(store: Path, seen: Tombstones, corpus: str | None = None) -> Iterator[None]:
    """Commit something that was made of many samples, and from which single ones cannot be taken out again.

    Args:
        store: Root of the store.
        seen: The list as it was before the samples were read.
        corpus: The corpus whose list that is; None is the whole list.

    Raises:
        DataError: Something was deleted since.
    """
    with locked_tombstones(store, corpus) as deleted:
        if deleted.digest != seen.digest:
            raise DataError(
                f"samples of the store {str(store)!r} were deleted while this was made of them, and nothing was "
                "written: run the same command again"
            )
        yield


def add_tombstones(store: Path, corpus: str, samples: Iterable[str], speakers: Iterable[str]) -> None:
    """Add to the list, inside `locked_tombstones(store, exclusive=True)`; the same deletion twice is one file.

    Of `speakers`, names of persons, the list gets hashes.
    """
    names = sorted(speakers)
    if names and not key_path(store).is_file():
        with atomic_path(key_path(store)) as temporary:
            temporary.write_text(secrets.token_hex(32), encoding="utf-8")
    hashes = sorted(speaker_key(corpus, name, _read_key(store)) for name in names)
    entry = {"corpus": corpus, "samples": sorted(samples), "speakers": hashes}
    write_json(tombstones_folder(store) / f"{corpus}-{sha256_text(canonical_json(entry))[:16]}.json", entry)

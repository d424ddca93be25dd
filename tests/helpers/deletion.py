"""Deleting a person, and where they are named."""

import pyarrow.parquet as pq

from merloco.features.maintenance.delete import delete
from merloco.features.maintenance.targets import resolve_targets
from merloco.features.store import FeatureStore

KEY = "5a" * 32


GONE = ["meld/train/dia0_utt0", "meld/train/dia0_utt1", "meld/train/dia99_utt4"]


def remove(store: FeatureStore, ids: list[str], speakers: list[str] | None = None) -> None:
    for target in resolve_targets(store, ids, speakers or []):
        delete(store, target)


def files_that_name(store: FeatureStore, words: list[str]) -> list[str]:
    """Files below the store that hold one of the words, inside Parquet as well."""
    found = []
    for path in sorted(p for p in store.root.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = str(pq.read_table(path).to_pylist()).encode()
        if any(word.encode() in content for word in words):
            found.append(str(path.relative_to(store.root)))
    return found


def content(store: FeatureStore) -> dict[str, bytes]:
    return {str(p.relative_to(store.root)): p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}

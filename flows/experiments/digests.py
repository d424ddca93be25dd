"""What a run learns from and is scored on, as hashes of values: the bytes of the files that hold them play no part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from merloco.features.shards.format import shard_values
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.models.fusion.dataset import Dataset
from merloco.pipelines.files.hashing import canonical_json, sha256_text


@dataclass
class DataDigests:
    """Hashes of corpora, each computed once.

    Args:
        store: Where they lie.
    """

    store: FeatureStore
    _rows: dict[tuple[int, str], tuple[Dataset, str]] = field(default_factory=dict)
    _vectors: dict[str, dict[str, str]] = field(default_factory=dict)

    def rows(self, dataset: Dataset, corpus: str) -> str:
        """Hash of a corpus's rows in their order: ids, parts, dialogues, and labels after the map that is used."""
        key = id(dataset), corpus
        if key not in self._rows:
            self._rows[key] = dataset, _rows_digest(dataset, corpus)  # held, so that no other one gets its id
        return self._rows[key][1]

    def vectors(self, view: FeatureView, corpus: str) -> str:
        """Hash of a corpus's pooled vectors in a view, and of the ids that have one."""
        if view.fingerprint not in self._vectors:
            folder = self.store.folder(view)
            shards: dict[str, dict[str, str]] = {}
            for commit in self.store.committed(view):
                shards.setdefault(commit.corpus, {})[commit.shard] = shard_values(folder, commit)
            found = {name: sha256_text(canonical_json(digests)) for name, digests in shards.items()}
            self._vectors[view.fingerprint] = found
        return self._vectors[view.fingerprint][corpus]


def _rows_digest(dataset: Dataset, corpus: str) -> str:
    chosen = dataset.corpus == corpus
    digest = hashlib.sha256("\n".join(dataset.classes).encode())
    for name in Dataset.__slots__:
        column = getattr(dataset, name)
        if isinstance(column, np.ndarray):
            values = column[chosen]
            text = "\n".join(values.tolist()).encode() if values.dtype.kind == "U" else values.tobytes()
            digest.update(f"\n{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()

"""What training works on: rows of all corpora as arrays in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Dataset:
    """Features, labels and what each row belongs to; N rows, K classes."""

    sample_id: np.ndarray
    """(N,) str."""
    corpus: np.ndarray
    """(N,) str."""
    split: np.ndarray
    """(N,) str: train, val, test or none."""
    dialogue: np.ndarray
    """(N,) str."""
    features: dict[str, np.ndarray]
    """Modality, or view where a modality has several -> float32 (N, D); zeros where absent."""
    present: dict[str, np.ndarray]
    """The same keys -> bool (N,)."""
    label: np.ndarray
    """int64 (N,), -1 where the row has no single label."""
    target: np.ndarray
    """float32 (N, K)."""
    mask: np.ndarray
    """bool (N, K): classes that the row's corpus annotates; none where the row has no usable annotation."""
    classes: tuple[str, ...]
    modality_of: Mapping[str, str] = field(default_factory=dict)
    """Key of `features` -> its modality; one that is not here is a modality itself."""

    def select_modalities(self, modalities: Sequence[str]) -> Dataset:
        """The same rows with some keys of their features; nothing is copied."""
        features = {m: self.features[m] for m in modalities if m in self.features}
        return replace(self, features=features, present={m: self.present[m] for m in modalities})

    def by_modality(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Modality -> those of these keys of `features` whose vectors, side by side, are its features."""
        groups: dict[str, tuple[str, ...]] = {}
        for name in names:
            modality = self.modality_of.get(name, name)
            groups[modality] = (*groups.get(modality, ()), name)
        return groups

    def rows(self, corpora: tuple[str, ...], split: str | None, task: str = "single") -> np.ndarray:
        """Indices of the rows of some corpora and one split, or all, that have an annotation and at least one modality.

        Args:
            corpora: Names.
            split: One of train, val, test, none; None takes all.
            task: `single` wants a single label; `multi` any annotation, of no emotion as well.
        """
        annotated = self.label >= 0 if task == "single" else self.mask.any(axis=1)
        usable = np.isin(self.corpus, corpora) & annotated & ((self.split == split) | (split is None))
        return np.flatnonzero(usable & np.any(list(self.present.values()), axis=0))

"""Which rows an epoch shows: every one once, or corpora, or classes within corpora, equally often."""

from __future__ import annotations

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec

SAMPLINGS = ("none", "corpus", "corpus_class")


def row_weights(dataset: Dataset, spec: RunSpec) -> np.ndarray | None:
    """How often each training row is drawn, with replacement, float64 (n,), summing to 1; None: each once.

    `corpus` draws from every corpus as often; `corpus_class` from every class of every corpus.

    Raises:
        ModelError: No such sampling.
    """
    sampling, rows = spec.config.sampling, spec.train_rows
    if sampling == "none":
        return None
    if sampling not in SAMPLINGS:
        raise ModelError(f"unknown sampling {sampling!r}: known: {', '.join(SAMPLINGS)}")
    keys = dataset.corpus[rows].astype(str)
    if sampling == "corpus_class":
        keys = np.char.add(np.char.add(keys, "\n"), dataset.label[rows].astype(str))
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    weights = 1 / sizes[group]
    return np.asarray(weights / weights.sum())

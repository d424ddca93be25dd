"""What training and test have in common beside the label: sentences word for word, and speakers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merloco.features.store import FeatureStore
from merloco.models.fusion.dataset import Dataset
from merloco.models.metrics.evaluation import Evaluation
from merloco.models.metrics.scores import score

WORDS = 4
"""Shorter sentences are everybody's ("Oh my God."), and say nothing of a leak."""
KINDS = ("text", "speaker")


@dataclass
class Overlaps:
    """Sentences and speakers of the samples of a store, read once per corpus.

    Args:
        store: Where they lie.
    """

    store: FeatureStore
    _known: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    def shared(self, dataset: Dataset, train_rows: np.ndarray, tested: Evaluation, task: str) -> dict[str, Any]:
        """How many tested rows say a sentence, or are of a speaker, that is in training too, and the UAR without them.

        Args:
            dataset: All rows.
            train_rows: Indices of those that train.
            tested: What was scored.
            task: `single` has a UAR without them; for several labels at once there are the counts alone.
        """
        found: dict[str, Any] = {}
        for kind in KINDS:
            seen = {key for key in self._keys(dataset, train_rows, kind) if key is not None}
            both = np.array([key in seen for key in self._keys(dataset, tested.rows, kind)], dtype=bool)
            if not both.any():
                continue
            found[kind] = int(both.sum())
            if task == "single" and not both.all():
                mask, truth = dataset.mask[tested.rows][0], dataset.label[tested.rows]
                without = score(truth[~both], tested.prediction[~both], dataset.classes, mask).uar
                found[f"uar_without_{kind}"] = None if np.isnan(without) else without
        return found

    def _keys(self, dataset: Dataset, rows: np.ndarray, kind: str) -> Iterable[str | None]:
        for corpus, name in zip(dataset.corpus[rows].tolist(), dataset.sample_id[rows].tolist(), strict=True):
            yield self._of_corpus(corpus)[kind].get(name)

    def _of_corpus(self, corpus: str) -> dict[str, dict[str, str]]:
        """Kind -> sample id -> what is compared."""
        if corpus not in self._known:
            table = self.store.samples([corpus]).select(["sample_id", "text", "speaker"]).to_pydict()
            texts, speakers = {}, {}
            for name, text, speaker in zip(*table.values(), strict=True):
                words = re.findall(r"\w+", (text or "").casefold())
                if len(words) >= WORDS:
                    texts[name] = " ".join(words)
                if speaker:
                    speakers[name] = f"{corpus}/{speaker}"
            self._known[corpus] = {"text": texts, "speaker": speakers}
        return self._known[corpus]

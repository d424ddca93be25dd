"""Cached features as PyTorch data sets: pooled vectors in memory, or sequences of segments from the tars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from merloco.features.query.streaming import Segments, stream_segments
from merloco.features.store import FeatureStore
from merloco.models.fusion.dataset import Dataset


class PooledDataset(TorchDataset[dict[str, Any]]):
    """One item per row with a label and a modality: `features` and `present` by modality, `label`, `sample_id`.

    Args:
        data: What `Store.dataset` gives.
        corpora: Whose rows.
        split: `train`, `val`, `test` or `none`.
    """

    def __init__(self, data: Dataset, corpora: Sequence[str], split: str) -> None:
        self.data, self.rows = data, data.rows(tuple(corpora), split)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return {
            "features": {m: torch.from_numpy(matrix[row]) for m, matrix in self.data.features.items()},
            "present": {m: bool(there[row]) for m, there in self.data.present.items()},
            "label": int(self.data.label[row]),
            "sample_id": str(self.data.sample_id[row]),
        }


class SegmentDataset(IterableDataset[tuple[Segments, int]]):
    """Sequences of a view with their labels, streamed from the tars; shuffled anew in every pass where there is a seed.

    Args:
        store: The store.
        view: Name of a feature view.
        data: What `Store.dataset` gives: its rows with a label are the ones that are streamed.
        corpora: Whose rows.
        split: `train`, `val`, `test` or `none`.
        seed: Of the order; None takes the order of the shards.
    """

    def __init__(
        self,
        store: FeatureStore,
        view: str,
        data: Dataset,
        corpora: Sequence[str],
        split: str,
        seed: int | None = None,
    ) -> None:
        rows = data.rows(tuple(corpora), split)
        self.store, self.view, self.corpora, self.seed = store, view, tuple(corpora), seed
        self.label_of = dict(zip(data.sample_id[rows].tolist(), data.label[rows].tolist(), strict=True))
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[Segments, int]]:
        epoch, self.passes = self.passes, self.passes + 1
        wanted = self.label_of.keys()
        for item in stream_segments(self.store, self.view, self.corpora, only=wanted, seed=self.seed, epoch=epoch):
            yield item, self.label_of[item.sample_id]


def collate_segments(items: Sequence[tuple[Segments, int]]) -> dict[str, Tensor | list[str]]:
    """Pad sequences to the longest of a batch.

    Returns:
        `segments` float32 (B, longest, D), zeros behind a sequence's end; `mask` bool (B, longest), true where there is
        a segment; `label` int64 (B,); `sample_id`.
    """
    sequences = [torch.from_numpy(np.asarray(item.segments)) for item, _ in items]
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    return {
        "segments": padded,
        "mask": torch.arange(padded.shape[1]) < lengths[:, None],
        "label": torch.tensor([label for _, label in items]),
        "sample_id": [item.sample_id for item, _ in items],
    }

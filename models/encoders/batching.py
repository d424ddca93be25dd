"""Batches whose values do not depend on their make-up: windows of one length together, texts of similar length.

A batch that the device's memory does not hold is halved, and the encoder goes on with the smaller size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from merloco.models.encoders.base import Encoding

WINDOWS, TEXTS, FRAMES, PICTURES = 16, 32, 32, 8
"""Windows, texts, face crops and whole pictures per forward pass on a CPU; do not change a value."""
ON_GPU = 4
"""A GPU takes this many times as many."""

Result = TypeVar("Result")


class BatchSize:
    """How many rows go through a network at once; halved for good when memory runs out.

    Args:
        rows: Rows on a CPU.
        device: Torch device.
    """

    def __init__(self, rows: int, device: str = "cpu") -> None:
        self.rows = rows if device == "cpu" else rows * ON_GPU

    def over(self, rows: Sequence[Any] | np.ndarray, forward: Callable[[Any], Result]) -> Iterator[tuple[Any, Result]]:
        """Call `forward` with slices of `rows`, in order.

        Yields:
            The slice and what `forward` made of it.

        Raises:
            torch.OutOfMemoryError: A single row does not fit.
        """
        import torch

        begin = 0
        while begin < len(rows):
            chosen = rows[begin : begin + self.rows]
            try:
                result = forward(chosen)
            except torch.OutOfMemoryError:
                if len(chosen) == 1:
                    raise
                self.rows = len(chosen) // 2
                torch.cuda.empty_cache()
                continue
            yield chosen, result
            begin += len(chosen)


def encode_windows(
    items: Sequence[np.ndarray],
    forward: Callable[[np.ndarray], np.ndarray],
    dim: int,
    batch: BatchSize,
    shortest: int = 1,
) -> list[Encoding]:
    """Encode windows of sound, only equal lengths together: padding changes the values of group-norm models.

    Args:
        items: float32 (n_windows, n_samples) each; n_samples may differ between items.
        forward: Maps float32 (n, n_samples) to float32 (n, dim).
        dim: Width of a vector.
        batch: Windows per call of `forward`.
        shortest: Samples below which a window has nothing to encode.

    Returns:
        One encoding per item, one vector per window.
    """
    vectors = [np.zeros((len(item), dim), dtype=np.float32) for item in items]
    places: dict[int, list[tuple[int, int]]] = {}
    for number, item in enumerate(items):
        if item.shape[1] >= shortest:
            places.setdefault(item.shape[1], []).extend((number, row) for row in range(len(item)))

    def encode(chosen: Sequence[tuple[int, int]]) -> np.ndarray:
        return forward(np.stack([items[number][row] for number, row in chosen]).astype(np.float32, copy=False))

    for length in sorted(places):
        for chosen, encoded in batch.over(places[length], encode):
            for (number, row), vector in zip(chosen, encoded, strict=True):
                vectors[number][row] = vector
    return [
        Encoding(rows, np.full(len(item), item.shape[1] >= shortest)) for item, rows in zip(items, vectors, strict=True)
    ]


def encode_texts(
    items: Sequence[str], forward: Callable[[list[str]], np.ndarray], dim: int, batch: BatchSize
) -> list[Encoding]:
    """Encode texts, similar lengths together, so that padding costs little; one vector per text.

    Args:
        items: Texts.
        forward: Maps n texts to float32 (n, dim); masks its padding.
        dim: Width of a vector.
        batch: Texts per call of `forward`.
    """
    order = sorted(range(len(items)), key=lambda i: (len(items[i]), i))
    vectors = np.zeros((len(items), dim), dtype=np.float32)
    for chosen, encoded in batch.over(order, lambda chosen: forward([items[i] for i in chosen])):
        vectors[chosen] = encoded
    return [Encoding(vector[None], np.ones(1, dtype=bool)) for vector in vectors]

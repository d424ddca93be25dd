"""Batches whose values do not depend on their make-up: windows of one length together, texts of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.encoders import Encoding

WINDOWS, TEXTS = 16, 32
"""Windows and texts per forward pass; do not change a value."""


def encode_windows(
    items: Sequence[np.ndarray],
    forward: Callable[[np.ndarray], np.ndarray],
    dim: int,
    shortest: int = 1,
    batch: int = WINDOWS,
) -> list[Encoding]:
    """Encode windows of sound, only equal lengths together: padding changes the values of group-norm models.

    Args:
        items: float32 (n_windows, n_samples) each; n_samples may differ between items.
        forward: Maps float32 (n, n_samples) to float32 (n, dim).
        dim: Width of a vector.
        shortest: Samples below which a window has nothing to encode.
        batch: Windows per call of `forward`.

    Returns:
        One encoding per item, one vector per window.
    """
    vectors = [np.zeros((len(item), dim), dtype=np.float32) for item in items]
    places: dict[int, list[tuple[int, int]]] = {}
    for number, item in enumerate(items):
        if item.shape[1] >= shortest:
            places.setdefault(item.shape[1], []).extend((number, row) for row in range(len(item)))
    for length in sorted(places):
        for begin in range(0, len(places[length]), batch):
            chosen = places[length][begin : begin + batch]
            encoded = forward(np.stack([items[number][row] for number, row in chosen]).astype(np.float32, copy=False))
            for (number, row), vector in zip(chosen, encoded, strict=True):
                vectors[number][row] = vector
    return [
        Encoding(rows, np.full(len(item), item.shape[1] >= shortest)) for item, rows in zip(items, vectors, strict=True)
    ]


def encode_texts(
    items: Sequence[str], forward: Callable[[list[str]], np.ndarray], dim: int, batch: int = TEXTS
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
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        vectors[chosen] = forward([items[i] for i in chosen])
    return [Encoding(vector[None], np.ones(1, dtype=bool)) for vector in vectors]

"""Batch sizes: halved when memory runs out, without a trace in the values; precision is part of a view's identity."""

from pathlib import Path

import numpy as np
import pytest
import torch

from merloco.features.extraction.encoder import bisect_failures
from merloco.models.encoders.base import EncoderSpec, registered
from merloco.models.encoders.batching import BatchSize, encode_texts, encode_windows
from merloco.models.errors import ModelError
from merloco.models.faces.crops import encode_frames, whole_frames
from tests.helpers.tiny_models import SENTENCES, photograph, save_roberta, save_speech, save_vit, waves


class Memory:
    """A device that holds so many rows, as a forward pass sees it."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.seen: list[int] = []

    def take(self, rows: int) -> None:
        self.seen.append(rows)
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def describe(self, waves: np.ndarray) -> np.ndarray:
        self.take(len(waves))
        return np.stack([waves.mean(axis=1), waves.std(axis=1)], axis=1)


def test_windows_go_on_with_half_a_batch_and_keep_their_values() -> None:
    items = [waves(1 + i % 3, 800, seed=i) for i in range(20)]
    whole = encode_windows(items, Memory(100).describe, 2, BatchSize(16))
    small, batch = Memory(5), BatchSize(16)
    halved = encode_windows(items, small.describe, 2, batch)
    assert all(np.array_equal(a.vectors, b.vectors) for a, b in zip(whole, halved, strict=True))
    assert small.seen[:4] == [16, 8, 4, 4] and max(small.seen[2:]) == 4 == batch.rows


def test_the_smaller_size_is_remembered() -> None:
    memory, batch = Memory(3), BatchSize(8)
    for _ in range(2):
        encode_texts(["a", "bb", "ccc"] * 4, lambda texts: memory.describe(np.ones((len(texts), 9))), 2, batch)
    assert memory.seen.count(8) == 1


def test_frames_go_on_with_half_a_batch() -> None:
    items = [np.stack([photograph(48)] * 5), np.stack([photograph(48)] * 6)]

    def encode(rows: int) -> list[np.ndarray]:
        memory = Memory(rows)

        def forward(inputs: np.ndarray) -> np.ndarray:
            memory.take(len(inputs))
            return inputs.reshape(len(inputs), -1)[:, :7]

        return encode_frames(
            items, whole_frames(items), lambda crop: crop.transpose(2, 0, 1) / np.float32(255), forward, 7, BatchSize(8)
        )

    assert [v.shape for v in encode(100)] == [(5, 7), (6, 7)]
    assert all(np.array_equal(a, b) for a, b in zip(encode(100), encode(1), strict=True))


def test_a_row_that_never_fits_costs_itself() -> None:
    def encode(items: list[int]) -> list[int]:
        sizes = BatchSize(4)
        return [n for _, part in sizes.over(items, fits) for n in part]

    def fits(rows: list[int]) -> list[int]:
        if sum(rows) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows

    with pytest.raises(torch.OutOfMemoryError):
        encode([1, 500, 2])
    outcome = bisect_failures(encode, [1, 60, 500, 70, 2])
    assert [o for o in outcome if not isinstance(o, Exception)] == [1, 60, 70, 2]
    assert isinstance(outcome[2], torch.OutOfMemoryError)


def test_a_gpu_takes_larger_batches() -> None:
    assert BatchSize(8, "cuda:1").rows > BatchSize(8, "cpu").rows == 8


@pytest.mark.parametrize(
    ("kind", "make", "items", "parameters"),
    [
        ("hf_text", save_roberta, SENTENCES[:3], {}),
        ("hf_audio", save_speech, [waves(2, 16000)], {}),
        ("hf_vision", save_vit, [photograph(64)[None]], {"faces": "none"}),
    ],
)
def test_mixed_precision_is_another_view(
    tmp_path: Path, kind: str, make: object, items: list, parameters: dict
) -> None:
    folder = str(make(tmp_path / "model"))

    def spec(**more: str) -> EncoderSpec:
        return EncoderSpec(kind, folder, parameters={**parameters, **more})

    entry = registered(kind)
    assert entry.identity(spec()) == entry.identity(spec(precision="float32"))
    assert entry.identity(spec()) != entry.identity(spec(precision="bfloat16"))
    full, half = (entry.build(s, "cpu").encode(items) for s in (spec(), spec(precision="bfloat16")))
    difference = max(np.abs(a.vectors - b.vectors).max() for a, b in zip(full, half, strict=True))
    scale = max(np.abs(a.vectors).max() for a in full)
    assert all(b.vectors.dtype == np.float32 for b in half)
    assert 0 < difference < 0.1 * scale
    with pytest.raises(ModelError, match="unknown precision 'int8': known: float32, bfloat16, float16"):
        entry.identity(spec(precision="int8"))

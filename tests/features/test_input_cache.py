"""Encoder inputs on disk: every array comes back as it was, a bad sample costs itself, a killed reader one block."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merloco.features.extraction.input_cache import BLOCK, InputCache, cache_inputs
from merloco.features.extraction.reader import Item
from merloco.pipelines.errors import DataError

N = BLOCK + 6
RECORDS = [{"sample_id": f"c/train/{i:03d}"} for i in range(N)]


def units_of(number: int) -> list[list[np.ndarray]]:
    """0 to 2 units of 1 or 2 arrays of both types."""
    generator = np.random.default_rng(number)
    pictures = [generator.integers(0, 255, (3 + number % 4, 5, 3), dtype=np.uint8) for _ in range(1 + number % 2)]
    return [pictures, [generator.standard_normal(7).astype(np.float32)]][: number % 3]


def read(record: dict[str, Any]) -> Item:
    number = int(record["sample_id"][-3:])
    if number % 10 == 4:
        return Item(record["sample_id"], status="decode_error", error="cut short")
    return Item(record["sample_id"], number)


def cut(values: list[int]) -> list[list[list[np.ndarray]]]:
    return [units_of(value) for value in values]


def fill(folder: Path) -> tuple[InputCache, list[int]]:
    asked: list[int] = []

    def counted(record: dict[str, Any]) -> Item:
        asked.append(int(record["sample_id"][-3:]))
        return read(record)

    return cache_inputs(folder, RECORDS, counted, cut, empty="no_face"), sorted(asked)


def test_every_array_comes_back_at_random(tmp_path: Path) -> None:
    cache, _ = fill(tmp_path)
    expected = [(i, unit) for i in range(N) if i % 10 != 4 for unit in units_of(i)]
    assert len(cache) == len(expected) and cache.sample_index.tolist() == [owner for owner, _ in expected]
    for number in np.random.default_rng(0).permutation(len(cache)):
        arrays = cache[int(number)]
        assert [a.dtype for a in arrays] == [e.dtype for e in expected[number][1]]
        assert all(np.array_equal(a, e) for a, e in zip(arrays, expected[number][1], strict=True))


def test_samples_without_units_keep_their_status(tmp_path: Path) -> None:
    cache, _ = fill(tmp_path)
    assert cache.statuses[4] == "decode_error"
    assert cache.statuses[3] == "no_face" and cache.statuses[1] == "ok"
    assert len(cache.statuses) == N


def test_a_sample_that_breaks_the_encoder_costs_itself(tmp_path: Path) -> None:
    def fragile(values: list[int]) -> list[list[list[np.ndarray]]]:
        if 7 in values:
            raise RuntimeError("a strange picture")
        return cut(values)

    cache = cache_inputs(tmp_path, RECORDS[:20], read, fragile)
    assert cache.statuses[7] == "encode_error"
    assert {s for i, s in enumerate(cache.statuses) if i % 10 != 4 and i % 3 and i != 7} == {"ok"}


def test_what_is_there_is_not_read_again_and_an_unfinished_block_is(tmp_path: Path) -> None:
    first, asked = fill(tmp_path)
    assert asked == list(range(N))
    again, asked = fill(tmp_path)
    assert asked == [] and again.sample_index.tolist() == first.sample_index.tolist()
    (tmp_path / "00001.json").unlink()  # killed between the arrays and their record
    assert fill(tmp_path)[1] == list(range(BLOCK, N))


def test_other_samples_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(DataError, match="holds other samples than expected"):
        cache_inputs(tmp_path, RECORDS[1:], read, cut)

"""Windows and pooling as the paper has them; the exact edge cases are reference/segments.npz."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.extraction.encoder import _row
from merloco.features.extraction.reader import Item
from merloco.features.extraction.segments import audio_windows, bounds, frame_segments, pool, pooled_dim, repeat_to
from merloco.features.views import FeatureView
from merloco.models.encoders.base import EncoderSpec, Encoding


def test_a_tail_shorter_than_one_step_is_dropped_unless_it_is_the_first() -> None:
    assert bounds(63999, 64000, 32000) == [(0, 63999)]
    assert bounds(64000, 64000, 32000) == [(0, 64000), (32000, 64000)]
    assert bounds(95999, 64000, 32000) == [(0, 64000), (32000, 95999)]
    assert bounds(1, 64000, 32000) == [(0, 1)]
    assert bounds(0, 64000, 32000) == []


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 40))
def test_bounds_start_at_zero_in_steps_and_stay_inside(length: int, window: int, step: int) -> None:
    found = bounds(length, window, step)
    assert [start for start, _ in found] == list(range(0, len(found) * step, step))
    assert all(0 < end - start <= window and end <= length for start, end in found)


def test_a_short_segment_repeats_itself() -> None:
    assert repeat_to(np.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    windows = audio_windows(np.arange(10, dtype=np.float32), 8, 4)
    assert windows.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9, 4, 5]]


def test_frames_without_a_face_do_not_reach_the_mean() -> None:
    vectors = np.array([[1.0], [100.0], [3.0]], dtype=np.float32)
    assert frame_segments(vectors, np.array([True, False, True]), 20, 10).tolist() == [[2.0]]


def test_a_window_without_any_face_has_no_segment() -> None:
    vectors = np.ones((20, 2), dtype=np.float32)
    valid = np.arange(20) < 10
    assert len(frame_segments(vectors, valid, 20, 10)) == 1
    assert frame_segments(vectors, np.zeros(20, dtype=bool), 20, 10).shape == (0, 2)


def test_mean_std_is_the_population_std() -> None:
    pooled = pool(np.array([[0.0], [2.0]], dtype=np.float32), "mean_std")
    assert pooled.tolist() == [1.0, 1.0]
    assert pooled.dtype == np.float32


@pytest.mark.parametrize(("pooling", "width"), [("none", 5), ("mean", 5), ("mean_std", 10)])
def test_pooled_dim_is_the_width_of_pool(pooling: str, width: int) -> None:
    assert pooled_dim(5, pooling) == width == len(pool(np.ones((1, 5), dtype=np.float32), pooling))


@pytest.mark.parametrize(("faceless", "segments"), [("keep", [[5.0], [15.0]]), ("drop", [[10.0]])])
def test_frames_without_a_face_are_taken_out_before_windows_where_the_view_says_so(
    faceless: str, segments: list[list[float]]
) -> None:
    vectors = np.arange(20, dtype=np.float32)[:, None]
    valid = np.arange(20) % 2 == 1
    definition = {"modality": "video", "fps": 5.0, "window": 2.0, "step": 2.0, "pooling": "mean"}
    if faceless == "drop":
        definition["faceless_frames"] = "drop"
    view = FeatureView("faces", "video", EncoderSpec("any"), definition)
    row = _row(view, Item("a", np.zeros(1)), Encoding(vectors, valid))
    assert row.segments is not None and row.segments.tolist() == segments

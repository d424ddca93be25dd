"""Numbers for sentiment models: the release's own, whatever its fields are called, or a stated stand-in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.export.regression_labels import POLARITY, regression_labels
from merloco.pipelines.samples.schema import EMOTIONS


def one(native: dict, emotion: str | None = None) -> tuple[str, float | None]:
    name, [value] = regression_labels([native], [emotion])
    return name, value


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ({"Sentiment": "negative"}, ("sentiment", -1.0)),
        ({"Sentiment": " Neutral "}, ("sentiment", 0.0)),
        ({"SENTIMENT": "POSITIVE"}, ("sentiment", 1.0)),
        ({"sentiment": -2.333}, ("sentiment", -2.333)),
        ({"sentiment": "1.5"}, ("sentiment", 1.5)),
        ({"sentiment": 0, "valence": 5.0}, ("sentiment", 0.0)),
        ({"valence": 1.0}, ("valence", -1.0)),
        ({"valence": 3.0}, ("valence", 0.0)),
        ({"Valence": "4"}, ("valence", 0.5)),
        ({"valence": 5.5}, ("valence", 1.0)),
        ({"valence": 0.5}, ("valence", -1.0)),
    ],
)
def test_what_the_release_says(native: dict, expected: tuple) -> None:
    assert one(native, "happy") == expected


@pytest.mark.parametrize(
    "native", [{}, {"sentiment": None}, {"sentiment": "mixed"}, {"sentiment": math.nan}, {"sentiment": True}]
)
def test_the_polarity_of_the_class_stands_in(native: dict) -> None:
    assert one(native, "happy") == ("polarity of the class", 1.0)
    assert one(native, None) == ("polarity of the class", None)


def test_a_valence_on_another_scale_is_not_read_as_one_from_1_to_5() -> None:
    name, values = regression_labels([{"valence": v} for v in (-1.0, 0.5, 1.0)], ["sad", "happy", None])
    assert (name, values) == ("polarity of the class", [-1.0, 1.0, None])


def test_every_shared_class_has_a_polarity() -> None:
    assert set(EMOTIONS) <= set(POLARITY)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.lists(st.dictionaries(st.sampled_from(["sentiment", "Sentiment", "valence", "x"]), VALUES)))
def test_whatever_stands_there_gives_finite_numbers_or_null(natives: list[dict]) -> None:
    _, values = regression_labels(natives, ["happy"] * len(natives))
    assert len(values) == len(natives)
    assert all(value is None or math.isfinite(value) for value in values)

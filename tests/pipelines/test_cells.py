"""Cells as values: what is certain is read, what is not is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.corpora.cells import (
    clock_seconds,
    decimal,
    known_label,
    split_of,
    time_reader,
    unknown_split,
    whole_number,
)


def test_times_have_one_or_two_hour_digits_and_lost_zeros() -> None:
    assert clock_seconds("0:00:01,500") == clock_seconds("00:00:01,500") == 1.5
    assert clock_seconds("00:06:47,28") == pytest.approx(407.028)


@pytest.mark.parametrize(
    "text",
    ["nonsense", "", "16:16", "00:16:60,000", "00:60:00,000", "1:2:3:4", "-0:00:01,000", "13:00:00 AM", "5", "٠:٠٠:٠١"],
)
def test_what_is_no_certain_time_is_none(text: str) -> None:
    assert clock_seconds(text) is None


@given(st.integers(0, 3_599_999))
def test_every_form_of_a_time_reads_as_the_releases(millis: int) -> None:
    minutes, seconds, rest = millis // 60000, millis // 1000 % 60, millis % 1000
    exact = millis / 1000
    for form in (
        f"00:{minutes:02d}:{seconds:02d},{rest:03d}",
        f"0:{minutes:02d}:{seconds:02d}.{rest:03d}",
        f"{minutes}:{seconds:02d}.{rest:03d}",
        f" {minutes:02d}:{seconds:02d},{rest:03d} ",
        f"0 days 00:{minutes:02d}:{seconds:02d}.{rest:03d}000",
        f"12:{minutes:02d}:{seconds:02d}.{rest:03d} AM",
    ):
        assert clock_seconds(form) == pytest.approx(exact, abs=1e-9)
        assert time_reader([form] * 3)[0](form) == pytest.approx(exact, abs=1e-9)


def test_short_fractions_are_decimal_where_a_table_has_many() -> None:
    tenths, _ = time_reader(["16:16.1", "16:17.0", "16:18.5"])
    assert tenths("16:16.1") == pytest.approx(976.1)
    trimmed, _ = time_reader([*["0:16:16.059"] * 9, "0:16:16.5"])
    assert trimmed("0:16:16.5") == 976.5
    lost, _ = time_reader([*["0:16:16.059"] * 99, "0:16:16.28"])
    assert lost("0:16:16.28") == pytest.approx(976.028)
    comma, _ = time_reader([*["0:16:16,059"] * 9, "0:16:16,28"])
    assert comma("0:16:16,28") == pytest.approx(976.028)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        (" 1 ", 1),
        ("1.0", 1),
        ("1,0", 1),
        ("1.000000", 1),
        ("1,000", None),
        ("1.000", None),
        ("01", 1),
        ("1.5", None),
        ("", None),
        ("-1", None),
        ("²", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "comma", "number"),
    [
        ("0.5", False, 0.5),
        ("0,5", True, 0.5),
        ("0,5", False, None),
        ("1_0", False, None),
        ("nan", True, None),
        ("inf", False, None),
    ],
)
def test_decimals(text: str, comma: bool, number: float | None) -> None:
    assert decimal(text, comma) == number


def test_labels_are_those_of_the_known_ones_but_for_case_and_blanks() -> None:
    known = {"joy", "Sad", "SAD"}
    assert known_label(" JOY\u00a0", known) == "joy" and known_label("Sad", known) == "Sad"
    assert known_label("sAd", known) == "sAd"  # of two that differ in case, which one is not certain
    assert known_label(" joyful ", known) == "joyful"


@given(st.text(max_size=12))
def test_any_word_is_a_split_or_is_said(word: str) -> None:
    assert split_of(word) in ("train", "val", "test", None) and "known: train, training" in unknown_split(word)

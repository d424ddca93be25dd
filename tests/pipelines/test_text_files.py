"""Text files as people's editors write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.files.text import decode_text, is_blank

SAID = "Où est le café? You ruined it!"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_letters_survive_every_usual_encoding(encoding: str) -> None:
    assert decode_text(f"  {SAID}\r\n".encode(encoding)) == SAID


def test_one_line_in_another_encoding_costs_the_others_nothing() -> None:
    assert decode_text("Où\n".encode() + "café".encode("cp1252")) == "Où\ncafé"


@pytest.mark.parametrize(
    "raw", [b"", b"  \n\t", b"\xef\xbb\xbf", b"\xff\xfe", " \u200b\u00a0\n".encode(), "\n".encode("utf-16")]
)
def test_a_blank_file_is_none(raw: bytes) -> None:
    assert decode_text(raw) is None


@pytest.mark.parametrize(
    "raw", [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"\x00\x00\x00\x1cftypmp42\x00\x01", b"RIFF\x24\x08\x00\x00WAVE"]
)
def test_media_that_is_called_text_is_none(raw: bytes) -> None:
    assert decode_text(raw) is None


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1))
def test_any_text_is_read_from_utf_8_and_from_marked_utf_16(text: str) -> None:
    expected = None if is_blank(text) else text.strip()
    if not text.startswith("\ufeff"):
        assert decode_text(b"\xef\xbb\xbf" + text.encode()) == expected
        assert decode_text(text.encode("utf-16")) == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_none(raw: bytes) -> None:
    text = decode_text(raw)
    assert text is None or not is_blank(text)

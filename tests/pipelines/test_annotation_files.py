"""Annotation files as lines: one odd byte or quote changes nothing but its own line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.corpora.annotation_files import foreign_content, read_lines
from merloco.pipelines.files.text import decode_lines

TEXT = "a,b\r\nHi,You’re\r\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_line_end_and_the_byte_order_mark_read_the_same(tmp_path: Path, end: bytes, mark: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(mark + end.join([b"a,b", b'1,"x, y"', b"", b"2,z", b""]))
    assert read_lines(path) == ["a,b", '1,"x, y"', "", "2,z", ""]


def test_one_byte_of_another_encoding_leaves_the_other_lines_as_they_are() -> None:
    lines, remarks = decode_lines("You’re late\n".encode() + b"You\x92re late\n")
    assert (lines, remarks) == (["You’re late", "You’re late", ""], ["lines in Windows-1252: 1"])


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-16-le", ""), ("utf-16-be", ""), *((f"utf-{n}-{end}", "\ufeff") for n in (16, 32) for end in ("le", "be"))],
)
def test_utf16_and_utf32_read(encoding: str, mark: str) -> None:
    lines, remarks = decode_lines((mark + TEXT).encode(encoding))
    assert lines == ["a,b", "Hi,You’re", ""]
    assert remarks == [f"in {encoding.upper()}"]


def test_utf8_needs_no_remark() -> None:
    assert decode_lines(TEXT.encode()) == (["a,b", "Hi,You’re", ""], [])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "a spreadsheet or a ZIP archive"),
        (b"\x1f\x8b\x08", "gzip data"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf<HTML>", "a web page"),
        (b" \r\n", "empty"),
        (b"\x00\x01\x02a,b", "zero bytes"),
    ],
)
def test_a_file_that_is_no_table_says_what_it_is(content: bytes, what: str) -> None:
    assert what in str(foreign_content(content))


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", TEXT.encode("utf-16"), TEXT.encode("utf-16-be")])
def test_a_table_is_nothing_else(content: bytes) -> None:
    assert foreign_content(content) is None


@given(st.binary(max_size=300))
def test_any_bytes_read(content: bytes) -> None:
    lines, _ = decode_lines(content)
    assert all(isinstance(line, str) and "\n" not in line for line in lines)

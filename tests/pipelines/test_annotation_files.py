"""Annotation files as lines: one odd byte or quote changes nothing but its own line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merloco.pipelines.corpora.annotation_files import read_lines, read_rows


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_line_end_and_the_byte_order_mark_read_the_same(tmp_path: Path, end: bytes, mark: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(mark + end.join([b"a,b", b'1,"x, y"', b"", b"2,z", b""]))
    header, rows = read_rows(path)
    assert (header, list(rows)) == (["a", "b"], [(2, ["1", "x, y"]), (4, ["2", "z"])])


def test_one_byte_of_another_encoding_leaves_the_other_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("You’re late\n".encode() + b"You\x92re late\n")
    assert read_lines(path) == ["You’re late", "You’re late", ""]


def test_a_stray_quote_costs_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a\n"open\nfine\n')
    _, rows = read_rows(path)
    (first, problem), second = rows
    assert first == 2 and str(problem).startswith("not a CSV row")
    assert second == (3, ["fine"])


@pytest.mark.parametrize("content", [b"", b"\n", b'"', "a,b\r\n1,2".encode("utf-16")])
def test_a_file_without_a_header_has_no_expected_column(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert not {"a", "b"} & set(read_rows(path)[0])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    header, rows = read_rows(path)
    assert all(isinstance(name, str) for name in header)
    assert all(number > 1 for number, _ in rows)

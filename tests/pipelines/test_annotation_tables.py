"""Annotation tables: delimiter, header and quoted line breaks where they are certain; a stray quote costs its row."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.corpora.annotation_tables import AnnotationTable, read_table
from merloco.pipelines.errors import DataError

KNOWN = ("Dialogue_ID", "Text", "Sr No.")


def table(folder: Path, content: str | bytes) -> AnnotationTable:
    path = folder / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, KNOWN)


def rows(folder: Path, content: str | bytes) -> list:
    return list(table(folder, content).rows())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_by_which_the_known_names_are_found(tmp_path: Path, delimiter: str) -> None:
    lines = [["Dialogue_ID", "Text"], ["1", '"a, b; c | d"'], ["2", "e"]]
    found = table(tmp_path, "\n".join(delimiter.join(cells) for cells in lines))
    assert list(found.rows()) == [
        (2, {"Dialogue_ID": "1", "Text": "a, b; c | d"}),
        (3, {"Dialogue_ID": "2", "Text": "e"}),
    ]
    assert bool(found.remarks) == (delimiter != ",")


@pytest.mark.parametrize(
    "header", ["dialogue_id,TEXT", " Dialogue_ID , Text ", '"Dialogue_ID","Text"', "Dialogue ID,text"]
)
def test_case_and_blanks_of_names_do_not_count(tmp_path: Path, header: str) -> None:
    assert rows(tmp_path, f"{header}\n1,a\n") == [(2, {"Dialogue_ID": "1", "Text": "a"})]


@pytest.mark.parametrize(
    "before", ["sep=,\r\n", '"sep=,"\n', "\r\n", "\n \n\n", "MELD train set\n", ",,\n", "\ufeffsep=,\n"]
)
def test_what_stands_above_the_header_is_skipped_and_lines_keep_their_numbers(tmp_path: Path, before: str) -> None:
    found = table(tmp_path, f"{before}Dialogue_ID,Text\n1,a\n")
    number = before.count("\n") + 2
    assert list(found.rows()) == [(number, {"Dialogue_ID": "1", "Text": "a"})]
    assert f"header in line {number - 1}" in found.remarks


def test_a_sep_line_names_a_delimiter_that_is_not_tried_else(tmp_path: Path) -> None:
    assert rows(tmp_path, "sep=^\nDialogue_ID^Text\n1^a\n") == [(3, {"Dialogue_ID": "1", "Text": "a"})]


def test_a_sep_line_that_is_wrong_loses_against_the_header(tmp_path: Path) -> None:
    assert rows(tmp_path, "sep=;\nDialogue_ID,Text\n1,a\n") == [(3, {"Dialogue_ID": "1", "Text": "a"})]


def test_a_quoted_line_break_is_part_of_its_cell_and_the_next_row_keeps_its_number(tmp_path: Path) -> None:
    content = 'Dialogue_ID,Text\r\n1,"one,\r\n\r\ntwo ""x"""\r\n2,b\r\n'
    assert rows(tmp_path, content) == [
        (2, {"Dialogue_ID": "1", "Text": 'one,\n\ntwo "x"'}),
        (5, {"Dialogue_ID": "2", "Text": "b"}),
    ]


@pytest.mark.parametrize("stray", ['1,"open', '"1,open', '1,"open "x"', '"', '1,"a""'])
def test_a_stray_quote_costs_its_own_line(tmp_path: Path, stray: str) -> None:
    first, *others = rows(tmp_path, f'Dialogue_ID,Text\n{stray}\n2,b\n3,"c"\n4,d\n')
    assert first[0] == 2 and str(first[1]).startswith("not a CSV row")
    assert [cells["Text"] for _, cells in others] == ["b", "c", "d"]


def test_a_stray_quote_in_the_last_line_and_above_another_one(tmp_path: Path) -> None:
    found = rows(tmp_path, 'Dialogue_ID,Text\n1,"open\n2,b\n3,"open')
    assert [isinstance(cells, str) for _, cells in found] == [True, False, True]


def test_rows_without_a_value_are_no_rows_and_are_counted(tmp_path: Path) -> None:
    found = table(tmp_path, "Dialogue_ID,Text,,\n1,a,,\n,,,\n, ,,\n")
    assert list(found.rows()) == [(2, {"Dialogue_ID": "1", "Text": "a"})]
    assert "rows without a value: 2" in found.remarks


def test_a_row_of_another_width_says_how_many_cells_it_has(tmp_path: Path) -> None:
    assert rows(tmp_path, "Dialogue_ID,Text\n1,a,b\n2\n") == [(2, "3 cells; expected 2"), (3, "1 cells; expected 2")]


@pytest.mark.parametrize("second", ["Text", "text", " Text "])
def test_a_column_that_stands_twice_is_an_error_with_file_line_and_places(tmp_path: Path, second: str) -> None:
    found = table(tmp_path, f"\nDialogue_ID,Text,{second}\n")
    with pytest.raises(DataError, match=r"^a\.csv:2: column 'Text' stands twice \(2 and 3\): expected it once$"):
        found.require(["Text"])


def test_columns_that_nobody_knows_may_stand_twice_or_have_no_name(tmp_path: Path) -> None:
    found = table(tmp_path, "Dialogue_ID,x,x,,Text\n1,a,b,c,d\n")
    found.require(["Text"])
    ((_, cells),) = found.rows()
    assert cells == {"Dialogue_ID": "1", "x": "a", "x (column 3)": "b", "(column 4)": "c", "Text": "d"}


def test_a_missing_column_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^a\.csv: column 'Text' is missing: .*separated by ';' in line 1: Dialogue_ID, x"
    ):
        table(tmp_path, "Dialogue_ID;x\n1;2\n").require(["Dialogue_ID", "Text"])


@pytest.mark.parametrize("content", [b"", b"\n", b'"', b"PK\x03\x04", b"\x00\x01", b"<html>"])
def test_a_file_without_a_header_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    found = table(tmp_path, content)
    with pytest.raises(DataError, match=r"^a\.csv: "):
        found.require(["Text"])
    assert isinstance(list(found.rows()), list)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)


@settings(max_examples=150)
@given(
    cells=st.lists(st.tuples(st.integers(0, 99).map(str), CELL, CELL), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_reads_back(
    tmp_path: Path, cells: list, delimiter: str, encoding: str, end: str
) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([KNOWN, *cells])
    found = rows(tmp_path, sink.getvalue().encode(encoding))
    assert [tuple(row.values()) for _, row in found] == cells


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_read(tmp_path: Path, content: bytes) -> None:
    found = table(tmp_path, content)
    assert len(set(found.columns)) == len(found.columns)
    assert all(number > 0 for number, _ in found.rows())

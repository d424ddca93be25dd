"""MELD's CSVs as spreadsheets and scripts leave them: the samples of the release's form, and what the audit says."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.corpora.meld import COLUMNS, REQUIRED
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.audit import Audit
from merloco.pipelines.samples.ingest import ingest_corpus
from tests.helpers.meld_release import release, row
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("meld")
EMOTIONS = ("joy", "anger", "neutral", "sadness", "surprise", "fear", "disgust")
AT = {name: position for position, name in enumerate(COLUMNS)}
Table = list[list[str]]


def clock(seconds: float) -> str:
    millis = round(1000 * seconds)
    return f"{millis // 3600000:02d}:{millis // 60000 % 60:02d}:{millis // 1000 % 60:02d},{millis % 1000:03d}"


def rows(n: int = 14) -> Table:
    return [
        row(
            i + 1,
            i // 4,
            i % 4,
            f"line {i}, “said”",
            EMOTIONS[i % 7],
            Speaker=f"S{i % 3}",
            StartTime=clock(960.059 + 4 * i),
            EndTime=clock(962.5 + 4.1 * i),
        )
        for i in range(n)
    ]


def written(table: Table, delimiter: str = ",") -> str:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter).writerows([list(COLUMNS), *table])
    return sink.getvalue()


def parsed_from(root: Path, content: bytes | str) -> Parsed:
    release(root)
    (root / "train_sent_emo.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return parse_corpus("meld", ENTRY, root)


def train(parsed: Parsed) -> list:
    return [sample for sample in parsed.samples if sample.split == "train"]


def said(parsed: Parsed) -> str:
    return "\n".join(note for note in parsed.notes if note.startswith("train_sent_emo.csv: "))


def each(column: str, edit: Callable[[str], str]) -> str:
    table = rows()
    for cells in table:
        cells[AT[column]] = edit(cells[AT[column]])
    return written(table)


def headed(content: str, edit: Callable[[str], str]) -> str:
    head, _, rest = content.partition("\r\n")
    return f"{edit(head)}\r\n{rest}"


PLAIN = written(rows())
SAME = {
    "semicolon": (written(rows(), ";"), "separated by ';'"),
    "tab": (written(rows(), "\t"), "separated by tabs"),
    "bar": (written(rows(), "|"), "separated by '|'"),
    "utf-8-sig": (PLAIN.encode("utf-8-sig"), "begins with a byte order mark"),
    "utf-16": (PLAIN.encode("utf-16"), "in UTF-16-LE"),
    "utf-16 without a mark": (PLAIN.encode("utf-16-be"), "in UTF-16-BE"),
    "utf-16 with tabs": (written(rows(), "\t").encode("utf-16"), "in UTF-16-LE; separated by tabs"),
    "windows-1252": (PLAIN.encode("cp1252"), "lines in Windows-1252: 14"),
    "sep line": (f"sep=,\r\n{PLAIN}", "a line sep= skipped; header in line 2"),
    "sep line and semicolon": (f"sep=;\r\n{written(rows(), ';')}", "separated by ';'; a line sep= skipped"),
    "blank line first": (f"\r\n{PLAIN}", "header in line 2"),
    "title first": (f"MELD,,,\r\n{PLAIN}", "header in line 2"),
    "lower header": (headed(PLAIN, str.lower), "columns in another spelling (sr no., utterance"),
    "blanks in the header": (headed(PLAIN, lambda head: head.replace(",", " , ")), ""),
    "spaces for underscores": (headed(PLAIN, lambda head: head.replace("_", " ")), "columns in another spelling"),
    "capital labels": (each("Emotion", str.capitalize), "labels in another spelling: 14 (first: 'Joy' taken as 'joy')"),
    "blanks around labels": (each("Emotion", lambda e: f" {e} "), "labels in another spelling: 14"),
    "float ids": (each("Dialogue_ID", lambda i: f"{i}.0"), "ids taken as whole numbers: 14 (first: '0.0')"),
    "blanks around ids": (each("Utterance_ID", lambda i: f" {i} "), "ids taken as whole numbers: 14 (first: ' 0 ')"),
    "empty columns behind": (PLAIN.replace("\r\n", ",,\r\n"), ""),
    "empty rows": (PLAIN + ",,,,,,,,,,\r\n" * 3, "rows without a value: 3"),
    "dots in times": (each("StartTime", lambda t: t.replace(",", ".")), "times such as 00:16:00.059"),
    "times without hours": (each("StartTime", lambda t: t[3:].replace(",", ".")), "times such as 16:00.059"),
    "timedeltas": (
        each("StartTime", lambda t: f"0 days {t.replace(',', '.')}000"),
        "times such as 0 days 00:16:00.059000",
    ),
    "clock with AM": (each("StartTime", lambda t: f"12{t[2:].replace(',', '.')} AM"), "times such as 12:16:00.059 AM"),
}


@pytest.mark.parametrize("case", SAME)
def test_another_form_of_the_table_gives_the_same_samples_and_a_note(tmp_path: Path, case: str) -> None:
    content, note = SAME[case]
    plain, other = parsed_from(tmp_path / "plain", PLAIN), parsed_from(tmp_path / "other", content)
    assert other.errors == []
    times = ("StartTime", "EndTime")
    natives = [{name: value for name, value in s.native.items() if name not in times} for s in train(other)]
    assert [{n: v for n, v in s.native.items() if n not in times} for s in train(plain)] == natives
    names = ("sample_id", "label", "text", "speaker", "dialogue", "turn", "start", "end", "duration", "marks")
    assert [[getattr(s, n) for n in names] for s in train(other)] == [
        [getattr(s, n) for n in names] for s in train(plain)
    ]
    assert note in said(other) and said(plain) == ""


@pytest.mark.parametrize("column", sorted(set(COLUMNS) - set(REQUIRED)))
def test_a_column_that_nothing_uses_may_be_missing(tmp_path: Path, column: str) -> None:
    keep = [AT[name] for name in COLUMNS if name != column]
    sink = io.StringIO()
    csv.writer(sink).writerows([[cells[at] for at in keep] for cells in [list(COLUMNS), *rows()]])
    samples = train(parsed_from(tmp_path, sink.getvalue()))
    assert len(samples) == 14 and all(column not in s.native and len(s.native) == 8 for s in samples)


@pytest.mark.parametrize("column", REQUIRED)
def test_a_column_that_is_used_is_missed_by_name(tmp_path: Path, column: str) -> None:
    with pytest.raises(
        DataError, match=rf"^train_sent_emo\.csv: column '{column}' is missing: expected the columns Utt"
    ):
        parsed_from(tmp_path, headed(PLAIN, lambda head: head.replace(column, "Other")))


@pytest.mark.parametrize("name", ["Emotion", "emotion", " Emotion ", "Speaker", "Utterance ID"])
def test_a_column_twice_is_an_error(tmp_path: Path, name: str) -> None:
    content = "".join(f"{line},{name if i == 0 else 'neutral'}\n" for i, line in enumerate(PLAIN.splitlines()))
    with pytest.raises(DataError, match=r"^train_sent_emo\.csv:1: column '.*' stands twice \(\d+ and 12\)"):
        parsed_from(tmp_path, content)


def test_a_quoted_line_break_is_read(tmp_path: Path) -> None:
    table = rows()
    table[2][AT["Utterance"]] = "First line,\nsecond line"
    parsed = parsed_from(tmp_path, written(table))
    assert parsed.errors == [] and train(parsed)[2].text == "First line, second line"
    assert "rows with quoted line breaks: 1" in said(parsed)


def test_a_quote_that_is_not_closed_costs_its_row(tmp_path: Path) -> None:
    lines = PLAIN.split("\r\n")
    lines[3] = lines[3].replace('“said”"', "“said”", 1)
    parsed = parsed_from(tmp_path, "\r\n".join(lines))
    assert [(e.code, e.line) for e in parsed.errors] == [("bad_row", 4)] and len(train(parsed)) == 13


def test_a_comma_in_text_without_quotes_costs_its_row(tmp_path: Path) -> None:
    lines = PLAIN.split("\r\n")
    lines[3] = lines[3].replace('"line 2, “said”"', "line 2, “said”")
    assert [(e.line, e.message) for e in parsed_from(tmp_path, "\r\n".join(lines)).errors] == [
        (4, "12 cells; expected 11")
    ]


def test_a_time_that_is_not_certain_is_a_line_of_the_audit_and_the_row_stays(tmp_path: Path) -> None:
    parsed = parsed_from(tmp_path, each("StartTime", lambda t: t[3:8]))
    assert len(train(parsed)) == 14 and {s.start for s in train(parsed)} == {None}
    assert [e.code for e in parsed.damaged] == ["bad_time"] * 14 and parsed.left_out == []
    assert parsed.damaged[0].message == "StartTime is '16:00'; expected a time such as 00:16:16,059"


def test_fractions_of_a_day_and_plain_seconds_are_times(tmp_path: Path) -> None:
    def both(edit: Callable[[float], str]) -> str:
        table = rows()
        for i, cells in enumerate(table):
            cells[AT["StartTime"]], cells[AT["EndTime"]] = edit(960.059 + 4 * i), edit(962.5 + 4.1 * i)
        return written(table)

    plain = parsed_from(tmp_path / "plain", PLAIN)
    for name, edit in (("days", lambda s: f"{s / 86400:.12f}"), ("seconds", lambda s: f"{s:.3f}")):
        other = parsed_from(tmp_path / name, both(edit))
        assert [(s.start, s.end) for s in train(other)] == [(s.start, s.end) for s in train(plain)]
        assert "times as" in said(other)
    with pytest.raises(DataError, match=r"^train_sent_emo\.csv:2: .* s apart, .*they look like milliseconds"):
        parsed_from(tmp_path / "ms", both(lambda s: f"{1000 * s:.0f}"))


def test_one_digit_behind_the_comma_is_a_tenth_where_most_times_have_one(tmp_path: Path) -> None:
    table = rows()
    for cells in table:
        for column in ("StartTime", "EndTime"):
            cells[AT[column]] = cells[AT[column]][:-2]
    parsed = parsed_from(tmp_path, written(table))
    assert train(parsed)[1].end == 966.6 and "a decimal fraction behind the comma" in said(parsed)


def test_ends_before_starts_are_an_error(tmp_path: Path) -> None:
    swapped = headed(PLAIN, lambda head: head.replace("StartTime,EndTime", "EndTime,StartTime"))
    with pytest.raises(DataError, match=r"csv:2: EndTime lies before StartTime in 14 of 14 rows: .*swapped"):
        parsed_from(tmp_path, swapped)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04", "spreadsheet"),
        (b"", "empty"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs", "LFS"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=rf"^train_sent_emo\.csv: the file is .*{what}.*expected the columns Utterance"):
        parsed_from(tmp_path, content)


def ingested(root: Path, content: str) -> Audit:
    release(root)
    (root / "train_sent_emo.csv").write_text(content)
    return ingest_corpus("meld", ENTRY, root, root / "store")


def test_an_unknown_label_names_file_line_and_the_known_ones(tmp_path: Path) -> None:
    table = rows()
    for line in (3, 5):
        table[line][AT["Emotion"]] = "hapiness"
    with pytest.raises(
        DataError, match=r"train_sent_emo\.csv:5: unknown label 'hapiness' \(in 2 rows\): .*known: anger"
    ):
        ingested(tmp_path, written(table))


def test_columns_that_say_nothing_are_findings(tmp_path: Path) -> None:
    table = rows()
    for cells in table:
        cells[AT["StartTime"]] = cells[AT["EndTime"]] = ""
        cells[AT["Emotion"]], cells[AT["Speaker"]] = "neutral", "Ann"
    release(tmp_path)
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}_sent_emo.csv").write_text(written(table))
    audit = ingest_corpus("meld", ENTRY, tmp_path, tmp_path / "store")
    found = {(f["code"], f["column"], f["value"]) for f in audit.findings}
    assert found == {
        ("all_null", "start", None),
        ("all_null", "end", None),
        ("all_null", "duration", None),
        ("one_value", "label", "neutral"),
        ("one_value", "speaker", "Ann"),
    }


def test_a_part_of_the_release_is_said_in_one_line(tmp_path: Path) -> None:
    audit = ingested(tmp_path, PLAIN)
    assert audit.findings == [] and audit.total == "16 of the release's 13,708 utterances"
    assert all(note.startswith("catalog: ") for note in audit.notes), "clips known to be bad are of the whole release"

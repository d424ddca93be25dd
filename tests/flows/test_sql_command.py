"""`merloco sql` at a terminal and in a pipe: every format, every type, every form of a query, rows without end."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from merloco.features.store import FeatureStore
from merloco.flows.cli.console import MAX_ROWS
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import CATALOG, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"), n=40)


def run(store: FeatureStore, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "merloco.flows.cli.app", "sql", *arguments]
    places = ["--store", str(store.root), "--catalog", str(CATALOG)]
    return subprocess.run([*words, *places], input=(given or "").encode(), capture_output=True, check=False)


def records(capsys: pytest.CaptureFixture, store: FeatureStore, query: str, output: str) -> list[dict]:
    code, out, err = merloco(capsys, store, "sql", query, "--format", output)
    assert code == 0, err

    def refuse(word: str) -> None:
        raise AssertionError(word)

    if output == "csv":
        return list(csv.DictReader(io.StringIO(out, newline="")))
    lines = out.splitlines() if output == "jsonl" else [out]
    values = [json.loads(line, parse_constant=refuse) for line in lines]
    return values if output == "jsonl" else values[0]


ALL_TYPES = "from test_all_types()"


def test_every_type_is_valid_json_and_both_forms_agree(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    rows = records(capsys, store, ALL_TYPES, "json")
    assert rows == records(capsys, store, ALL_TYPES, "jsonl") and len(rows) == 3
    low, high, nothing = rows
    assert set(nothing.values()) == {None}
    assert high["hugeint"] == 2**127 - 1 and high["uhugeint"] == str(2**128 - 1) and high["ubigint"] == 2**64 - 1
    assert (low["date"], high["time"], high["time_tz"]) == ("5877642-06-25 (BC)", "24:00:00", "24:00:00-15:59:59")
    assert high["timestamp_ns"] == "2262-04-11 23:47:16.854775806" and high["bit"] == "10101"
    assert (low["map"], high["map"]) == ({}, {"key1": "🦆🦆🦆🦆🦆🦆", "key2": "goose"})
    assert high["double_array"] == [42.0, None, "Infinity", "-Infinity", None, -42.0]
    assert high["date_array"][1:3] == ["infinity", "-infinity"] and high["varchar"] == "goo\0se"
    assert high["interval"] == "83 years 3 months 999 days 00:16:39.999999" and low["union"] == "Frank"
    assert high["dec_9_4"] == 99999.9999 and high["struct"] == {"a": 42, "b": "🦆🦆🦆🦆🦆🦆"}


def test_every_type_is_a_cell_of_csv_and_a_table(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    low, high, nothing = records(capsys, store, ALL_TYPES, "csv")
    assert set(nothing.values()) == {""} and high["hugeint"] == str(2**127 - 1) and low["dec38_10"].startswith("-9999")
    assert json.loads(high["struct_of_arrays"])["a"] == [42, 999, None, None, -42] and low["date"].endswith("(BC)")
    code, out, err = merloco(capsys, store, "sql", ALL_TYPES)
    assert (code, err, len(out.splitlines())) == (0, "", 5) and "infinity" in out and "\0" not in out


def test_every_type_is_a_column_of_parquet(store: FeatureStore) -> None:
    done = run(store, ALL_TYPES, "--format", "parquet")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(io.BytesIO(done.stdout))
    high = {name: table[name][1] for name in table.column_names}
    assert int(high["hugeint"].as_py()) == 2**127 - 1 and high["uhugeint"].as_py() == str(2**128 - 1)
    assert str(table.schema.field("timestamp").type) == "timestamp[us]" and high["blob"].as_py() == b"\0\0\0a"
    assert high["interval"].as_py() == "83 years 3 months 999 days 00:16:39.999999" and high["bit"].as_py() == "10101"


NESTED = """
    select {'day': date '2024-01-31', 'all': [timestamp '2024-01-31 10:00:00']} as s, map {date '2024-01-31': 1} as m,
           [1.50::decimal(4,2), null] as d, [[]] as e, {'x': 'nan'::double} as n, map {} as none, null as v
"""
PLAIN = {
    "s": {"day": "2024-01-31", "all": ["2024-01-31 10:00:00"]},
    "m": {"2024-01-31": 1},
    "d": [1.5, None],
    "e": [[]],
    "n": {"x": None},
    "none": {},
    "v": None,
}


@pytest.mark.parametrize("output", ["json", "jsonl", "csv"])
def test_what_is_nested_is_json_in_every_format(
    capsys: pytest.CaptureFixture, store: FeatureStore, output: str
) -> None:
    (row,) = records(capsys, store, NESTED, output)
    assert (row if output != "csv" else {k: json.loads(v) if v else None for k, v in row.items()}) == PLAIN


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "parquet", "table"])
def test_two_columns_of_one_name_keep_their_values(
    capsys: pytest.CaptureFixture, store: FeatureStore, output: str
) -> None:
    query = "select 1 as a, date '2024-01-31' as a, [2] as A"
    if output == "parquet":
        table = pq.read_table(io.BytesIO(run(store, query, "--format", output).stdout))
        assert table.column_names == ["a", "a_1", "A_2"] and table["A_2"].to_pylist() == [[2]]
    elif output == "table":
        assert merloco(capsys, store, "sql", query)[1].split() == [
            *("a", "a_1", "A_2", "-", "----------", "---", "1", "2024-01-31", "[2]")
        ]
    else:
        (row,) = records(capsys, store, query, output)
        assert [str(v) for v in row.values()] == ["1", "2024-01-31", "[2]"] and list(row) == ["a", "a_1", "A_2"]


def test_a_cell_of_csv_may_hold_any_sign(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    query = (
        r"""select 'a,"b"' as a, E'c\rd' as b, E'e\nf' as c, ' g ' as d, 'infinity'::double as i, 'nan'::double as n"""
    )
    (row,) = records(capsys, store, query, "csv")
    assert list(row.values()) == ['a,"b"', "c\rd", "e\nf", " g ", "Infinity", ""]


def test_a_printed_table_ends_at_a_thousand_rows_and_says_so(
    capsys: pytest.CaptureFixture, store: FeatureStore
) -> None:
    code, out, err = merloco(capsys, store, "sql", f"select i from range({MAX_ROWS}) t(i)")
    assert (code, len(out.splitlines()), err) == (0, MAX_ROWS + 2, "")
    code, out, err = merloco(capsys, store, "sql", "select i from range(1000000000000) t(i)")
    assert (code, len(out.splitlines())) == (0, MAX_ROWS + 2)
    assert "only the first 1,000 rows are printed: --format csv" in err
    out = merloco(capsys, store, "sql", f"select i from range({MAX_ROWS + 1}) t(i)", "--format", "jsonl")[1]
    assert len(out.splitlines()) == MAX_ROWS + 1


@pytest.mark.parametrize(
    "query",
    [
        "-- a comment\nselect 1 as a",
        "--a comment\nselect 1 as a",
        "--\nselect 1 as a",
        "\nselect 1 as a;",
        "select 1 as a ;;",
    ],
)
def test_a_query_may_begin_with_a_comment(capsys: pytest.CaptureFixture, store: FeatureStore, query: str) -> None:
    assert records(capsys, store, query, "json") == [{"a": 1}]


def test_an_option_is_still_an_option(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    code, _, err = merloco(capsys, store, "sql", "--nonsense")
    assert code == 2 and "No such option: --nonsense" in err
    code, _, err = merloco(capsys, store, "sql", "-- only words")
    assert code == 1 and "gives no rows: expected a query" in err


def test_a_query_is_read_from_standard_input(store: FeatureStore) -> None:
    done = run(store, "-", "--format", "csv", given="-- a file\nselect count(*) as n\nfrom samples;\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"n\n40\n", b"")
    assert b"gives no rows: expected a query" in run(store, "-").stderr


def test_signs_that_would_steer_a_terminal_are_escaped(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    out = merloco(capsys, store, "sql", r"select E'\x1b[31mred' as a")[1]
    assert "\x1b" not in out and r"\x1b[31mred" in out


@pytest.mark.parametrize("value", ["1e300", "-1e-300", "12345678901234.5678", "99999999999999999999"])
def test_a_number_of_any_size_has_a_narrow_cell(capsys: pytest.CaptureFixture, store: FeatureStore, value: str) -> None:
    assert len(merloco(capsys, store, "sql", f"select {value} as a")[1].splitlines()[2]) < 30


def growth(store: FeatureStore, query: str, output: str) -> int:
    """MiB by which a process grows over a query, whose rows go nowhere."""
    code = f"""
import os, resource, sys
from merloco.flows.cli import app
def run(*words):
    sys.argv = ["merloco", "sql", *words, "--store", {str(store.root)!r}, "--catalog", {str(CATALOG)!r}]
    try: app.main()
    except SystemExit as end: assert not end.code, end.code
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = run("from samples", "--format", {output!r})
print((run({query!r}, "--format", {output!r}) - before) // 1024, file=sys.stderr)
"""
    with open(os.devnull, "wb") as nowhere:
        done = subprocess.run([sys.executable, "-c", code], stdout=nowhere, stderr=subprocess.PIPE, check=True)
    return int(done.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("output", "most"), [("csv", 100), ("jsonl", 100), ("parquet", 300)])
def test_a_cross_join_of_three_million_rows_takes_no_memory(tmp_path: Path, output: str, most: int) -> None:
    store = make_store(tmp_path, n=1750, extracted=False)
    query = "select a.sample_id, b.sample_id, a.text, b.text from samples a, samples b"
    assert growth(store, query, output) < most

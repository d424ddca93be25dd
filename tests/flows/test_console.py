"""Printed tables are aligned, and machine-readable formats lose nothing."""

import csv
import io
import json

import pyarrow as pa
import pytest

from merloco.flows.cli.console import show

TABLE = pa.table({"name": ["a", "long " * 40], "n": [1, 20000], "share": [0.51234, None], "v": [[1.0, 2.0], []]})


def test_numbers_stand_to_the_right_and_long_text_is_cut(capsys: pytest.CaptureFixture) -> None:
    show(TABLE)
    head, rule, first, second = capsys.readouterr().out.splitlines()
    assert head.index(" n") and rule.startswith("---")
    assert first.split() == ["a", "1", "0.512", "[1.0,", "2.0]"]
    assert "…" in second and "20,000" in second and " - " in second
    assert first.index("1  0.5") == second.index("20,000") + len("20,000") - 1


def test_long_text_is_whole_where_the_table_is_narrow(capsys: pytest.CaptureFixture) -> None:
    show(pa.table({"code": ["shared_text"], "message": ["words " * 20]}))
    assert capsys.readouterr().out.splitlines()[2] == "shared_text  " + ("words " * 20).strip()


def test_csv_and_json_hold_the_whole_value(capsys: pytest.CaptureFixture) -> None:
    show(TABLE, "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[1]["name"] == "long " * 40 and json.loads(rows[0]["v"]) == [1.0, 2.0]
    show(TABLE, "json")
    assert json.loads(capsys.readouterr().out)[1]["share"] is None

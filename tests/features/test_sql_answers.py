"""Answers of SQL: all views can be listed, rows come in batches, every type is kept or text, a query can be ended."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.query import views
from merloco.features.query.portable import NUMBERS, PARQUET, portable_type
from merloco.features.query.sql import BATCH, stream
from merloco.features.query.views import ViewWarning, view_names
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.store_files import make_store, meld_samples


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"), n=40)


def answer(store: FeatureStore, query: str, kept: frozenset[str] = NUMBERS) -> list[dict]:
    return pa.Table.from_batches(list(stream(store, query, kept))).to_pylist()


@pytest.mark.parametrize(
    "query",
    [
        "show tables",
        "SHOW ALL TABLES",
        "describe",
        "select table_name as name from information_schema.tables",
        "select view_name as name from duckdb_views() where not internal",
        "select distinct table_name as name from information_schema.columns",
    ],
)
def test_listings_name_every_view(store: FeatureStore, query: str) -> None:
    assert {row["name"] for row in answer(store, query)} == set(view_names(store))


def test_listings_know_the_columns(store: FeatureStore) -> None:
    query = "select column_name, data_type from information_schema.columns where table_name = 'minilm'"
    columns = {row["column_name"]: row["data_type"] for row in answer(store, query)}
    assert columns == {row["column_name"]: row["column_type"] for row in answer(store, "describe minilm")}
    assert columns["pooled"] == "FLOAT[3]"


@pytest.mark.parametrize(
    "query",
    [
        "describe samples",
        "show samples",
        "summarize samples",
        "from samples",
        "table samples",
        "with x as (from samples) from x",
        "values (1), (2)",
        "(select 1)",
        "pivot samples on split using count(*)",
        "unpivot (select 1 as a, 2 as b) on a, b",
        "explain select 1",
        "\n\n  select 1 ; ;\n",
        "-- all\nselect 1;",
        "/* all */ select 1",
        "select 'é'; -- done",
        "select 1 /* a ; */ -- ;\n; -- done;",
    ],
)
def test_every_form_of_a_query_has_rows(store: FeatureStore, query: str) -> None:
    assert answer(store, query)


def test_a_view_that_is_broken_does_not_hide_the_others_from_a_listing(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=5, extracted=False)
    bad = replace(meld_samples(1)[0], label="hapy")
    write_parquet(samples_path(tmp_path, "meld"), to_table([bad]))
    with pytest.warns(ViewWarning, match="view labels is left out: .*unknown label 'hapy'"):
        names = {row["name"] for row in answer(store, "show tables")}
    assert names == set(view_names(store)) - {"labels"}


def test_a_view_whose_name_has_a_hyphen_is_found(store: FeatureStore) -> None:
    views_ = {**store.catalog.views, "mini-lm": store.catalog.views["minilm"]}
    other = FeatureStore(store.root, store.catalog.model_copy(update={"views": views_}))
    assert answer(other, 'select count(*) as n from "mini-lm"') == [{"n": 0}]


def test_rows_come_in_batches_in_their_order(store: FeatureStore) -> None:
    batches = list(stream(store, "select i from range(10000) t(i)", NUMBERS))
    assert [v for batch in batches for v in batch["i"].to_pylist()] == list(range(10000))
    assert len(batches) > 3 and max(batch.num_rows for batch in batches) <= 2 * BATCH


def test_the_names_of_an_answer_without_rows_are_known(store: FeatureStore) -> None:
    (batch,) = stream(store, "select 1 as a, 2 as a where false", NUMBERS)
    assert batch.schema.names == ["a", "a_1"] and batch.num_rows == 0


def test_what_goes_wrong_after_many_rows_is_one_sentence(store: FeatureStore) -> None:
    query = "select case when i = 99999 then 'x' else '1' end::int as a from range(100000) t(i)"
    with pytest.raises(DataError, match="SQL: Conversion Error: Could not convert string 'x'") as error:
        list(stream(store, query, NUMBERS))
    assert "\n" not in str(error.value)


def test_memory_has_a_limit_and_what_is_beyond_goes_to_a_private_folder_that_vanishes(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = answer(store, "select current_setting('memory_limit') as m, current_setting('temp_directory') as t")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    number, unit = row["m"].split()
    assert float(number) * {"MiB": 2**-10, "GiB": 1, "TiB": 2**10}[unit] <= memory / 2 + 0.1
    parent = Path(row["t"]).parent
    assert parent.stat().st_mode & 0o077 == 0 and not Path(row["t"]).exists()
    monkeypatch.setattr(views, "MEMORY_SHARE", "100MB")
    query = "select i, md5(i::varchar) as h from range(2000000) t(i) order by h"
    batches = stream(store, query, NUMBERS)
    next(batches)
    first = next(batches)
    assert any(parent.rglob("*.tmp")), "2 million rows are sorted in 100 MB on disk"
    rows = first.num_rows + sum(batch.num_rows for batch in batches)
    del batches
    assert rows == 2_000_000 and not list(parent.iterdir())


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) from range(1000000000) a, range(1000000000) b where a.range * b.range % 7 = 3",
        "select 1 from range(1000000000) a, range(1000000000) b where hash(a.range + b.range) % 70000000000 = 3",
    ],
)
@pytest.mark.parametrize("delay", [0, 0.002, 0.005, 0.02, 0.5])
def test_ctrl_c_ends_a_query_without_rows(store: FeatureStore, query: str, delay: float) -> None:
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        batches = stream(store, query, NUMBERS)
        timer.start()
        list(batches)


def test_types_that_a_format_loses_are_text(store: FeatureStore) -> None:
    query = """
        select timetz '10:00:00+02' as tz, 340282366920938463463374607431768211455::uhugeint as u,
               interval '1 month 2 days' as i, 'infinity'::date as d, '101'::bit as b, union_value(k := 5) as k
    """
    expected = {
        **{"tz": "10:00:00+02", "u": "340282366920938463463374607431768211455"},
        **{"i": "1 month 2 days", "d": "infinity", "b": "101", "k": "5"},
    }
    assert answer(store, query) == [expected]


@pytest.mark.parametrize("kept", [NUMBERS, PARQUET])
def test_every_type_of_duckdb_has_a_portable_one(kept: frozenset[str]) -> None:
    relation = duckdb.connect().sql("from test_all_types()")
    for name, kind in zip(relation.columns, relation.types, strict=True):
        column = relation.project(f'"{name}"::{portable_type(kind, kept)} as "{name}"')
        assert portable_type(column.types[0], kept) == portable_type(kind, kept)
        assert column.to_arrow_table().num_rows == 3


SCALARS = ["INTEGER", "DATE", "VARCHAR", "INTERVAL", "DOUBLE", "BLOB", "DECIMAL(9,2)", "TIMESTAMP", "UUID"]
TYPES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        inner.map(lambda t: f"{t}[]"),
        inner.map(lambda t: f"{t}[2]"),
        st.tuples(inner, inner).map(lambda t: f"MAP({t[0]}, {t[1]})"),
        st.tuples(inner, inner).map(lambda t: f'STRUCT("a b""" {t[0]}, c {t[1]})'),
    ),
    max_leaves=5,
)


@given(TYPES)
def test_nested_types_become_portable_and_keep_their_shape(written: str) -> None:
    connection = duckdb.connect()
    kind = connection.sql(f"select null::{written} as x").types[0]
    target = connection.sql(f"select null::{written}::{portable_type(kind, NUMBERS)} as x").types[0]
    assert portable_type(target, NUMBERS) == portable_type(kind, NUMBERS)
    for lost in ("DATE", "INTERVAL", "BLOB", "TIMESTAMP", "UUID"):
        assert lost not in str(target)

"""What a query answers is what is printed and handed over: every column has a name of its own, every value is there."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.query.columns import unique_names
from merloco.features.store import FeatureStore
from merloco.flows.cli.console import print_records, show
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"), n=40)


SELF_JOIN = """
    select s.text, t.text from samples s join samples t on t.turn is not distinct from s.turn
    where s.sample_id = 'meld/train/dia0_utt0' and t.sample_id = 'meld/train/dia0_utt1'"""
ANSWER = {"text": "line 0 says neutral", "text_1": "line 1 says anger"}


def test_a_self_join_keeps_both_columns_in_every_format(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    code, out, _ = merloco(capsys, store, "sql", SELF_JOIN)
    head, _, row = out.splitlines()
    assert code == 0 and head.split() == list(ANSWER) and all(value in row for value in ANSWER.values())
    assert json.loads(merloco(capsys, store, "sql", SELF_JOIN, "--format", "json")[1]) == [ANSWER]
    out = merloco(capsys, store, "sql", SELF_JOIN, "--format", "csv")[1]
    assert list(csv.DictReader(io.StringIO(out))) == [ANSWER]
    relation = store.sql(SELF_JOIN)
    assert relation.to_arrow_table().to_pylist() == [ANSWER] and relation.df().to_dict("records") == [ANSWER]


def test_parquet_that_a_query_writes_can_be_read(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sink:
        buffer = io.BytesIO()

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr("sys.stdout", Sink())
    show(store.sql(SELF_JOIN).to_arrow_table(), "parquet")
    assert pq.read_table(io.BytesIO(Sink.buffer.getvalue())).to_pylist() == [ANSWER]


def test_order_and_rows_stay_where_names_change(store: FeatureStore) -> None:
    rows = store.sql("select i as a, -i as a from range(1000) t(i) order by i desc").fetchall()
    assert rows == [(i, -i) for i in range(999, -1, -1)]


@given(st.lists(st.sampled_from(["a", "A", "b", "a_1", "a_1_1", "x y", 'q"']), min_size=1, max_size=7))
def test_names_are_those_that_duckdb_gives(names: list[str]) -> None:
    import duckdb

    quoted = ", ".join('1 as "' + name.replace('"', '""') + '"' for name in names)
    assert unique_names(names) == list(duckdb.sql(f"select {quoted}").df().columns)


def test_csv_ends_its_lines_as_a_shell_expects(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    code, out, _ = merloco(capsys, store, "sql", "select 1 as a, 'x' as b", "--format", "csv")
    assert code == 0 and out == "a,b\n1,x\n"


def test_json_has_no_word_that_json_does_not_know(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    query = "select 'nan'::float as a, 'infinity'::float as b, ['-infinity'::float, 1] as c, {'x': 'nan'::float} as d"
    out = merloco(capsys, store, "sql", query, "--format", "json")[1]

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (row,) = json.loads(out, parse_constant=refuse)
    assert row == {"a": None, "b": "Infinity", "c": ["-Infinity", 1.0], "d": {"x": None}}


def test_a_class_may_be_called_as_a_column_is(capsys: pytest.CaptureFixture) -> None:
    print_records([{"corpus": "meld", ("class", "corpus"): "50.0", ("class", "n"): "40.0"}])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["corpus", "corpus", "n"] and row.split() == ["meld", "50.0", "40.0"]


def test_a_table_of_two_columns_of_one_name_keeps_both(capsys: pytest.CaptureFixture) -> None:
    show(pa.table([[1], [2]], ["a", "a"]), "json")
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_1": 2}]


def test_mean_vectors_are_those_of_numpy(store: FeatureStore) -> None:
    query = "from minilm join labels using (sample_id) where pooled is not null"
    pooled = {}
    for emotion, vector in store.sql(f"select emotion, pooled {query}").fetchall():
        pooled.setdefault(emotion, []).append(vector)
    means = dict(store.sql(f"select emotion, mean_vector(pooled) {query} group by emotion").fetchall())
    assert means.keys() == pooled.keys() and len(means) == 4
    for emotion, vectors in pooled.items():
        np.testing.assert_allclose(means[emotion], np.mean(np.asarray(vectors, np.float64), axis=0), rtol=1e-6)


def test_the_mean_of_no_vector_is_null(store: FeatureStore) -> None:
    assert store.sql("select mean_vector(pooled) from minilm where pooled is null").fetchall() == [(None,)]


def test_vectors_of_two_widths_have_means_in_one_query(store: FeatureStore) -> None:
    query = (
        "select len(mean_vector(m.pooled)), mean_vector(p.pooled) from minilm m left join prosody p using (sample_id)"
    )
    assert store.sql(query).fetchall() == [(3, None)]


def test_a_view_without_its_weights_says_which_folder_answers(
    capsys: pytest.CaptureFixture, store: FeatureStore
) -> None:
    folder = store.root / "views" / "roberta_mer" / "0123456789abcdef"
    folder.mkdir(parents=True)
    code, _, err = merloco(capsys, store, "sql", "select count(*) from roberta_mer")
    assert code == 0 and "view roberta_mer: the newest folder answers, fingerprint 0123456789abcdef, because" in err
    assert "newest folder" not in merloco(capsys, store, "sql", "select count(*) from minilm")[2]

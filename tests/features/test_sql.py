"""SQL over the store: the named views, typed vectors, and no reach beyond what is registered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, run_folders, write_run
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.store_files import make_store, meld_samples


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(
    "view",
    [
        "samples",
        "labels",
        "minilm",
        "prosody",
        "face_hog",
        "shards",
        "failures",
        "runs",
        "metrics",
        "epochs",
        "predictions",
    ],
)
def test_every_named_view_answers_even_when_it_is_empty(store: FeatureStore, view: str) -> None:
    assert store.sql(f"select * from {view} where false").fetchall() == []


def test_labels_follow_the_active_map(store: FeatureStore) -> None:
    rows = store.sql("select distinct label, emotion from labels join samples using (sample_id) order by 1").fetchall()
    assert rows == [("anger", "angry"), ("joy", "happy"), ("neutral", "neutral"), ("sadness", "sad")]


def test_targets_are_vectors_in_label_order_with_a_mask(store: FeatureStore) -> None:
    emotion, target, mask = store.sql("select emotion, target, mask from labels limit 1").fetchall()[0]
    assert list(store.catalog.label_order).index(emotion) == list(target).index(1.0)
    assert sum(target) == 1.0 and all(mask)


def test_pooled_is_a_float_array_so_that_array_functions_work(store: FeatureStore) -> None:
    query = """
        with q as (select pooled from minilm where sample_id = 'meld/train/dia0_utt0')
        select sample_id, array_cosine_similarity(m.pooled, q.pooled) as s
        from minilm m, q where status = 'ok' order by s desc, sample_id limit 3
    """
    rows = store.sql(query).fetchall()
    assert rows[0][1] == pytest.approx(1.0)
    assert "meld/train/dia0_utt0" in [row[0] for row in rows]
    assert store.sql("select typeof(pooled) from minilm limit 1").fetchall() == [("FLOAT[3]",)]


def test_failures_list_every_row_without_a_vector(store: FeatureStore) -> None:
    rows = store.sql("select view, status, count(*) from failures group by all").fetchall()
    assert rows == [("minilm", "no_text", 60)]


def test_shards_say_what_they_cost(store: FeatureStore) -> None:
    rows = store.sql("select shard, rows, ok, current, seconds['write'] >= 0 from shards order by 1").fetchall()
    assert rows[0] == ("meld-00000", 256, 231, True, True)
    assert len(rows) == 3


def test_runs_metrics_and_predictions_join_with_samples(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=20)
    config = {
        "experiment": "e",
        "protocol": "p",
        "train": ["meld"],
        "test": ["meld"],
        "feature_set": "light",
        "seed": 0,
    }
    blank = {"run": None, "split": "test", "corpus": "meld", "class": None}
    metrics = pa.Table.from_pylist([{**blank, "metric": "uar", "value": 0.5, "n": 2}], schema=METRICS_SCHEMA)
    epochs = pa.Table.from_pylist([{"run": None, "epoch": 1, "loss": 1.0, "val_uar": 0.4}], schema=EPOCHS_SCHEMA)
    prediction = {"sample_id": "meld/train/dia0_utt0", "truth": "happy", "prediction": "sad"}
    row = {
        **prediction,
        "run": None,
        "corpus": "meld",
        "probabilities": [("happy", 0.25)],
        "contributions": [("text", 0.25)],
    }
    predictions = pa.Table.from_pylist([row], schema=PREDICTIONS_SCHEMA)
    path = write_run(tmp_path, config, metrics, epochs, predictions, {"w": np.ones(2, np.float32)}, {"torch": "2"})
    again = write_run(tmp_path, config, metrics, epochs, predictions, {"w": np.ones(2, np.float32)}, {"torch": "3"})
    assert path == again and run_folders(tmp_path) == [path]
    query = """
        select text, truth, probabilities['happy'], value
        from predictions join samples using (sample_id) join metrics using (run) join runs using (run)
        where metric = 'uar' and seed = 0
    """
    assert store.sql(query).fetchall() == [("line 0 says neutral", "happy", 0.25, 0.5)]


def test_malformed_sql_is_one_sentence(store: FeatureStore) -> None:
    with pytest.raises(DataError, match="SQL: Parser Error: syntax error") as error:
        store.sql("selec 1")
    assert "\n" not in str(error.value)


def test_an_unknown_table_names_the_nearest_view(store: FeatureStore) -> None:
    with pytest.raises(DataError, match=r"smaples does not exist; did you mean 'samples'\? views here: samples,"):
        store.sql("select * from smaples")


@pytest.mark.parametrize("statement", ["create table x as select 1", "insert into samples select 1", "", "-- nothing"])
def test_a_statement_that_reads_nothing_is_refused(store: FeatureStore, statement: str) -> None:
    with pytest.raises(DataError, match="gives no rows: expected a query"):
        store.sql(statement)


def test_one_query_at_a_time(store: FeatureStore) -> None:
    with pytest.raises(DataError, match="2 statements: expected one query at a time"):
        store.sql("select 1; select 2")


@pytest.mark.parametrize("query", ["describe samples", "from labels", "pivot samples on split using count(*)"])
def test_every_form_of_a_query_is_one(store: FeatureStore, query: str) -> None:
    assert store.sql(query).fetchall()


def test_an_unknown_column_names_the_candidates(store: FeatureStore) -> None:
    with pytest.raises(DataError, match="emotion"):
        store.sql("select emotoin from labels").fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_csv('{path}')",
        "select * from '{path}'",
        "copy (select 1) to '{path}'",
        "attach '{path}.db' as x",
        "install httpfs",
    ],
)
def test_queries_reach_no_file_and_no_network(store: FeatureStore, tmp_path: Path, statement: str) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a\n1\n")
    with pytest.raises(DataError):
        store.sql(statement.format(path=path)).fetchall()
    assert path.read_text() == "a\n1\n"


def test_external_access_cannot_be_switched_on_again(store: FeatureStore) -> None:
    with pytest.raises(DataError):
        store.sql("set enable_external_access = true")


def test_a_label_that_the_map_does_not_know_is_named_with_the_known_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=5, extracted=False)
    samples = meld_samples(5)
    bad = type(samples[0])("meld/train/dia9_utt9", "meld", "train", "hapy")
    write_parquet(samples_path(tmp_path, "meld"), to_table([*samples, bad]))
    with pytest.raises(DataError, match=r"unknown label 'hapy'.*known: anger, disgust"):
        store.sql("select * from labels")
    assert store.sql("select count(*) from samples").fetchall() == [(6,)]


def test_dialogue_context_is_a_window_over_turns(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path, make_store(tmp_path / "x", n=1, extracted=False).catalog, create=True)
    samples = [replace(s, turn=int(s.sample_id[-1]), text=s.sample_id[-4:]) for s in meld_samples(10)]
    write_parquet(samples_path(tmp_path, "meld"), to_table(samples))
    query = """
        select text, list(text) over (partition by dialogue order by turn rows between 2 preceding and 1 preceding)
        from samples where dialogue = 'train/dia1' order by turn
    """
    assert store.sql(query).fetchall()[2:4] == [("utt2", ["utt0", "utt1"]), ("utt3", ["utt1", "utt2"])]

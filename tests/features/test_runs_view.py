"""The SQL view `runs`: what it always had, a column for every training setting, and what older versions wrote."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.maintenance.runs import add_tag
from merloco.features.query.runs import readable_name
from merloco.features.runs import adopt_run, read_config
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import CATALOG

ALWAYS = ["run", "experiment", "protocol", "train", "test", "feature_set", "seed", "config", "collapsed"]
IDS = ["meld/train/dia0_utt0"]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)


def columns(store: FeatureStore) -> dict[str, str]:
    return {row[0]: row[1] for row in store.sql("describe runs").fetchall()}


def test_columns_that_were_there_stay_first_and_every_setting_follows(store: FeatureStore) -> None:
    empty = columns(store)
    assert list(empty)[: len(ALWAYS)] == ALWAYS
    assert set(Training.model_fields) <= set(empty)
    make_run(store.root, IDS, training=Training().model_dump())
    assert columns(store) == empty, "a type does not hang on there being runs"
    assert store.sql("select learning_rate, loss, standardize from runs").fetchall() == [(1e-4, "balanced", False)]


def test_a_setting_that_nobody_knew_is_a_column_by_itself(store: FeatureStore) -> None:
    make_run(store.root, IDS, training={"fusion": "mine:Net", "options": {"width": 8}, "shift": ["coral", "mixup"]})
    make_run(store.root, IDS, training={"fusion": "late", "options": {"depth": 2, "inner": {}}}, seed=1)
    rows = store.sql("select fusion, options.width, options.depth, shift, loss from runs order by seed").fetchall()
    assert rows == [("mine:Net", 8, None, ["coral", "mixup"], None), ("late", None, 2, None, None)]


def test_a_setting_of_several_types_is_text(store: FeatureStore) -> None:
    for seed, value in enumerate([True, "auto", 0.5, None, {"by": "corpus"}, 2**70]):
        make_run(store.root, IDS, training={"balance": value}, seed=seed)
    rows = [row[0] for row in store.sql("select balance from runs order by seed").fetchall()]
    assert rows == ["true", "auto", "0.5", None, '{"by": "corpus"}', str(2**70)]


def test_a_setting_that_is_called_like_a_column_takes_no_place_of_it(store: FeatureStore) -> None:
    make_run(store.root, IDS, training={"seed": 41, "tags": "x"})
    assert store.sql("select seed, training_seed, tags, training_tags from runs").fetchall() == [(0, 41, [], "x")]


def test_label_maps_task_modalities_and_tags_have_columns(store: FeatureStore) -> None:
    maps = {"meld": {"map": "seven", "classes": ["happy"]}, "iemocap": {"map": "four"}}
    run = make_run(store.root, IDS, label_maps=maps, task="multi", nullify=["text"])
    add_tag(store.root, run, "paper")
    query = (
        "select label_maps['iemocap'], task, modalities, nullified, name from runs where list_contains(tags, 'paper')"
    )
    assert store.sql(query).fetchall() == [("four", "multi", ["text"], ["text"], "meld, text, light, without text")]


def test_a_run_of_an_older_version_has_the_time_of_its_file_and_nulls(store: FeatureStore) -> None:
    run = make_run(store.root, IDS)
    record = json.loads((run / "config.json").read_text())
    del record["trained_at"], record["config"]["modalities"], record["config"]["task"]
    (run / "config.json").write_text(json.dumps(record))
    os.utime(run / "config.json", (1_700_000_000, 1_700_000_000))
    query = "select trained_at::varchar, task, loss, label_maps, tags, name from runs"
    assert store.sql(query).fetchall() == [("2023-11-14 22:13:20", None, None, {}, [], "meld, light")]


def test_an_adopted_run_was_trained_when_its_source_was(store: FeatureStore) -> None:
    run = make_run(store.root, IDS)
    os.utime(run / "config.json", (1_700_000_000, 1_700_000_000))
    record = json.loads((run / "config.json").read_text())
    del record["trained_at"]
    (run / "config.json").write_text(json.dumps(record))
    os.utime(run / "config.json", (1_700_000_000, 1_700_000_000))
    copy = adopt_run(store.root, run, {**record["config"], "experiment": "other"})
    assert read_config(copy)["trained_at"] == "2023-11-14T22:13:20+00:00"


def test_the_name_says_what_was_trained_with_what() -> None:
    config: dict[str, Any] = {"train": ["meld", "afew"], "modalities": ["audio", "text"], "feature_set": "published"}
    assert readable_name(config) == "meld+afew, audio+text, published"
    assert readable_name({**config, "training": {"fusion": "late"}}) == "meld+afew, audio+text, published, late"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
names = st.from_regex(r"[a-z][a-z_]{0,7}", fullmatch=True)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=5)


@given(st.lists(st.dictionaries(names, values, max_size=3), min_size=1, max_size=3))
def test_whatever_settings_runs_have_the_view_answers(settings: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.open(folder, load_catalog(CATALOG), create=True)
        for seed, training in enumerate(settings):
            make_run(store.root, IDS, training=training, seed=seed)
        rows = store.sql("select seed, config from runs order by seed").fetchall()
        assert [json.loads(config)["training"] for _, config in rows] == settings
        assert len(store.sql("select * from runs").fetchall()) == len(settings)

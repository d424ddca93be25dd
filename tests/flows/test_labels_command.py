"""`merloco labels show`, and the promise behind it: a changed map changes targets at once and touches no feature."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.entries import LabelMap
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.label_counts import UNKNOWN, LabelCount, count_labels, unknown_labels
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import SPLITS, Sample, to_table
from tests.helpers.corpora_files import counted, meld_store, merloco, needs_meld, store_of
from tests.helpers.store_files import CATALOG, make_store


def map_of(corpus: str, name: str) -> LabelMap:
    return load_catalog(CATALOG).corpus(corpus).maps[name]


def rows_of(samples: list[Sample], corpus: str, map_name: str) -> dict[tuple[str, str], LabelCount]:
    """(native, what is counted) -> row."""
    rows = count_labels(to_table(samples), corpus, map_of(corpus, map_name))
    return {(row.native, row.counted): row for row in rows}


def mosei(split: str, name: str, **intensities: float) -> Sample:
    native = dict.fromkeys(("happy", "sad", "anger", "surprise", "disgust", "fear"), 0.0) | intensities
    return Sample(f"mosei/{split}/{name}", "mosei", split, intensities=native)


MOSEI = [
    mosei("train", "a", happy=1.0, sad=0.3),
    mosei("train", "b", happy=2.0),
    mosei("train", "tie", happy=1.0, anger=1.0),
    mosei("val", "zero"),
    mosei("test", "c", fear=0.3),
]


def test_every_native_label_of_the_map_has_a_row_also_with_no_sample() -> None:
    rows = rows_of(counted("iemocap", {"train": {"neu": 3, "xxx": 2}, "test": {"exc": 1}}), "iemocap", "seven")
    assert len(rows) == 11
    assert rows["neu", "label"].per_split == {"train": 3, "val": 0, "test": 0, "none": 0}
    assert (rows["exc", "label"].shared, rows["exc", "label"].total) == ("happy", 1)
    assert (rows["xxx", "label"].shared, rows["xxx", "label"].total) == ("drop", 2)
    assert rows["dis", "label"].total == 0


def test_the_undecided_rule_has_a_row_of_its_own() -> None:
    votes = {"votes": {"F1": ["Happiness"], "E1": ["Happiness"]}}
    samples = counted("iemocap", {"train": {"xxx": 3, "hap": 2}})
    samples = [replace(s, native=votes) if s.sample_id.endswith("xxx_0") else s for s in samples]
    rows = rows_of(samples, "iemocap", "six_lineage")
    promoted = rows["xxx", "rule self_evaluated_happiness"]
    assert (promoted.shared, promoted.total) == ("happy", 1)
    assert (rows["xxx", "label"].shared, rows["xxx", "label"].total) == ("drop", 2)
    assert rows["hap", "label"].total == 2
    assert rows_of(samples, "iemocap", "six")["xxx", "label"].total == 3


def test_unlabelled_and_unknown_samples_are_rows_too() -> None:
    samples = counted("meld", {"train": {"joy": 1, "hapy": 2}})
    rows = rows_of([*samples, Sample("meld/test/a", "meld", "test")], "meld", "seven")
    assert (rows["hapy", "label"].shared, rows["hapy", "label"].total) == (UNKNOWN, 2)
    assert (rows["(no label)", "label"].shared, rows["(no label)", "label"].per_split["test"]) == ("drop", 1)


def test_intensities_are_counted_by_presence_dominance_ties_and_nothing() -> None:
    rows = rows_of(MOSEI, "mosei", "dominant")
    assert [rows[name, "present"].total for name in ("happy", "sad", "anger", "fear", "disgust")] == [3, 1, 1, 1, 0]
    assert [rows[name, "dominant"].total for name in ("happy", "sad", "anger", "fear")] == [2, 0, 0, 1]
    assert rows["(tie)", "strongest"].per_split["train"] == 1 and rows["(tie)", "strongest"].shared == "drop"
    assert rows["(all zero)", "none"].per_split["val"] == 1 and rows["(all zero)", "none"].shared == "drop"


@pytest.mark.parametrize(
    ("map_name", "native", "shared"),
    [("dominant_first", "(tie)", "first in class order"), ("dominant_neutral", "(all zero)", "neutral")],
)
def test_the_map_says_what_becomes_of_ties_and_of_nothing(map_name: str, native: str, shared: str) -> None:
    rows = {row.native: row for row in count_labels(to_table(MOSEI), "mosei", map_of("mosei", map_name))}
    assert (rows[native].shared, rows[native].total) == (shared, 1)


@given(st.lists(st.tuples(st.sampled_from(["neu", "hap", "exc", "xxx", "fru", None]), st.sampled_from(SPLITS))))
def test_counts_add_up_to_the_samples_and_to_the_targets_of_the_map(labels: list[tuple[str | None, str]]) -> None:
    samples = [Sample(f"iemocap/a/u{i}", "iemocap", split, label=label) for i, (label, split) in enumerate(labels)]
    table, label_map = to_table(samples), map_of("iemocap", "seven")
    rows = count_labels(table, "iemocap", label_map)
    assert sum(row.total for row in rows) == len(samples)
    emotions = apply_map(table, "iemocap", label_map)["emotion"].to_pylist()
    for name in label_map.annotated:
        assert sum(row.total for row in rows if row.shared == name) == emotions.count(name)


def test_the_command_prints_the_active_map_and_names_the_others(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path, *counted("iemocap", {"train": {"fru": 3}, "test": {"exc": 1}}))
    code, out, _ = merloco(capsys, store, "labels", "show", "iemocap")
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith("iemocap, map 'seven' (the active map)")
    assert lines[3].split() == ["native", "shared", "counted", "train", "test", "total"]
    assert ["fru", "drop", "label", "3", "0", "3"] in [line.split() for line in lines]
    assert "Other maps: seven_fru_angry, six" in out
    code, out, _ = merloco(capsys, store, "labels", "show", "iemocap", "--map", "seven_fru_angry", "--format", "json")
    assert {"native": "fru", "shared": "angry"}.items() <= next(
        r for r in json.loads(out) if r["native"] == "fru"
    ).items()


def test_the_command_shows_an_unknown_label_and_exits_with_one(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path, *counted("meld", {"train": {"joy": 1, "hapy": 2}}))
    code, out, err = merloco(capsys, store, "labels", "show", "meld")
    assert code == 1 and "(unknown)" in out
    assert "the first 'hapy' at 'meld/train/hapy_0': add them to `labels`" in err
    assert unknown_labels(store.samples(), map_of("meld", "seven")) == {
        "hapy": ["meld/train/hapy_0", "meld/train/hapy_1"]
    }


def test_wrong_names_say_the_nearest_one(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path, *counted("meld", {"train": {"joy": 1}}))
    code, _, err = merloco(capsys, store, "labels", "show", "meld", "--map", "sevn")
    assert code == 2 and "did you mean 'seven'?" in err
    code, _, err = merloco(capsys, store, "labels", "show", "mled")
    assert code == 2 and "did you mean 'meld'?" in err
    code, _, err = merloco(capsys, store, "labels", "show", "afew")
    assert code == 1 and "merloco ingest afew" in err


def test_changing_a_map_changes_targets_at_once_and_touches_no_feature(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    before = {path: path.read_bytes() for path in sorted((store.root / "views").rglob("*")) if path.is_file()}
    angry = "select count(*) from labels where emotion = 'angry'"
    assert store.sql(angry).fetchall() == [(150,)]

    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    meld = raw["corpora"]["meld"]
    meld["maps"]["sad_angry"] = {"labels": meld["maps"]["seven"]["labels"] | {"sadness": "angry", "anger": "drop"}}
    meld["map"] = "sad_angry"
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    changed = FeatureStore.open(store.root, load_catalog(tmp_path / "catalog.yaml"))

    query = "select label, emotion, count(*) from labels join samples using (sample_id) group by all order by all"
    assert changed.sql(query).fetchall() == [
        ("anger", None, 150),
        ("joy", "happy", 150),
        ("neutral", "neutral", 150),
        ("sadness", "angry", 150),
    ]
    view = changed.view("minilm")
    assert view.fingerprint == store.view("minilm").fingerprint
    assert {planned.state for planned in changed.plan([view])} == {"done"}
    after = {path: path.read_bytes() for path in sorted((store.root / "views").rglob("*")) if path.is_file()}
    assert after == before and before


@needs_meld
def test_the_real_meld_counts_are_those_of_the_release(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    code, out, _ = merloco(capsys, meld_store(tmp_path), "labels", "show", "meld", "--format", "csv")
    assert code == 0
    assert out.splitlines() == [
        "native,shared,counted,train,val,test,none,total",
        "neutral,neutral,label,4710,470,1256,0,6436",
        "joy,happy,label,1743,163,402,0,2308",
        "sadness,sad,label,683,111,208,0,1002",
        "surprise,surprise,label,1205,150,281,0,1636",
        "fear,fear,label,268,40,50,0,358",
        "disgust,disgust,label,271,22,68,0,361",
        "anger,angry,label,1109,153,345,0,1607",
    ]

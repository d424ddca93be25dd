"""`compare` of systems: what a name means, what is paired and what is left out, rows, rankings."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from merloco.features.runs import adopt_run, read_config
from merloco.features.store import FeatureStore
from merloco.flows.results.selectors import parse_name
from merloco.flows.results.systems import find_systems, require_distinct
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import UsageError
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.run_files import make_run
from tests.helpers.store_files import CATALOG

TRUTH = ("neutral", "happy", "sad", "angry")
CORPORA = ("afew", "meld", "mosei")


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)


def predicted(corpus: str, right: float, seed: int, n: int = 100, first: int = 0) -> dict[str, tuple[str, str]]:
    """Predictions of `n` utterances in dialogues of five; how hard an utterance is, all runs agree on."""
    hard = np.random.default_rng(len(corpus)).random(first + n)
    chance = np.random.default_rng([seed, len(corpus), int(100 * right)]).random(first + n)
    rows = {}
    for i in range(first, first + n):
        truth = TRUTH[i % 4]
        hit = 0.7 * hard[i] + 0.3 * chance[i] < right
        rows[f"{corpus}/train/dia{i // 5}_utt{i % 5}"] = truth, truth if hit else TRUTH[(i + 1) % 4]
    return rows


def make_system(
    root: Path,
    right: float,
    seeds: tuple[int, ...] = (0, 1, 2),
    corpora: tuple[str, ...] = CORPORA,
    experiment: str = "loco",
    **config: object,
) -> None:
    """Leave one corpus out, with every seed: of `right` depends how many utterances are right."""
    for corpus in corpora:
        others = [name for name in CORPORA if name != corpus]
        for seed in seeds:
            rows = {corpus: predicted(corpus, right, seed)}
            make_run(root, rows, experiment, seed, others, protocol="loco", **config)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A good and a poor loss, and a good loss with another modality."""
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    make_system(tmp_path, 0.7, training={"loss": "balanced", "learning_rate": 0.001})
    make_system(tmp_path, 0.5, training={"loss": "plain", "learning_rate": 0.001})
    return tmp_path


def rows(capsys: pytest.CaptureFixture, store: Path, *names: str) -> list[dict]:
    code, out, err = merloco(capsys, "compare", *names, "--store", str(store), "--format", "json")
    assert code == 0, err
    return json.loads(out)


def sentence(capsys: pytest.CaptureFixture, store: Path, *names: str, expected: int = 2) -> str:
    code, _, err = merloco(capsys, "compare", *names, "--store", str(store))
    assert code == expected, err
    return the_sentence(err)


def test_two_losses_are_compared_over_folds_and_seeds(capsys: pytest.CaptureFixture, store: Path) -> None:
    found = rows(capsys, store, "loss=balanced", "loss=plain")
    scores = [row for row in found if row["metric"] == "uar"]
    assert [row["corpus"] for row in scores] == [*CORPORA, None]
    assert {row["seeds"] for row in scores} == {3} and scores[0]["resampled"] == "dialogues"
    assert (scores[0]["n"], scores[0]["units"], scores[0]["train"]) == (100, 20, "meld,mosei")
    for row in scores[:3]:
        for name, right in (("first", 0.7), ("second", 0.5)):
            pairs = [zip(*predicted(row["corpus"], right, seed).values(), strict=True) for seed in range(3)]
            uars = [sk.balanced_accuracy_score(*pair) for pair in pairs]
            assert row[name] == pytest.approx(np.mean(uars))
            assert row[f"{name}_std"] == pytest.approx(np.std(uars, ddof=1))
    mean = scores[3]
    assert mean["difference"] == pytest.approx(np.mean([row["difference"] for row in scores[:3]]))
    assert mean["difference_low"] > 0 and mean["p_holm"] < 0.01
    assert all(row["p_holm"] >= row["p"] for row in scores)
    effects = [row for row in found if row["metric"] == "recall" and row["corpus"] == "meld"]
    assert [row["class"] for row in effects] == sorted(TRUTH)
    assert np.mean([row["difference"] for row in effects]) == pytest.approx(scores[1]["difference"])
    assert all(row["p"] is None and row["difference_low"] < row["difference_high"] for row in effects)


def test_the_table_names_systems_what_differs_and_the_mean(capsys: pytest.CaptureFixture, store: Path) -> None:
    code, out, _ = merloco(capsys, "compare", "loss=balanced", "loss=plain", "--store", str(store))
    lines = out.splitlines()
    assert code == 0 and lines[1].split() == ["system", "runs", "folds", "seeds", "loss"]
    assert lines[3].split() == ["A", "loss=balanced", "9", "3", "0,", "1,", "2", "balanced"]
    assert sum(line.startswith("mean of 3 folds") for line in lines) == 2
    assert "uncorrected" in out and "docs/comparing.md" in out


@pytest.mark.parametrize("selector", ["modalities=text,audio", "modalities=audio, text,loss=balanced", "task=single"])
def test_a_list_is_meant_whole_in_any_order(store: Path, selector: str) -> None:
    make_system(store, 0.6, experiment="more", modalities=["audio", "text"], training={"loss": "balanced"})
    (system,) = find_systems(store, [selector], "more")
    assert len(system.all_runs) == 9
    (text_only,) = find_systems(store, ["modalities=text,loss=balanced"])
    assert {run.folder.parent.name for run in text_only.all_runs} == {"loco"}


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        ("learning_rate=1e-3,loss=plain", 9),
        ("loco,loss=plain,seed=0,2", 6),
        ("loss=plain,test=meld", 3),
        ("train=mosei,meld,loss=plain", 3),
        ("features=light,seeds=1,loss=plain", 3),
        ("map.meld=seven,loss=plain", 3),
        ("standardize=false,loss=plain", 9),
        ("selected_on_test=none,loss=plain", 9),
    ],
)
def test_settings_select_as_they_are_written(store: Path, selector: str, count: int) -> None:
    (system,) = find_systems(store, [selector])
    assert len(system.all_runs) == count


def test_settings_that_other_networks_have_select_too(store: Path) -> None:
    late = {"fusion": "late", "options": {"hidden": 64, "norm": True}}
    make_system(store, 0.6, training=late)
    for selector in ("fusion=late", "options.hidden=64", "loco,options.norm=true"):
        (system,) = find_systems(store, [selector])
        assert len(system.all_runs) == 9, selector


def test_names_that_mean_nothing_or_too_much_are_one_sentence(capsys: pytest.CaptureFixture, store: Path) -> None:
    for names, expected in (
        (("loss=balanced", "loss=plian"), "no run has loss=plian: did you mean 'plain'?"),
        (("loss=balanced", "los=plain"), "runs have no setting 'los': did you mean 'loss'?"),
        (("loss=balanced", "locco"), "no experiment and no run 'locco': did you mean 'loco'?"),
        (("loss=balanced", "locco,loss=plain"), "no experiment 'locco' in the store"),
        (("loss=balanced", "loss=plain,modalities=audio"), "no run has modalities=audio: known: text"),
        (("loss=balanced", "loss=plain,test=afew,train=afew,meld"), "no run has all of this at once"),
        (("loss=balanced", "loss="), "names no system"),
        (("loss=balanced", "=plain"), "names no system"),
        (("loss=balanced", ""), "names no system"),
        (("loss=balanced", "loco,single"), "names two systems"),
        (("loss=balanced",), "1 to compare: expected systems that differ"),
        (("loss=plain", "loco"), "means 2 systems: its runs on afew (trained on meld, mosei) differ in loss: "),
        (("loss=plain", "loco,loss=plain"), "are the same in 9 runs"),
        (("loss=plain,seed=0", "loss=plain,seed=1"), "differ in seeds alone"),
        (
            ("loss=plain", "loss=balanced", "--experiment", "loc"),
            "no experiment 'loc' in the store: did you mean 'loco'?",
        ),
    ):
        assert expected in sentence(capsys, store, *names), names


def test_what_only_one_system_has_is_left_out_and_said(capsys: pytest.CaptureFixture, store: Path) -> None:
    audio = {"modalities": ["audio"]}
    make_system(store, 0.6, (0, 1, 3, 4), ("afew", "meld"), **audio)
    names = "loss=balanced,modalities=text", "modalities=audio"
    code, out, err = merloco(capsys, "compare", *names, "--store", str(store), "--format", "json")
    assert code == 0
    assert {(row["corpus"], row["seeds"]) for row in json.loads(out)} == {("afew", 2), ("meld", 2), (None, 2)}
    assert "mosei (trained on afew, meld): no run of modalities=audio" in err
    assert "runs of loss=balanced,modalities=text with the seeds 2 on afew, meld" in err
    assert "runs of modalities=audio with the seeds 3, 4 on afew, meld" in err
    assert "two seeds" in err


def test_utterances_that_not_every_run_predicted_are_left_out_and_counted(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    for seed in (0, 1, 2):
        make_run(tmp_path, {"meld": predicted("meld", 0.7, seed)}, "first", seed)
        shifted = predicted("meld", 0.6, seed, n=95, first=10 + seed)
        make_run(tmp_path, {"meld": shifted}, "second", seed, training={"loss": "plain"})
    (row, *_) = rows(capsys, tmp_path, "first", "second")
    assert (row["corpus"], row["n"], row["only_first"], row["only_second"]) == ("meld", 88, 12, 9)


def test_systems_without_a_common_fold_seed_or_truth_are_one_sentence(
    capsys: pytest.CaptureFixture, store: Path
) -> None:
    make_system(store, 0.6, (7, 8), modalities=["audio"])
    said = sentence(capsys, store, "loss=plain", "modalities=audio", expected=1)
    assert "nothing to compare: afew: no seed in common (loss=plain: 0, 1, 2; modalities=audio: 7, 8)" in said
    for seed in (0, 1):
        moved = {i: ("fear", p) for i, (_, p) in predicted("meld", 0.7, seed).items()}
        make_run(store, {"meld": moved}, "moved", seed, ["afew", "mosei"], training={"loss": "plain"})
    said = sentence(capsys, store, "loco,loss=balanced,modalities=text", "moved", expected=1)
    assert "disagree on the truth of 100 of 100 shared utterances" in said


def test_other_training_corpora_meet_on_the_tested_one(capsys: pytest.CaptureFixture, store: Path) -> None:
    for seed in (0, 1, 2):
        make_run(store, {"meld": predicted("meld", 0.6, seed)}, "small", seed, ["afew"])
    found = rows(capsys, store, "loco,loss=balanced", "small")
    assert {(row["corpus"], row["train"]) for row in found} == {("meld", None)}


def test_one_seed_each_is_said_and_two_seeds_of_one_setting_are_not_tested(
    capsys: pytest.CaptureFixture, store: Path
) -> None:
    code, out, _ = merloco(capsys, "compare", "loss=balanced,seed=0", "loss=plain,seed=1", "--store", str(store))
    assert code == 0 and "one seed each; the difference between seeds is not known" in out
    runs = "loss=balanced,seed=0,test=meld", "loss=plain,seed=0,test=meld"
    code, out, _ = merloco(capsys, "compare", *runs, "--store", str(store))
    assert code == 0 and "the tests speak of these two runs only" in out
    runs = "loss=balanced,seed=0,test=meld", "loss=balanced,seed=1,test=meld"
    code, out, err = merloco(capsys, "compare", *runs, "--store", str(store), "--format", "json")
    (row,) = json.loads(out)
    assert code == 0 and "two seeds of one setting" in err
    assert row["p"] is row["p_holm"] is row["mcnemar_p"] is row["mcnemar_p_holm"] is None
    assert row["difference_low"] <= row["difference_high"]


def test_a_fold_with_one_seed_is_part_of_the_mean(capsys: pytest.CaptureFixture, store: Path) -> None:
    audio = {"modalities": ["audio"]}
    make_system(store, 0.6, (0,), ("afew",), **audio)
    make_system(store, 0.6, (0, 1, 2), ("meld", "mosei"), **audio)
    found = [row for row in rows(capsys, store, "loss=plain", "modalities=audio") if row["metric"] == "uar"]
    assert [(row["corpus"], row["seeds"]) for row in found] == [("afew", 1), ("meld", 3), ("mosei", 3), (None, 1)]


def test_the_same_run_of_two_experiments_counts_once_and_older_data_not_at_all(store: Path) -> None:
    (before,) = find_systems(store, ["loss=plain"])
    for run in before.all_runs:
        adopt_run(store, run.folder, {**read_config(run.folder)["config"], "experiment": "again"})
    (both,) = find_systems(store, ["loss=plain"])
    assert len(both.all_runs) == 9 and both.older == 0
    make_system(store, 0.6, corpora=("meld",), training={"loss": "plain", "learning_rate": 0.001}, version=9)
    (newest,) = find_systems(store, ["loss=plain"])
    assert len(newest.all_runs) == 9 and newest.older == 3
    with pytest.raises(UsageError, match="are the same"):
        require_distinct(find_systems(store, ["again", "loco,loss=plain,test=afew"]))


def test_a_nullified_score_is_no_run_of_a_system_unless_asked_for(store: Path) -> None:
    nullified = {"protocol": "nullification", "nullify": ["text"], "training": {"loss": "plain"}}
    make_run(store, {"meld": predicted("meld", 0.3, 0)}, "loco", 0, ["afew", "mosei"], **nullified)
    (system,) = find_systems(store, ["loss=plain"])
    assert len(system.all_runs) == 9
    (asked,) = find_systems(store, ["loss=plain,nullify=text"])
    assert len(asked.all_runs) == 1


def test_a_baseline_is_no_run_of_a_system_unless_asked_for(store: Path) -> None:
    baseline = {"protocol": "reference", "training": {"loss": "plain", "fusion": "logistic"}}
    make_run(store, {"meld": predicted("meld", 0.3, 0)}, "reference", 0, ["afew", "mosei"], **baseline)
    for name, count in (("loss=plain", 9), ("fusion=logistic", 1), ("reference", 1), ("loss=plain,fusion=gated", 9)):
        (system,) = find_systems(store, [name])
        assert len(system.all_runs) == count, name


def test_a_logistic_regression_stands_beside_every_seed(capsys: pytest.CaptureFixture, store: Path) -> None:
    make_system(store, 0.6, (0,), training={"loss": "plain", "fusion": "logistic"})
    found = rows(capsys, store, "loss=balanced", "fusion=logistic")
    assert {row["seeds"] for row in found} == {3}
    assert all(row["second_std"] == 0 for row in found)


def test_a_corpus_that_an_encoder_has_seen_is_left_out(capsys: pytest.CaptureFixture, store: Path) -> None:
    make_system(store, 0.9, modalities=["audio"], trained_on={"audio": ["meld"]})
    code, out, err = merloco(
        capsys, "compare", "loss=plain", "modalities=audio", "--store", str(store), "--format", "json"
    )
    assert code == 0 and {row["corpus"] for row in json.loads(out)} == {"afew", "mosei", None}
    assert "left out: meld: an encoder of modalities=audio was trained on it" in err


def test_three_systems_are_ranked_with_groups(capsys: pytest.CaptureFixture, store: Path) -> None:
    make_system(store, 0.51, modalities=["audio"])
    names = "loss=plain", "loss=balanced,modalities=text", "modalities=audio"
    found = rows(capsys, store, *names)
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert [row["system"] for row in found] == [names[1], names[2], names[0]]
    assert [row["group"] for row in found] == ["a", "b", "b"]
    assert found[0]["not_different_from"] == [] and found[0]["to_best"] == 0
    assert found[1]["not_different_from"] == [names[0]]
    assert all(row["score"] == pytest.approx(np.mean([s["score"] for s in row["scores"]])) for row in found)
    assert all(0 < row["to_best_low"] <= row["to_best"] and row["p_holm"] < 0.05 for row in found[1:])
    code, out, _ = merloco(capsys, "compare", *names, "--metric", "uar,accuracy", "--store", str(store))
    assert code == 0 and out.count("mean of 3 folds") == 2 and "share a letter" in out
    assert "collapsed" not in out


def test_selectors_without_a_store_of_runs_say_how_to_make_one(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    assert "holds no run" in sentence(capsys, tmp_path, "loss=plain", "loss=balanced", expected=1)


WORDS = st.text(st.characters(exclude_characters=",=", exclude_categories=("Z", "C")), min_size=1)


@given(st.none() | WORDS, st.dictionaries(WORDS.map("x".__add__), st.lists(WORDS, min_size=1), max_size=4))
def test_names_are_read_as_they_are_written(own: str | None, selectors: Mapping[str, list[str]]) -> None:
    parts = [*([own] if own else []), *(f"{key}={','.join(values)}" for key, values in selectors.items())]
    if parts:
        assert parse_name(",".join(parts)) == (own, selectors)


@given(st.text(max_size=12))
def test_any_text_is_a_name_or_one_sentence(text: str) -> None:
    try:
        own, selectors = parse_name(text)
    except UsageError as error:
        assert repr(text) in str(error)
    else:
        assert own or selectors

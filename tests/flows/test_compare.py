"""`compare`: two runs on the utterances that both predicted, found by the beginning of their names."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.run_files import make_run
from tests.helpers.store_files import CATALOG, make_store

TRUTH = ("neutral", "happy", "sad", "angry")
PLAIN = {"loss": "plain"}


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)


def predicted(corpus: str, n: int, right: float, seed: int, first: int = 0) -> dict[str, tuple[str, str]]:
    """Predictions of `n` utterances from number `first` on, of which a share is right."""
    generator = np.random.default_rng(seed)
    rows = {}
    for i in range(first, first + n):
        truth = TRUTH[i % 4]
        wrong = TRUTH[(i + generator.integers(1, 4)) % 4]
        rows[f"{corpus}/train/dia{i // 5}_utt{i % 5}"] = truth, truth if generator.random() < right else wrong
    return rows


def pair(root: Path) -> tuple[Path, Path]:
    """A good and a poor run on two corpora; the poor one predicted ten utterances of MELD less, five others more."""
    FeatureStore.open(root, load_catalog(CATALOG), create=True)
    good = {"meld": predicted("meld", 100, 0.8, 1), "afew": predicted("afew", 60, 0.6, 2)}
    poor = {"meld": predicted("meld", 95, 0.4, 3, first=10), "afew": predicted("afew", 60, 0.55, 4)}
    return make_run(root, good, "good"), make_run(root, poor, "poor", seed=1, training=PLAIN)


def test_scores_are_those_of_the_shared_utterances(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    pair(tmp_path)
    code, out, _ = merloco(capsys, "compare", "good", "poor", "--store", str(tmp_path), "--format", "json")
    afew, meld = json.loads(out)
    assert code == 0 and (afew["corpus"], meld["corpus"]) == ("afew", "meld")
    assert (meld["n"], meld["only_first"], meld["only_second"]) == (90, 10, 5)
    a, b = predicted("meld", 100, 0.8, 1), predicted("meld", 95, 0.4, 3, first=10)
    shared = sorted(a.keys() & b.keys())
    for name, rows in (("first", a), ("second", b)):
        truth, prediction = zip(*(rows[i] for i in shared), strict=True)
        assert meld[name] == pytest.approx(sk.balanced_accuracy_score(truth, prediction))
        assert meld[f"{name}_low"] < meld[name] < meld[f"{name}_high"]
    assert meld["difference"] == pytest.approx(meld["first"] - meld["second"])
    assert meld["difference_low"] > 0 and meld["p"] < 0.001
    assert meld["p_holm"] == pytest.approx(2 * meld["p"]) and afew["p_holm"] == afew["p"] > 0.05
    right = [a[i][0] == a[i][1] for i in shared], [b[i][0] == b[i][1] for i in shared]
    assert meld["first_right"] == sum(x and not y for x, y in zip(*right, strict=True))
    assert sum(meld[k] for k in ("both_right", "first_right", "second_right", "both_wrong")) == 90
    assert meld["mcnemar_p"] < 0.001 <= afew["mcnemar_p"]


def test_the_table_names_the_runs_and_corrects_over_all_its_rows(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    good, poor = pair(tmp_path)
    arguments = ["--metric", "uar,accuracy", "--store", str(tmp_path)]
    code, out, _ = merloco(capsys, "compare", good.name[:-4], f"poor/{poor.name}", *arguments)
    lines = out.splitlines()
    assert code == 0 and lines[:2] == [f"A  good/{good.name}", f"B  poor/{poor.name}"]
    assert sum(line.startswith(("meld", "afew")) for line in lines) == 4 + 2
    assert "utterances" in out


def test_whole_dialogues_are_resampled_on_request(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=100, extracted=False)
    make_run(tmp_path, {"meld": predicted("meld", 100, 0.8, 1)}, "good")
    make_run(tmp_path, {"meld": predicted("meld", 100, 0.4, 3)}, "poor", training=PLAIN)
    arguments = ["compare", "good", "poor", "--store", str(tmp_path), "--format", "json"]
    (by_dialogue,) = json.loads(merloco(capsys, *arguments, "--by", "dialogue")[1])
    (by_utterance,) = json.loads(merloco(capsys, *arguments, "--by", "utterance")[1])
    (by_default,) = json.loads(merloco(capsys, *arguments)[1])
    assert by_default == by_dialogue and by_dialogue["resampled"] == "dialogues"
    assert (by_dialogue["units"], by_utterance["units"]) == (20, 100)
    assert by_dialogue["first"] == by_utterance["first"] and by_dialogue["first_low"] != by_utterance["first_low"]
    _, out, _ = merloco(capsys, *arguments[:-2], "--by", "dialogue")
    assert "20 dialogues" in out


def test_names_that_are_unknown_ambiguous_or_equal_are_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    good, _ = pair(tmp_path)
    for arguments, sentence in (
        (("goof", "poor"), "no run 'goof': "),
        (("train-test", "poor"), "'train-test' begins the names of 2 runs"),
        (("good", f"good/{good.name}"), "are the same run"),
        (("good", "poor", "--metric", "uar,f2"), "unknown metric 'f2': "),
        (("good", "poor", "--metric", ","), "names nothing"),
    ):
        code, _, err = merloco(capsys, "compare", *arguments, "--store", str(tmp_path))
        assert code == 2 and sentence in the_sentence(err)


def test_runs_that_cannot_be_compared_are_one_sentence(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    pair(tmp_path)
    make_run(tmp_path, {"mosei": predicted("mosei", 20, 0.5, 0)}, "other")
    code, _, err = merloco(capsys, "compare", "good", "other", "--store", str(tmp_path))
    assert code == 1 and "(tested on mosei) predicted no utterance in common" in the_sentence(err)
    moved = {i: ("fear", p) for i, (_, p) in predicted("meld", 100, 0.8, 1).items()}
    make_run(tmp_path, {"meld": moved}, "moved", training=PLAIN)
    code, _, err = merloco(capsys, "compare", "good", "moved", "--store", str(tmp_path))
    assert code == 1 and "disagree on the truth of 100 of 100" in the_sentence(err)


def test_a_run_of_several_labels_is_compared_by_its_most_probable_class(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    make_run(tmp_path, {"mosei": predicted("mosei", 20, 0.8, 1)}, "single")
    make_run(tmp_path, {"mosei": predicted("mosei", 20, 0.5, 2)}, "multi", task="multi")
    code, _, err = merloco(capsys, "compare", "single", "multi", "--store", str(tmp_path))
    assert code == 0 and err.count("several labels at once") == 1


def test_a_store_without_runs_and_a_single_dialogue_are_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "compare", "a", "b", "--store", str(tmp_path))
    assert code == 1 and "holds no run" in the_sentence(err)
    make_run(tmp_path, {"meld": predicted("meld", 5, 0.8, 1)}, "good")
    make_run(tmp_path, {"meld": predicted("meld", 5, 0.4, 3)}, "poor", training=PLAIN)
    code, _, err = merloco(capsys, "compare", "good", "poor", "--by", "dialogue", "--store", str(tmp_path))
    assert code == 1 and "are of one dialogue: use --by utterance" in the_sentence(err)

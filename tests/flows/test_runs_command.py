"""`merloco runs`: what was tried is listed, shown, compared, tagged and removed."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from merloco.features.runs import adopt_run, read_config, run_folders
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.report_store import predicted
from tests.helpers.run_files import make_run
from tests.helpers.store_files import CATALOG


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two seeds of one experiment, and a run of another whose encoder has seen AFEW."""
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    for seed in (0, 1):
        make_run(tmp_path, {"meld": predicted(seed)}, "first", seed)
    afew = {"afew": predicted(3, corpus="afew")}
    run = make_run(tmp_path, afew, "second", 0, ["iemocap"], trained_on={"text": ["afew"]}, training={"loss": "plain"})
    record = json.loads((run / "config.json").read_text())
    record["trained_at"] = "2020-05-01T12:00:00+00:00"
    record["environment"]["validation"] = 0.5
    (run / "config.json").write_text(json.dumps(record))
    return tmp_path


def runs(capsys: pytest.CaptureFixture, root: Path, *arguments: str) -> str:
    code, out, err = merloco(capsys, "runs", *arguments, "--store", str(root))
    assert code == 0, err
    return out


def listed(capsys: pytest.CaptureFixture, root: Path, *arguments: str) -> list[dict]:
    return json.loads(runs(capsys, root, "list", *arguments, "--format", "json"))


def refused(capsys: pytest.CaptureFixture, root: Path, *arguments: str) -> str:
    code, _, err = merloco(capsys, "runs", *arguments, "--store", str(root))
    assert code == 2
    return the_sentence(err)


def test_the_list_has_the_newest_first_with_names_and_scores(capsys: pytest.CaptureFixture, root: Path) -> None:
    rows = listed(capsys, root)
    assert [row["experiment"] for row in rows] == ["first", "first", "second"]
    old = rows[-1]
    assert (old["trained_at"], old["validation"]) == ("2020-05-01 12:00:00", 0.5)
    assert old["name"] == "iemocap, text, light" and old["test_uar"] == {"afew": None}, "a leak is no score"
    assert rows[0]["test_uar"]["meld"] == pytest.approx(0.6, abs=0.15)
    table = runs(capsys, root, "list")
    (line,) = [line for line in table.splitlines() if "second" in line]
    assert line.startswith("2020-05-01 12:00") and re.search(r" 50\.0 +afew leak +-$", line)
    assert len(list(csv.DictReader(io.StringIO(runs(capsys, root, "list", "--format", "csv"))))) == 3


def test_filters_of_the_list(capsys: pytest.CaptureFixture, root: Path) -> None:
    name = listed(capsys, root, "--experiment", "second")[0]["run"]
    runs(capsys, root, "tag", name, "old one")
    assert len(listed(capsys, root, "--corpus", "meld")) == 2
    assert [row["run"] for row in listed(capsys, root, "--corpus", "iemocap")] == [name], "of training as well"
    assert [row["tags"] for row in listed(capsys, root, "--tag", "old one")] == [["old one"]]
    assert len(listed(capsys, root, "--since", "2020-05-01 12:00")) == 3
    assert len(listed(capsys, root, "--since", "2020-05-02")) == 2
    assert listed(capsys, root, "--since", "2020-05-02", "--experiment", "second") == []
    assert "did you mean 'meld'" in refused(capsys, root, "list", "--corpus", "mled")
    assert "did you mean 'first'" in refused(capsys, root, "list", "--experiment", "frist")
    assert "known: old one" in refused(capsys, root, "list", "--tag", "new")
    assert merloco(capsys, "runs", "list", "--since", "soon", "--store", str(root))[0] == 2


def test_a_store_without_runs_lists_none(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    assert listed(capsys, tmp_path) == []
    code, out, err = merloco(capsys, "runs", "list", "--store", str(tmp_path))
    assert (code, out) == (0, "") and "No run" in err


def test_show_says_settings_data_scores_and_place(capsys: pytest.CaptureFixture, root: Path) -> None:
    rows = json.loads(runs(capsys, root, "show", "second", "--format", "json"))
    found = {(row["part"], row["name"]): row["value"] for row in rows}
    assert found["settings", "loss"] == "plain" and found["label maps", "afew"] == "seven"
    assert found["run", "where"].startswith(str(root / "runs" / "second"))
    assert found["run", "an encoder has seen"] == "afew" and found["scores", "afew leak"] == "True"
    assert "training.loss" not in str(found) and float(found["scores", "afew uar"]) <= 1
    table = runs(capsys, root, "show", "second")
    assert "2020-05-01 12:00:00 UTC" in table and "Test scores in %" in table


def test_diff_shows_what_differs_and_nothing_else(capsys: pytest.CaptureFixture, root: Path) -> None:
    one, other = sorted(folder.name for folder in run_folders(root) if folder.parent.name == "first")
    rows = json.loads(runs(capsys, root, "diff", one, other, "--format", "json"))
    assert [(r["name"], r["a"], r["b"]) for r in rows if r["part"] != "scores"] == [("seed", "0", "1")]
    assert {r["name"] for r in rows if r["part"] == "scores"} <= {
        f"meld {metric}" for metric in ("uar", "macro_f1", "weighted_f1", "accuracy")
    }
    rows = json.loads(runs(capsys, root, "diff", one, "second", "--format", "json"))
    found = {(r["part"], r["name"]): (r["a"], r["b"]) for r in rows}
    assert found["settings", "loss"] == ("balanced", "plain") and found["settings", "train"] == ("meld", "iemocap")
    assert found["settings", "epochs"] == ("3", None) and ("settings", "feature_set") not in found
    assert found["views", "seen by.text"] == ("", "afew") and ("views", "text") not in found
    assert ("labels", "meld.map") in found and "same run" in refused(capsys, root, "diff", one, one)


def test_the_same_training_of_two_experiments_differs_in_the_name(capsys: pytest.CaptureFixture, root: Path) -> None:
    run = next(folder for folder in run_folders(root) if folder.parent.name == "second")
    config = read_config(run)["config"]
    adopt_run(root, run, {**config, "experiment": "third", "train": list(reversed(config["train"]))})
    code, out, err = merloco(capsys, "runs", "diff", "second", "third", "--store", str(root))
    assert code == 0 and "The same training under two names" in err
    assert [line.split() for line in out.splitlines()[5:]] == [["settings", "experiment", "second", "third"]]


def test_tags_come_and_go(capsys: pytest.CaptureFixture, root: Path) -> None:
    assert runs(capsys, root, "tag", "second", "paper").endswith(": paper\n")
    assert "known: paper" in refused(capsys, root, "tag", "second", "draft", "--remove")
    assert "cannot be a tag" in refused(capsys, root, "tag", "second", "a,b")
    assert "begins the names of 2 runs" in refused(capsys, root, "tag", "first", "paper")
    assert runs(capsys, root, "tag", "second", "paper", "--remove").endswith(": no tag\n")


def test_rm_removes_nothing_without_yes_and_then_what_it_said(capsys: pytest.CaptureFixture, root: Path) -> None:
    kept, gone = sorted(folder for folder in run_folders(root) if folder.parent.name == "first")
    runs(capsys, root, "tag", kept.name, "keep")
    code, out, err = merloco(capsys, "runs", "rm", "--experiment", "first", "--store", str(root))
    assert code == 0 and gone.name in out and kept.name not in out
    assert "Nothing was removed: run it again with --yes" in err and "has the tag keep" in err and gone.is_dir()
    runs(capsys, root, "rm", "--experiment", "first", "--yes")
    assert kept in run_folders(root) and gone not in run_folders(root) and len(run_folders(root)) == 2
    runs(capsys, root, "rm", f"first/{kept.name}", "--yes")
    assert [folder.parent.name for folder in run_folders(root)] == ["second"]
    assert "give runs, or --experiment" in refused(capsys, root, "rm", "--yes")
    assert "no run 'nosuch'" in refused(capsys, root, "rm", "second", "nosuch", "--yes")
    assert len(run_folders(root)) == 1, "one wrong name, and nothing goes"

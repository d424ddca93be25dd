"""Tags of runs and the removal of runs: what else is in the store stays as it is."""

import json
from pathlib import Path

import pytest

from merloco.features.maintenance.runs import add_tag, removable_runs, remove_runs, remove_tag
from merloco.features.runs import TAGS, adopt_run, read_config, run_folders, run_tags
from merloco.pipelines.errors import DataError, UsageError
from tests.helpers.run_folder import make_run

IDS = ["meld/train/dia0_utt0"]


def test_a_tag_stays_when_the_run_is_trained_again_and_goes_into_no_other_experiment(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    assert add_tag(tmp_path, run, "paper") == ["paper"] == add_tag(tmp_path, run, "paper")
    assert add_tag(tmp_path, run, "a b; not") == ["a b; not", "paper"]
    assert make_run(tmp_path, IDS) == run and run_tags(run) == ["a b; not", "paper"]
    copy = adopt_run(tmp_path, run, {**read_config(run)["config"], "experiment": "other"})
    assert run_tags(copy) == []
    assert remove_tag(tmp_path, run, "paper") == ["a b; not"] and remove_tag(tmp_path, run, "a b; not") == []
    assert not (run / TAGS).exists()


@pytest.mark.parametrize("tag", ["", " x", "x ", "a,b", "a\nb", "\x1b[31m", "x" * 65])
def test_what_cannot_be_a_tag_is_refused_and_changes_nothing(tmp_path: Path, tag: str) -> None:
    run = make_run(tmp_path, IDS)
    with pytest.raises(UsageError, match="cannot be a tag"):
        add_tag(tmp_path, run, tag)
    assert not (run / TAGS).exists()


def test_a_tag_that_is_not_there_and_a_broken_file_are_one_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    add_tag(tmp_path, run, "paper")
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        remove_tag(tmp_path, run, "papr")
    for text in ("{", '{"a": 1}', "[1]"):
        (run / TAGS).write_text(text)
        with pytest.raises(DataError, match=r"tags\.json: no list of tags"):
            run_tags(run)


def test_a_removal_leaves_the_same_run_of_another_experiment_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS, experiment="first")
    copy = adopt_run(tmp_path, run, {**read_config(run)["config"], "experiment": "second"})
    other = make_run(tmp_path, IDS, experiment="first", seed=1)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    (item,) = removable_runs(tmp_path, [run])
    assert item.shared == [f"second/{copy.name}"]
    weights = (run / "weights.safetensors").stat().st_size
    assert item.bytes == sum(p.stat().st_size for p in run.iterdir()) - weights, "linked weights stay on disk"
    assert run.is_dir(), "a plan changes nothing"
    remove_runs(tmp_path, [item])
    assert run_folders(tmp_path) == sorted([other, copy])
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in run.parent.iterdir()] == [other.name], "nothing half-removed is left"
    remove_runs(tmp_path, [item])  # somebody else was faster


def test_scores_with_a_modality_nullified_go_with_their_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS, experiment="ablation", protocol="ablation")
    twin = make_run(tmp_path, IDS, experiment="ablation", protocol="nullification", nullify=["text"])
    kept = make_run(tmp_path, IDS, experiment="ablation", protocol="nullification", nullify=["text"], seed=1)
    items = removable_runs(tmp_path, [run])
    assert {item.folder for item in items} == {run, twin}
    assert {item.folder for item in removable_runs(tmp_path, [twin])} == {twin}, "a score alone can go"
    remove_runs(tmp_path, items)
    assert run_folders(tmp_path) == [kept]


def test_a_run_that_is_gone_is_not_tagged(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    remove_runs(tmp_path, removable_runs(tmp_path, [run]))
    with pytest.raises(DataError, match="somebody removed it"):
        add_tag(tmp_path, run, "late")
    assert run_folders(tmp_path) == []


def test_tags_are_a_file_that_people_can_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    add_tag(tmp_path, run, "größer")
    assert json.loads((run / TAGS).read_text(encoding="utf-8")) == ["größer"]

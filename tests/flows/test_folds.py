"""Cross-validation by `merloco experiment`: folds are runs, in SQL and in one table, and add up to the corpus."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from merloco.features.runs import read_config, run_folders
from merloco.features.shards.format import plan_shards
from merloco.features.store import FeatureStore
from merloco.flows.experiments.folds import corpus_folds
from merloco.flows.experiments.plan import experiment_plan
from merloco.flows.report.paper import paper_tables
from merloco.pipelines.catalog.entries import Folds
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.iemocap_release import block, write_dialogue
from tests.helpers.store_files import CATALOG, extract_text, meld_samples

CODES = ("neu", "hap", "exc", "sad", "ang", "fru", "xxx", "sur")
SESSIONS = [f"Ses0{session}" for session in range(1, 6)]
EXPERIMENTS = {
    "random3": {"by": "random", "k": 3, "stratified": True},
    "dialogues": {"by": "dialogue", "k": 4},
    "speakers20": {"by": "speaker", "k": 20},
    "sessions": {"by": "session"},
}


def iemocap_release(root: Path, turns: int = 16) -> Path:
    """Four dialogues per session, of both actors, with eight labels; every eighth turn has no transcript."""
    for session in SESSIONS:
        for number in range(4):
            dialogue = f"{session}{'FM'[number % 2]}_impro0{1 + number}"
            names = [f"{dialogue}_{'FM'[i % 2]}{i:03d}" for i in range(turns)]
            codes = [CODES[(i + i // 8 + number) % 8] for i in range(turns)]
            lines = [f"{n} [{3 * i:08.4f}-{3 * i + 2:08.4f}]: I say {codes[i]} {i}." for i, n in enumerate(names)]
            blocks = (block(name, 3.0 * i, codes[i]) for i, name in enumerate(names))
            write_dialogue(root, dialogue, "".join(blocks), "\n".join(lines[i] for i in range(turns) if i % 8 != 7))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a generated IEMOCAP and a MELD without speakers, and a catalog with more experiments."""
    folder = tmp_path_factory.mktemp("folds")
    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    raw["feature_sets"]["words"] = {"text": "minilm"}
    quick = {"standardize": True, "learning_rate": 1e-2, "epochs": 3, "gated_dim": 8}
    raw["training"] |= {"light": quick, "words": quick}
    for name, folds in EXPERIMENTS.items():
        raw["experiments"][name] = {
            "protocol": "folds", "feature_sets": ["words"], "corpora": ["iemocap"], "maps": {"iemocap": "four"},
            "seeds": [0], "folds": folds,
        }  # fmt: skip
    (folder / "catalog.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return folder


def run(capsys: pytest.CaptureFixture, folder: Path, *arguments: str) -> tuple[int, str, str]:
    where = ("--store", str(folder / "store"), "--catalog", str(folder / "catalog.yaml"), "--no-flow")
    return merloco(capsys, *arguments, *where)


@pytest.fixture
def store(capsys: pytest.CaptureFixture, folder: Path) -> FeatureStore:
    catalog = load_catalog(folder / "catalog.yaml")
    if not (folder / "store").is_dir():
        release = iemocap_release(folder / "IEMOCAP_full_release")
        code, _, err = run(capsys, folder, "ingest", "iemocap", "--root", f"iemocap={release}")
        assert code == 0, err
        store = FeatureStore.open(folder / "store", catalog)
        write_parquet(samples_path(store.root, "meld"), to_table(meld_samples(60)))
        view = store.view("minilm")
        store.write_view_manifest(view)
        for corpus in ("iemocap", "meld"):
            for shard in plan_shards(corpus, store.samples([corpus]), "text"):
                extract_text(store, view, shard)
    return FeatureStore.open(folder / "store", catalog)


def usable(store: FeatureStore, classes: str) -> set[str]:
    """Samples with a label of some natives and a text vector."""
    rows = store.sql(
        "select sample_id from samples join minilm using (sample_id) "
        f"where corpus = 'iemocap' and status = 'ok' and label in ({classes})"
    )
    return {name for (name,) in rows.fetchall()}


FOUR = "'neu', 'hap', 'exc', 'sad', 'ang'"
SIX = f"{FOUR}, 'fru'"


@pytest.mark.parametrize(("name", "classes"), [("iemocap_sessions4", FOUR), ("iemocap_sessions6", SIX)])
def test_leave_one_session_out_in_one_command(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore, name: str, classes: str
) -> None:
    arguments = ("experiment", name, "--modalities", "text", "--seeds", "0,1")
    code, out, err = run(capsys, folder, *arguments)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines() if line.startswith("iemocap  light")]
    assert [line[2] for line in lines] == [*SESSIONS, "mean", "pooled"]
    assert "logistic UAR" in out and "majority UAR" in out and "chance wF1" in out
    expected = usable(store, classes)
    for seed in (0, 1):
        tested = store.sql(
            f"select fold, sample_id from runs join predictions using (run) "
            f"where experiment = '{name}' and seed = {seed}"
        ).fetchall()
        assert len(tested) == len(expected) and {sample_id for _, sample_id in tested} == expected
        assert all(sample_id.split("/")[1].startswith(fold) for fold, sample_id in tested)
    code, out, err = run(capsys, folder, *arguments)
    assert code == 0 and "10 runs, 10 of them read from the store." in out


def test_scores_of_each_fold_their_mean_and_all_pooled(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore
) -> None:
    arguments = ("experiment", "iemocap_sessions4", "--modalities", "text", "--seeds", "0")
    _, printed, _ = run(capsys, folder, *arguments)
    code, out, err = run(capsys, folder, *arguments, "--format", "jsonl")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["fold"] for row in rows] == SESSIONS
    ((pooled,),) = store.sql(
        "with p as (select truth, avg((truth = prediction)::int) as recall from predictions join runs using (run) "
        "where experiment = 'iemocap_sessions4' and seed = 0 group by truth) select avg(recall) from p"
    ).fetchall()
    assert all(row["pooled_uar"] == pytest.approx(pooled) for row in rows)
    assert all(row["pooled_low"] <= pooled <= row["pooled_high"] for row in rows)
    line = {words[2]: words[3:] for words in map(str.split, printed.splitlines()) if words[:2] == ["iemocap", "light"]}
    scores = [100 * row["uar"] for row in rows]
    assert line["mean"][:6] == ["±", "STD", "of", "5", f"{np.mean(scores):.1f}", "±"]
    assert line["mean"][6] == f"{np.std(scores, ddof=1):.1f}"
    assert line["pooled"][:3] == [str(sum(row["n"] for row in rows)), "100%", f"{100 * pooled:.1f}"]


@pytest.mark.parametrize("name", ["iemocap_speakers4", "random3", "dialogues"])
def test_folds_of_every_kind_add_up_to_every_usable_row_once(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore, name: str
) -> None:
    code, _, err = run(capsys, folder, "experiment", name, "--modalities", "text", "--seeds", "0")
    assert code == 0, err
    tested = store.sql(
        f"select sample_id from runs join predictions using (run) where experiment = '{name}'"
    ).fetchall()
    assert len(tested) == len(set(tested)) and {sample_id for (sample_id,) in tested} == usable(store, FOUR)
    config = read_config(next(f for f in run_folders(store.root) if f.parent.name == name))["config"]
    folds = store.catalog.experiment(name).folds
    assert folds is not None and config["fold"] == {**folds.model_dump(), "name": config["fold"]["name"]}


def test_systems_are_compared_fold_by_fold(capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore) -> None:
    for fusion in ("gated", "late"):
        code, _, err = run(capsys, folder, "experiment", "random3", "--fusion", fusion, "--seeds", "0,1")
        assert code == 0, err
    where = ("--store", str(store.root), "--catalog", str(folder / "catalog.yaml"))
    code, out, err = merloco(capsys, "compare", "random3,fusion=gated", "random3,fusion=late", *where)
    assert code == 0, err
    assert all(f"iemocap, {number} of 3" in out for number in (1, 2, 3)) and "mean of 3 folds" in out
    code, out, err = merloco(
        capsys, "compare", "random3,fusion=gated", "random3,fusion=late", *where, "--format", "jsonl"
    )
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert {row["fold"] for row in rows} == {"1 of 3", "2 of 3", "3 of 3", None}


def test_a_fold_of_another_experiment_with_the_same_rows_is_read(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore
) -> None:
    run(capsys, folder, "experiment", "iemocap_sessions4", "--modalities", "text", "--seeds", "0")
    code, out, err = run(capsys, folder, "experiment", "sessions", "--modalities", "text")
    assert code == 0 and "5 runs, 5 of them read from the store." in out, err


def test_official_parts_play_no_part_and_other_protocols_have_no_fold(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore
) -> None:
    folds = Folds(by="session")
    first = corpus_folds(store, "iemocap", folds)
    samples = from_table(store.samples(["iemocap"]))
    assert {part for split in first.values() for part in split.values()} == {"train", "val", "test"}
    assert {s.split for s in samples if first["Ses01"].get(s.sample_id) == "test"} <= {"train", "val"}
    code, _, err = run(capsys, folder, "train", "--train", "iemocap", "--test", "iemocap", "--modalities", "text")
    assert code == 0, err
    (trained,) = [f for f in run_folders(store.root) if f.parent.name == "train"]
    assert "fold" not in read_config(trained)["config"]
    assert store.sql("select distinct fold from runs where experiment = 'train'").fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sessions", "--corpora", "meld"), "meld has no sessions, and the experiment's folds are by session"),
        (("iemocap_speakers4", "--corpora", "meld"), "meld has no speakers, and the experiment's folds are by speaker"),
        (("speakers20",), "iemocap has 10 speakers with a label: k = 20 folds need 20 or more"),
    ],
)
def test_what_cannot_be_divided_is_one_sentence(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run(capsys, folder, "experiment", *arguments, "--modalities", "text")
    assert (code, out) == (1, "") and sentence in the_sentence(err)


def test_a_speaker_may_be_called_anything_and_some_may_be_unknown(
    capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore
) -> None:
    names = ["Chandler / Joey", "..", "Ross: 'Doctor' Geller " * 9, None]
    samples = [replace(s, speaker=names[i // 5 % 4]) for i, s in enumerate(meld_samples(60))]
    before = samples_path(store.root, "meld").read_bytes()
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    arguments = ("iemocap_speakers4", "--corpora", "meld", "--modalities", "text", "--seeds", "0")
    code, _, err = run(capsys, folder, "experiment", *arguments)
    samples_path(store.root, "meld").write_bytes(before)
    assert code == 0, err
    folds = store.sql("select fold from runs where list_contains(test, 'meld') and protocol = 'folds'").fetchall()
    assert {name for (name,) in folds} == {"unknown", *(name for name in names if name)}


def test_sessions_of_a_table_of_ones_own_are_its_column_of_that_name(store: FeatureStore) -> None:
    before = samples_path(store.root, "meld").read_bytes()
    samples = [replace(s, native={"session": i // 20}) for i, s in enumerate(meld_samples(60))]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    folds = corpus_folds(store, "meld", Folds(by="session"))
    samples_path(store.root, "meld").write_bytes(before)
    assert list(folds) == ["0", "1", "2"]


def test_the_report_shows_the_table(capsys: pytest.CaptureFixture, folder: Path, store: FeatureStore) -> None:
    run(capsys, folder, "experiment", "sessions")
    (table,), _ = paper_tables(store, "sessions")
    assert [row["fold"] for row in table.records] == [*SESSIONS, "mean ± STD of 5", "pooled"]
    out = folder / "report.html"
    where = ("--store", str(store.root), "--catalog", str(folder / "catalog.yaml"))
    code, _, err = merloco(capsys, "report", "sessions", "--output", str(out), *where)
    assert code == 0, err
    text = out.read_text(encoding="utf-8")
    assert "iemocap, fold Ses03" in text and "fold Ses03, rows" not in text


def test_a_plan_has_a_cell_for_every_fold(store: FeatureStore) -> None:
    plan = experiment_plan(store, "random3", modalities=["text"])
    assert [cell.fold.name for cell in plan.cells] == ["1 of 3", "2 of 3", "3 of 3"]
    assert plan.per_corpus

"""The report of a named experiment begins with its tables in the paper's shape, as `merloco experiment` prints them."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from merloco.features.runs import run_folders
from merloco.features.shards.commit import commits
from merloco.features.store import FeatureStore
from merloco.flows.cli.commands.train import run_plan
from merloco.flows.experiments.plan import experiment_plan
from merloco.flows.report.data import load_experiment
from merloco.flows.report.paper import paper_tables
from merloco.flows.report.write import write_report
from merloco.flows.results.paper import result_tables
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.command_line import merloco
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.report_files import Document
from tests.helpers.store_files import CATALOG

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def quick_store(folder: Path, corpora: list[str], **lacking: str) -> tuple[FeatureStore, Path]:
    """A store and experiments of two corpora that train in a second."""
    catalog = planted_catalog(folder)
    raw = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    for name in ("loco", "ablation", "single", "cross_corpus"):
        raw["experiments"][name] |= {"corpora": corpora, "maps": {}, "multi_label": []}
    raw["training"]["light"]["epochs"] = 3
    catalog.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return planted_store(folder / "store", catalog, n=60, lacking=lacking), catalog


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    return quick_store(tmp_path_factory.mktemp("planted"), ["meld", "afew"])


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    """AFEW has no text, and comes first."""
    return quick_store(tmp_path_factory.mktemp("silent"), ["afew", "meld"], afew="text")


@pytest.mark.parametrize("experiment", ["loco", "ablation"])
def test_the_report_shows_the_tables_that_the_experiment_printed(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path, experiment: str
) -> None:
    store, catalog = planted
    where = ["--store", str(store.root), "--catalog", str(catalog)]
    code, printed, err = merloco(capsys, "experiment", experiment, "--seeds", "0,1", "--device", "cpu", *where)
    assert code == 0, err
    path = tmp_path / "report.html"
    code, _, err = merloco(capsys, "report", experiment, "--output", str(path), *where)
    assert code == 0, err
    document = Document(path.read_text(encoding="utf-8"))
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    first = document.tables[0]
    assert len(first) > 1 and all(" ".join(" ".join(row).split()) in lines for row in first)
    assert "(the paper's Table" in document.text


def test_runs_of_another_definition_and_torn_ablations_have_no_table(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store", ignore=shutil.ignore_patterns("runs"))
    store, catalog = FeatureStore.open(tmp_path / "store", planted[0].catalog), tmp_path / "catalog.yaml"
    shutil.copy(planted[1], catalog)
    where = ["--store", str(store.root), "--catalog", str(catalog)]
    assert merloco(capsys, "experiment", "ablation", "--seeds", "0", "--device", "cpu", *where)[0] == 0
    whole, _ = paper_tables(store, "ablation")
    assert {row["corpus"] for row in whole[0].records if "published" not in row["corpus"]} == {"meld", "afew"}
    torn = next(f for f in run_folders(store.root) if "nullification" in f.name and "afew" in f.name)
    (torn / "config.json").unlink()
    left, _ = paper_tables(store, "ablation")
    assert {row["corpus"] for row in left[0].records if "published" not in row["corpus"]} == {"meld"}
    changed = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    changed["training"]["light"]["epochs"] = 4
    catalog.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    tables, why = paper_tables(FeatureStore(store.root, load_catalog(catalog)), "ablation")
    assert tables == [] and "`merloco experiment ablation` trains it again" in why
    assert paper_tables(store, "unknown") == (
        [],
        "The catalog has no experiment 'unknown', whose protocol would say which tables.",
    )


def test_runs_of_an_earlier_definition_are_not_mixed_in_and_counted(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store", ignore=shutil.ignore_patterns("runs"))
    catalog = tmp_path / "catalog.yaml"
    shutil.copy(planted[1], catalog)
    where = ["--store", str(tmp_path / "store"), "--catalog", str(catalog)]
    run = ["experiment", "loco", "--device", "cpu", *where]
    assert merloco(capsys, *run, "--seeds", "0,1")[0] == 0
    changed = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    changed["training"]["light"]["dropout"] = 0.3
    catalog.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    store = FeatureStore.open(tmp_path / "store", load_catalog(catalog))
    assert len(load_experiment(store, "loco").configs) == 4, "where none belongs to it, all are shown"
    out = merloco(capsys, *run, "--seeds", "0")[1]
    assert "4 more of this name in the store are of other seeds, settings or data, and in no table." in out
    path = tmp_path / "report.html"
    code, _, err = merloco(capsys, "report", "loco", "--output", str(path), *where)
    assert code == 0 and "4 of the 6 runs of this name in the store are not of the experiment" in err
    experiment = load_experiment(store, "loco")
    assert {config["training"]["dropout"] for config in experiment.configs.values()} == {0.3}
    assert set(experiment.epochs["run"].to_pylist()) == set(experiment.configs) and len(experiment.configs) == 2
    text = Document(path.read_text(encoding="utf-8")).text
    assert "4 of the 6 runs of this name" in text and "dropout 0.1" not in text


@pytest.mark.parametrize("experiment", ["ablation", "single", "cross_corpus"])
def test_a_corpus_without_a_modality_is_shown_as_the_experiment_showed_it(
    silent: tuple[FeatureStore, Path], tmp_path: Path, experiment: str
) -> None:
    store, catalog = silent
    plan = experiment_plan(store, experiment, (0, 1))
    outcomes = run_plan(str(catalog), str(store.root), plan, flow=False, device="cpu")
    shown, _ = paper_tables(store, experiment)
    assert shown == result_tables(plan.protocol, outcomes)
    note = "afew: no training row has text; trained without it"
    assert "afew" in [next(iter(row.values())) for row in shown[0].records] and note in shown[0].notes
    write_report(store, experiment, tmp_path / "report.html", shown)
    assert note in Document((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_an_ablation_has_a_dash_where_a_corpus_lacks_the_modality(silent: tuple[FeatureStore, Path]) -> None:
    store, catalog = silent
    plan = experiment_plan(store, "ablation", (0,))
    outcomes = run_plan(str(catalog), str(store.root), plan, flow=False, device="cpu")
    table, recalls = result_tables("ablation", outcomes)
    variants = [f"{how} {m}" for how in ("nullified", "excluded") for m in ("audio", "video", "text")]
    assert table.columns == ["corpus", "all", *variants]
    rows = {row["corpus"]: row for row in table.records}
    assert [v for v in variants if rows["afew"][v] == "-"] == ["nullified text", "excluded text"]
    assert "-" not in rows["meld"].values() and rows["meld, published"]["excluded text"] == "32.9"
    assert "afew, published" not in rows
    shown = [row["modalities"] for row in recalls.records if row["corpus"] == "afew"]
    assert shown == ["all", *(v for v in variants if "text" not in v)]


def test_runs_with_fewer_modalities_by_choice_are_not_those_of_the_experiment(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store", ignore=shutil.ignore_patterns("runs"))
    where = ["--store", str(tmp_path / "store"), "--catalog", str(planted[1])]
    loco = ["loco", "--corpora", "meld,afew", "--seeds", "0", "--device", "cpu", *where]
    store = FeatureStore.open(tmp_path / "store", planted[0].catalog)
    assert merloco(capsys, *loco, "--modalities", "audio,video")[0] == 0
    assert paper_tables(store, "loco")[0] == []
    assert merloco(capsys, *loco)[0] == 0
    assert len(paper_tables(store, "loco")[0]) == 1


def test_a_corpus_whose_features_are_gone_leaves_the_others_in_the_tables(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store", ignore=shutil.ignore_patterns("runs"))
    store = FeatureStore.open(tmp_path / "store", planted[0].catalog)
    where = ["--store", str(store.root), "--catalog", str(planted[1])]
    assert merloco(capsys, "experiment", "single", "--seeds", "0", "--device", "cpu", *where)[0] == 0
    folder = store.folder(store.view("minilm"))
    for commit in commits(folder):
        if commit.corpus == "afew":
            (folder / f"{commit.shard}.commit.json").unlink()
    assert {row["corpus"] for row in paper_tables(store, "single")[0][0].records} == {"meld"}


def test_an_experiment_of_a_corpus_that_is_not_ingested_has_no_tables(
    planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store")
    (tmp_path / "store" / "samples" / "afew.parquet").unlink()
    assert paper_tables(FeatureStore.open(tmp_path / "store", planted[0].catalog), "loco")[0] == []


def test_coverage_has_a_column_for_a_modality_that_the_first_run_does_without(
    capsys: pytest.CaptureFixture, silent: tuple[FeatureStore, Path]
) -> None:
    where = ["--store", str(silent[0].root), "--catalog", str(silent[1]), "--device", "cpu"]
    code, out, err = merloco(capsys, "loco", "--corpora", "meld,afew", "--seeds", "0", *where)
    assert code == 0, err
    head, _, meld, afew = (re.split(r"\s{2,}", line) for line in out.splitlines()[1:5])
    text = head.index("text")
    assert (meld[0], meld[text], afew[0], afew[text]) == ("meld", "-", "afew", "0%")

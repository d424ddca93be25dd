"""The report of a named experiment begins with its tables in the paper's shape, as `merloco experiment` prints them."""

import shutil
from pathlib import Path

import pytest
import yaml

from features.runs import run_folders
from features.store import FeatureStore
from flows.report.paper import paper_tables
from pipelines.catalog import load_catalog
from tests.planted_store import planted_catalog, planted_store
from tests.report_files import Document
from tests.store_files import CATALOG
from tests.test_cli import merloco


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    """A store and experiments of two corpora that train in a second."""
    folder = tmp_path_factory.mktemp("planted")
    catalog = planted_catalog(folder)
    raw = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    raw["experiments"] = {
        name: {**raw["experiments"][name], "corpora": ["meld", "afew"]} for name in ("loco", "ablation")
    }
    raw["experiments"]["ablation"] |= {"maps": {}, "multi_label": []}
    raw["training"]["light"]["epochs"] = 3
    catalog.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return planted_store(folder / "store", catalog, n=60), catalog


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
    assert len(first) > 2 and all(" ".join(" ".join(row).split()) in lines for row in first)
    assert "(the paper's Table" in document.text


def test_runs_of_another_definition_and_torn_ablations_have_no_table(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    shutil.copytree(planted[0].root, tmp_path / "store", ignore=shutil.ignore_patterns("runs"))
    store, catalog = FeatureStore.open(tmp_path / "store", planted[0].catalog), tmp_path / "catalog.yaml"
    shutil.copy(planted[1], catalog)
    where = ["--store", str(store.root), "--catalog", str(catalog)]
    assert merloco(capsys, "experiment", "ablation", "--seeds", "0", "--device", "cpu", *where)[0] == 0
    whole = paper_tables(store, "ablation")
    assert {row["corpus"] for row in whole[0].rows if "published" not in row["corpus"]} == {"meld", "afew"}
    torn = next(f for f in run_folders(store.root) if "nullification" in f.name and "afew" in f.name)
    (torn / "config.json").unlink()
    left = paper_tables(store, "ablation")
    assert {row["corpus"] for row in left[0].rows if "published" not in row["corpus"]} == {"meld"}
    changed = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    changed["training"]["light"]["epochs"] = 4
    catalog.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    assert paper_tables(FeatureStore(store.root, load_catalog(catalog)), "ablation") == []
    assert paper_tables(store, "unknown") == []

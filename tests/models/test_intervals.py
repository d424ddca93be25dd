"""One number has one interval: the table, machine-readable output, SQL, compare and the report show the same."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from merloco.features.store import FeatureStore
from merloco.models.metrics.intervals import FEW_CLUSTERS, clusters_of, score_intervals
from merloco.models.metrics.resampling import bootstrap
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.command_line import merloco
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.report_files import Document


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    folder = tmp_path_factory.mktemp("planted")
    catalog = planted_catalog(folder)
    return planted_store(folder / "store", catalog, n=600), catalog


def run(capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], *arguments: str) -> str:
    store, catalog = planted
    code, out, err = merloco(capsys, *arguments, "--store", str(store.root), "--catalog", str(catalog))
    assert code == 0, err
    return out


TRAIN = ("train", "--train", "meld", "--test", "meld", "--modalities", "text", "--epochs", "3")


def test_one_run_has_one_interval_wherever_it_stands(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    table = run(capsys, planted, *TRAIN, "--seeds", "0")
    (interval,) = re.findall(r"(\d+\.\d) to (\d+\.\d)", table)
    assert "2,000 resamples of dialogues" in table

    (row,) = json.loads(run(capsys, planted, *TRAIN, "--seeds", "0", "--format", "json"))
    store, catalog = planted
    opened = FeatureStore.open(store.root, load_catalog(catalog))
    ((low, high, resampled),) = opened.sql(
        f"select low, high, resampled from metrics where run = '{row['run']}' and metric = 'uar' and split = 'test'"
    ).fetchall()
    file = tmp_path / "report.html"
    run(capsys, planted, "report", "train", "--output", str(file))
    document = Document(file.read_text(encoding="utf-8"))
    (shown,) = [line for line in document.rows(1) if line["tested on"].startswith("meld")]

    assert (row["low"], row["high"]) == (low, high) == (row["mean_low"], row["mean_high"])
    assert resampled == row["resampled"] == "dialogues"
    assert tuple(f"{100 * value:.1f}" for value in (low, high)) == interval
    assert all(value in " ".join(shown.values()) for value in interval)


def test_a_cell_of_several_seeds_has_one_interval_too(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    table = run(capsys, planted, *TRAIN, "--seeds", "0,1")
    (interval,) = re.findall(r"(\d+\.\d) to (\d+\.\d)", table)
    rows = json.loads(run(capsys, planted, *TRAIN, "--seeds", "0,1", "--format", "json"))
    assert len(rows) == 2 and {row["seeds"] for row in rows} == {2}
    for row in rows:
        assert (f"{100 * row['mean_low']:.1f}", f"{100 * row['mean_high']:.1f}") == interval
        assert row["mean_uar"] == pytest.approx(np.mean([r["uar"] for r in rows]))
        assert row["std_uar"] == pytest.approx(np.std([r["uar"] for r in rows], ddof=1))
        assert {"majority_uar", "chance_weighted_f1"} <= row.keys()


def test_compare_shows_the_interval_of_the_table(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    rows = json.loads(run(capsys, planted, *TRAIN, "--seeds", "0,1", "--format", "json"))
    first, second = rows
    (row,) = json.loads(run(capsys, planted, "compare", first["run"], second["run"], "--format", "json"))
    assert (row["first_low"], row["first_high"]) == (first["low"], first["high"])
    assert (row["second_low"], row["second_high"]) == (second["low"], second["high"])
    assert row["resampled"] == "dialogues"


def test_dialogues_are_drawn_where_a_corpus_has_enough_of_them() -> None:
    rows = np.arange(60)
    dialogues = np.char.add("d", (rows // 4).astype(str))
    assert clusters_of(dialogues) is dialogues
    assert clusters_of(np.char.add("d", (rows // 20).astype(str))) is None and FEW_CLUSTERS > 3
    assert clusters_of(rows.astype(str)) is None


def test_intervals_are_those_of_the_bootstrap_and_do_not_depend_on_the_order_of_rows() -> None:
    generator = np.random.default_rng(1)
    truth, said = generator.choice(["a", "b", "c"], (2, 80))
    dialogues = np.char.add("d", (np.arange(80) // 5).astype(str))
    found = score_intervals(truth, said[None], dialogues)
    names = ["a", "b", "c"]
    drawn = bootstrap(*(np.array([names.index(x) for x in row]) for row in (truth, said)), 3, dialogues)
    assert found.metrics["uar"] == drawn.interval("uar") and found.resampled == "dialogues"
    order = generator.permutation(80)
    again = score_intervals(truth[order], said[order][None], dialogues[order])
    assert again.metrics == found.metrics and again.recall == found.recall

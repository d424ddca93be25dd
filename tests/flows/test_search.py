"""A search tries settings within its budget, chooses on validation and shows test scores of the chosen ones only."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merloco.features.store import FeatureStore
from merloco.flows.cli.app import EXTRAS
from merloco.flows.experiments.plan import experiment_plan
from merloco.flows.experiments.search import ROUND, draw_points, next_points
from merloco.flows.report.data import load_experiment
from merloco.flows.report.definition import defined_runs
from merloco.pipelines.catalog.entries import Range, Search, Training
from merloco.pipelines.catalog.loader import load_catalog
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.run_files import own_runs
from tests.helpers.store_files import CATALOG

SETTINGS = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "gated_dim": [4, 8]}


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


ranges = st.one_of(
    st.tuples(st.just("learning_rate"), st.floats(1e-6, 1e-3), st.floats(2e-3, 1.0), st.booleans()),
    st.tuples(st.just("dropout"), st.floats(0, 0.4), st.floats(0.5, 0.9), st.just(False)),
    st.tuples(st.just("batch_size"), st.integers(1, 50), st.integers(51, 5000), st.booleans()),
)


@given(drawn=st.lists(ranges, min_size=1, unique_by=lambda r: r[0]), number=st.integers(1, 15), seed=st.integers(0, 99))
def test_draws_are_settings_within_their_bounds_and_a_larger_budget_begins_alike(
    drawn: list[tuple[str, Any, Any, bool]], number: int, seed: int
) -> None:
    settings = {name: Range(low=low, high=high, log=log) for name, low, high, log in drawn}
    search = Search(settings={**settings, "loss": ("plain", "balanced")}, seed=seed)
    points = draw_points(search, number)
    assert len(set(points)) == len(points) == number
    assert points == draw_points(search, number + 5)[:number]
    for point in points:
        Training.model_validate(dict(point))
        assert all(settings[n].low <= v <= settings[n].high for n, v in point if n in settings)
        assert [name for name, _ in point] == sorted(search.settings)


def test_lists_that_the_budget_covers_are_a_grid_each_point_once() -> None:
    search = Search(settings={"loss": ("plain", "balanced"), "gated_dim": Range(low=1, high=5, log=True)})
    assert len(draw_points(search, 1000)) == 10 and len(set(draw_points(search, 1000))) == 10


def test_a_range_by_factors_has_as_many_draws_in_each_power_of_ten() -> None:
    search = Search(settings={"learning_rate": Range(low=1e-6, high=1e-2, log=True)})
    values = [dict(point)["learning_rate"] for point in draw_points(search, 2000)]
    counts = [sum(10.0**k <= value < 10.0 ** (k + 1) for value in values) for k in range(-6, -2)]
    assert all(400 < count < 600 for count in counts)


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"settings": {"learning_rat": [1e-3]}}, "did you mean 'learning_rate'"),
        ({"settings": {"learning_rate": {"low": 1e-3}}}, "learning_rate: key 'high' is missing"),
        ({"settings": {"learning_rate": {"low": 1e-3, "hgih": 1}}}, "did you mean 'high'"),
        ({"settings": {"learning_rate": {"low": 1e-2, "high": 1e-3}}}, "low 0.01 is not below high 0.001"),
        ({"settings": {"dropout": {"low": 0.0, "high": 0.5, "log": True}}}, "begins above 0"),
        ({"settings": {"dropout": {"low": 0.0, "high": 1.0}}}, "expected a number below 1"),
        ({"settings": {"gated_dim": {"low": 8.5, "high": 64}}}, "expected a whole number"),
        ({"settings": {"loss": {"low": 0, "high": 1}}}, "expected 'balanced' or 'plain'"),
        ({"settings": {"loss": "plain"}}, "expected a list of values or low and high"),
        ({"settings": {"loss": []}}, "an empty list leaves no run"),
        ({"settings": {"loss": ["plain", "plain"]}}, "is there twice"),
        ({"settings": {}}, "expected one or more"),
        ({"settings": SETTINGS, "budget": 2}, "one takes 3, a run per seed and feature set"),
        ({"settings": SETTINGS, "budget": 0}, "expected a number above 0"),
        ({}, "is missing"),
        (None, "`search` and `protocol: search` come together"),
    ],
)
def test_a_search_that_cannot_be_meant_is_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path, search: Any, sentence: str
) -> None:
    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    raw["experiments"]["search"] |= {"search": search, "seeds": [0, 1, 2]}
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    code, _, err = merloco(capsys, "experiment", "--catalog", str(tmp_path / "catalog.yaml"))
    assert code == 1 and sentence in the_sentence(err) and "search" in the_sentence(err)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    root = tmp_path_factory.mktemp("planted")
    catalog = search_catalog(root, {"settings": SETTINGS, "budget": 8})
    return planted_store(root / "store", catalog, n=60), catalog


def search_catalog(folder: Path, search: dict[str, Any], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    catalog = planted_catalog(folder)
    raw = yaml.safe_load(catalog.read_text(encoding="utf-8"))
    raw["experiments"]["search"] |= {"seeds": [0, 1], "corpora": ["meld", "afew"], "search": search, **changes}
    raw["training"]["light"]["epochs"] = 3
    catalog.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return catalog


def run(capsys: pytest.CaptureFixture, store: FeatureStore, catalog: Path, *arguments: str) -> str:
    where = ("--store", str(store.root), "--catalog", str(catalog), "--device", "cpu")
    code, out, err = merloco(capsys, "experiment", "search", *arguments, *where)
    assert code == 0, err
    return out


@pytest.mark.slow
def test_the_best_on_validation_is_chosen_and_alone_has_test_scores(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    store, catalog = planted
    rows = json.loads(run(capsys, store, catalog, "--format", "json"))
    assert len(rows) == 4, "8 runs are 4 settings with 2 seeds"
    assert [row["validation"] for row in rows] == sorted((row["validation"] for row in rows), reverse=True)
    assert [row["chosen"] for row in rows] == [True, False, False, False]
    assert rows[0]["uar_meld"] > 0 and all(row["uar_meld"] is row["uar_afew"] is None for row in rows[1:])
    means = store.sql("""
        select learning_rate, gated_dim, avg(validation) from runs where experiment = 'search' group by all""")
    best = max(means.fetchall(), key=lambda row: row[2])
    assert (rows[0]["learning_rate"], rows[0]["gated_dim"]) == best[:2] and rows[0]["seeds"] == 2
    lines = run(capsys, store, catalog).splitlines()
    assert lines[0] == "Search over training settings: 4 tried in 8 runs"
    assert all(line.split()[-2:] == ["-", "-"] for line in lines[4:7]) and "yes" in lines[3]


@pytest.mark.slow
def test_a_larger_budget_trains_the_further_settings_only(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, catalog = planted
    run(capsys, store, catalog)
    larger = search_catalog(tmp_path / "larger", {"settings": SETTINGS, "budget": 11})
    assert "10 runs, 8 of them read from the store" in run(capsys, store, larger)
    code, _, err = merloco(
        capsys,
        "experiment",
        "search",
        "--seeds",
        "0,1,2,3,4,5,6,7,8",
        "--store",
        str(store.root),
        "--catalog",
        str(catalog),
    )
    assert code == 2 and "one takes 9 runs" in the_sentence(err)


@pytest.mark.slow
def test_a_report_shows_the_chosen_settings_and_counts_the_others(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    store, catalog = planted
    chosen, *_ = json.loads(run(capsys, store, catalog, "--format", "json"))
    opened = FeatureStore.open(store.root, load_catalog(catalog))
    experiment = load_experiment(opened, "search")
    assert set(experiment.configs) == set(chosen["runs"])
    assert defined_runs(opened, "search").left_out.startswith("6 runs of the search were not chosen")


@pytest.mark.slow
def test_a_setting_that_diverges_costs_itself_alone(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    catalog = search_catalog(tmp_path, {"settings": {"learning_rate": [1e-2, 1e30]}, "budget": 4}, seeds=[0])
    store = planted_store(tmp_path / "store", catalog, n=60)
    where = ("--store", str(store.root), "--catalog", str(catalog), "--device", "cpu")
    code, out, err = merloco(capsys, "experiment", "search", *where)
    assert code == 0 and "left out of the search" in err and "1 tried in 1 runs" in out
    assert len(own_runs(store.root)) == 1


def test_optuna_suggests_new_settings_near_the_best_and_the_same_for_the_same_history() -> None:
    pytest.importorskip("optuna")
    rates = Range(low=1e-6, high=1.0, log=True)
    search = Search(
        settings={"learning_rate": rates, "gated_dim": Range(low=4, high=64), "loss": ("plain", "balanced")}
    )
    search = search.model_copy(update={"sampler": "tpe"})
    tried: dict[Any, float | None] = {}
    for _ in range(4):
        for point in next_points(search, tried, ROUND):
            assert point not in tried
            Training.model_validate(dict(point))
            off = abs(math.log10(dict(point)["learning_rate"]) + 3)
            tried[point] = None if off > 2.9 else 1 - off  # some diverge
    assert next_points(search, tried, 5) == next_points(search, tried, 5)
    assert list(tried)[:ROUND] == draw_points(search, ROUND)

    def mean_off(points: list[Any]) -> float:
        return sum(abs(math.log10(dict(point)["learning_rate"]) + 3) for point in points) / len(points)

    assert mean_off(list(tried)[-ROUND:]) < mean_off(list(tried)[:ROUND])


@pytest.mark.slow
def test_a_search_by_optuna_spends_its_budget_and_reads_itself_again(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    search = {"settings": SETTINGS, "budget": 13, "sampler": "tpe"}
    catalog = search_catalog(tmp_path, search, seeds=[0], corpora=["meld"])
    store = planted_store(tmp_path / "store", catalog, n=60)
    rows = json.loads(run(capsys, store, catalog, "--format", "json"))
    assert len(rows) == 13 and sum(row["chosen"] for row in rows) == 1
    assert "13 runs, 13 of them read from the store" in run(capsys, store, catalog)
    found = defined_runs(FeatureStore.open(store.root, load_catalog(catalog)), "search")
    assert (found.stored, len(found.runs), found.not_chosen) == (13, 1, 12)


def test_without_optuna_its_sampler_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    search = Search(settings={"loss": ("plain", "balanced"), "gated_dim": tuple(range(1, 40))}, sampler="tpe")
    tried = dict.fromkeys(draw_points(search, ROUND), 0.5)
    with pytest.raises(ModuleNotFoundError) as raised:
        next_points(search, tried, 1)
    assert EXTRAS[str(raised.value.name)] == "search"


def test_the_shipped_search_plans_as_many_runs_as_its_budget(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    plan = experiment_plan(store, "search")
    budget = store.catalog.experiment("search").search
    assert budget is not None and len(plan.cells) * len(plan.seeds) == budget.budget

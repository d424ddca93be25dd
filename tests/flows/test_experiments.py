"""`train` and `loco` on a small store: runs are data, the same config is read and not trained again."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from merloco.features.shards.format import plan_shards
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.run_files import own_runs
from tests.helpers.store_files import CATALOG, extract_text, make_store, meld_samples

TRAIN = ["train", "--train", "meld", "--test", "meld", "--modalities", "text", "--epochs", "3"]


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_run_writes_config_metrics_curve_predictions_and_weights(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = make_store(tmp_path, n=200)
    code, out, _ = merloco(capsys, *TRAIN, "--store", str(tmp_path))
    assert code == 0 and "majority UAR" in out
    (folder,) = own_runs(tmp_path)
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["views"] == {"text": store.view("minilm").fingerprint}
    assert record["config"]["training"]["epochs"] == 3 and record["environment"]["versions"]["torch"]
    assert load_file(folder / "weights.safetensors")["classifier.weight"].shape == (7, 128)
    assert store.sql("select count(*) from epochs").fetchall() == [(3 + 1,)]  # and the one of the baseline
    counts = """
        select count(*), count(distinct sample_id), min(len(map_keys(probabilities)))
        from predictions join runs using (run) where protocol = 'train'
    """
    tested = store.sql(
        "select count(*) from labels join minilm using (sample_id) where split = 'test' and status = 'ok'"
    )
    assert store.sql(counts).fetchall() == [(*tested.fetchall()[0], *tested.fetchall()[0], 7)]


def test_metrics_in_sql_are_those_of_the_predictions(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=200)
    merloco(capsys, *TRAIN, "--store", str(tmp_path))
    recomputed = """
        with p as (select truth, avg((truth = prediction)::int) as recall from predictions join runs using (run)
                   where protocol = 'train' group by truth)
        select avg(recall) from p
    """
    stored = (
        "select value from metrics join runs using (run) where metric = 'uar' and split = 'test' and protocol = 'train'"
    )
    assert store.sql(recomputed).fetchall()[0][0] == pytest.approx(store.sql(stored).fetchall()[0][0])


def test_the_same_config_is_read_and_force_trains_again(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=200)
    _, first, _ = merloco(capsys, *TRAIN, "--store", str(tmp_path))
    (folder,) = own_runs(tmp_path)
    written = (folder / "config.json").stat().st_mtime_ns
    _, second, _ = merloco(capsys, *TRAIN, "--store", str(tmp_path))
    assert "read from the store" in second
    assert second.splitlines()[:4] == first.splitlines()[:4]
    assert (folder / "config.json").stat().st_mtime_ns == written
    merloco(capsys, *TRAIN, "--store", str(tmp_path), "--force")
    assert own_runs(tmp_path) == [folder]
    assert (folder / "config.json").stat().st_mtime_ns != written


@pytest.mark.parametrize("change", [["--loss", "plain"], ["--seeds", "1"], ["--learning-rate", "0.01"]])
def test_another_setting_is_another_run(capsys: pytest.CaptureFixture, tmp_path: Path, change: list[str]) -> None:
    make_store(tmp_path, n=200)
    merloco(capsys, *TRAIN, "--store", str(tmp_path))
    merloco(capsys, *TRAIN, *change, "--store", str(tmp_path))
    assert len(own_runs(tmp_path)) == 2


def two_corpora(root: Path) -> FeatureStore:
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    view = store.view("minilm")
    for corpus in ("meld", "afew"):
        samples = meld_samples(100, corpus)
        if corpus == "afew":
            names = {"neutral": "Neutral", "joy": "Happy", "sadness": "Sad", "anger": "Angry"}
            samples = [type(s)(**{n: getattr(s, n) for n in s.__slots__} | {"label": names[s.label]}) for s in samples]
        write_parquet(samples_path(root, corpus), to_table(samples))
        shard = plan_shards(corpus, store.samples([corpus]), "text")[0]
        extract_text(store, view, shard)
    return store


def test_loco_tests_every_corpus_on_a_model_that_never_saw_it(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = two_corpora(tmp_path)
    arguments = ["loco", "--modalities", "text", "--epochs", "2", "--seeds", "0,1", "--store", str(tmp_path)]
    code, out, _ = merloco(capsys, *arguments, "--format", "json")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 4
    assert {(r["train"], r["corpus"]) for r in rows} == {("meld", "afew"), ("afew", "meld")}
    leaked = "select count(*) from runs, unnest(train) t(c) where list_contains(test, c)"
    assert store.sql(leaked).fetchall() == [(0,)]


def test_a_run_that_diverges_is_not_stored_and_the_sound_ones_of_its_sweep_are(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    make_store(tmp_path, n=200)
    code, out, err = merloco(capsys, *TRAIN, "--learning-rate", "1e30", "--store", str(tmp_path))
    assert code == 1 and not out and own_runs(tmp_path) == []
    assert "run 'meld -> meld, seed 0' diverged in epoch 1: " in the_sentence(err) and "of text)" in err
    raw = yaml.safe_load(CATALOG.read_text())
    raw["training"]["light"] = {"standardize": True, "epochs": 2}
    grid = {"learning_rate": [1e-3, 1e30, 1e-2]}
    raw["experiments"] = {"mine": {"protocol": "grid", "feature_sets": ["light"], "corpora": ["meld"], "grid": grid}}
    raw["feature_sets"]["light"] = {"text": "minilm"}
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(raw, sort_keys=False))
    arguments = ["experiment", "mine", "--seeds", "0,1", "--store", str(tmp_path), "--catalog", str(catalog)]
    for _ in range(2):  # what is stored is read, what diverged is tried again
        code, out, err = merloco(capsys, *arguments)
        assert code == 1 and not out
        assert "; 1 more runs diverged: run 'meld -> meld, seed " in the_sentence(err)
        assert "nothing is stored of what diverged; the other 4 runs are in the store" in err
        stored = [json.loads((f / "config.json").read_text())["config"]["training"] for f in own_runs(tmp_path)]
        assert sorted(training["learning_rate"] for training in stored) == [1e-3, 1e-3, 1e-2, 1e-2]


def test_a_run_that_predicts_one_class_is_marked_wherever_it_is_shown(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = make_store(tmp_path, n=200)
    arguments = [*TRAIN, "--learning-rate", "1e8", "--seeds", "0,1", "--store", str(tmp_path)]
    for _ in range(2):  # trained, then read from the store
        _, out, _ = merloco(capsys, *arguments)
        (line,) = [line for line in out.splitlines() if line.startswith("collapsed: ")]
        assert line.startswith("collapsed: trained on meld (light), every row of meld gets one class: ")
        _, out, _ = merloco(capsys, *arguments, "--format", "json")
        said = {row["seed"]: row["collapsed"] for row in json.loads(out)}
    predicted = dict(
        store.sql(
            "select seed, string_agg(distinct prediction) from predictions join runs using (run) "
            "where protocol <> 'reference' group by all"
        ).fetchall()
    )
    assert said == {seed: None if "," in classes else classes for seed, classes in predicted.items()}
    marked = dict(store.sql("select seed, collapsed from runs where protocol <> 'reference'").fetchall())
    assert marked == {seed: ["meld"] if name else [] for seed, name in said.items()} and any(marked.values())
    merloco(capsys, *TRAIN, "--store", str(tmp_path))
    assert store.sql("select collapsed from runs where config->>'$.training.learning_rate' <> '100000000.0'").fetchall()


def test_a_score_that_is_not_defined_is_null_in_the_record_and_a_dash_in_the_table(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    make_store(tmp_path, n=200)
    _, first, _ = merloco(capsys, *TRAIN, "--store", str(tmp_path))
    (folder,) = own_runs(tmp_path)

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    record = json.loads((folder / "config.json").read_text(), parse_constant=no_number)
    recall = record["environment"]["results"][0]["recall"]
    assert None in recall.values() and any(isinstance(value, float) for value in recall.values())
    _, again, _ = merloco(capsys, *TRAIN, "--store", str(tmp_path))
    assert again.splitlines()[:9] == first.splitlines()[:9]


def test_loco_of_one_corpus_and_of_missing_features_is_one_sentence(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    make_store(tmp_path, n=50)
    code, _, err = merloco(capsys, "loco", "--modalities", "text", "--store", str(tmp_path))
    assert code == 1 and "two corpora or more" in the_sentence(err)
    code, _, err = merloco(capsys, "train", "--train", "meld", "--test", "meld", "--store", str(tmp_path))
    assert code == 1 and "merloco extract --corpora meld --modalities audio" in the_sentence(err)


def test_a_corpus_that_an_encoder_has_seen_is_blanked_and_not_averaged(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    two_corpora(tmp_path)
    raw = yaml.safe_load(CATALOG.read_text())
    raw["encoders"]["minilm"]["trained_on"] = ["meld"]
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(raw, sort_keys=False))
    arguments = ["loco", "--modalities", "text", "--epochs", "2", "--store", str(tmp_path), "--catalog", str(catalog)]
    _, out, _ = merloco(capsys, *arguments)
    lines = {line.split()[0]: line.split() for line in out.splitlines()[3:5]}
    assert lines["meld"].count("-") == 6 and "-" not in lines["afew"]
    assert "meld: leak" in out and "average" not in out
    _, shown, _ = merloco(capsys, *arguments, "--show-leaks")
    assert "meld: leak" in shown and shown.splitlines()[3].count(" - ") == 0

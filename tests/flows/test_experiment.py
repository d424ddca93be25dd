"""`merloco experiment` on planted features: the paper's tables come out, and they say what was planted."""

import json
import re
from pathlib import Path

import pytest

from merloco.features.query.matrices import load_matrices
from merloco.features.runs import run_folders
from merloco.features.store import FeatureStore
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.planted_store import CORPORA, planted_catalog, planted_store
from tests.helpers.store_files import CATALOG

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    root = tmp_path_factory.mktemp("planted")
    catalog = planted_catalog(root)
    return planted_store(root / "store", catalog), catalog


def run(capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], *arguments: str) -> str:
    store, catalog = planted
    code, out, err = merloco(
        capsys, "experiment", *arguments, "--store", str(store.root), "--catalog", str(catalog), "--device", "cpu"
    )
    assert code == 0, err
    return out


def uar(text: str) -> float:
    return float(text.split(" ± ")[0])


def lines_of(out: str) -> dict[str, list[str]]:
    """First cell -> cells of a printed table's rows."""
    return {cells[0]: cells for line in out.splitlines() if len(cells := re.split(r"\s{2,}", line.strip())) > 2}


def test_the_ablation_finds_the_strong_modality_and_the_useless_one(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    out = run(capsys, planted, "ablation", "--seeds", "0,1")
    assert "71.6" in lines_of(out)["iemocap, published"] and "↓" in out
    assert "(beside a published row: as published)" in out
    store = planted[0]
    rows = store.sql("""
        select corpus, coalesce(config->>'$.nullify[0]', '') as nullified, config->>'$.modalities' as modalities,
               avg(value) as uar
        from metrics join runs using (run)
        where experiment = 'ablation' and metric = 'uar' and class is null and split = 'test' group by all""")
    found = {(c, n, m): v for c, n, m, v in rows.fetchall()}
    every, no_text, no_audio = '["audio","video","text"]', '["audio","video"]', '["video","text"]'
    for corpus in CORPORA:
        whole = found[corpus, "", every]
        assert found[corpus, "text", every] < whole - 0.2 and found[corpus, "", no_text] < whole - 0.2
        assert abs(found[corpus, "audio", every] - whole) < 0.2 and abs(found[corpus, "", no_audio] - whole) < 0.2


def test_nullified_scores_are_runs_of_their_own_with_predictions(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    run(capsys, planted, "ablation", "--seeds", "0,1")
    store = planted[0]
    counts = store.sql("""
        select protocol, count(distinct run), count(distinct sample_id) from predictions join runs using (run)
        where experiment = 'ablation' and list_contains(test, 'meld') group by all order by all""").fetchall()
    assert [(protocol, runs) for protocol, runs, _ in counts] == [("ablation", 8), ("nullification", 6)]
    assert counts[0][2] == counts[1][2]
    twins = [f for f in run_folders(store.root) if f.name.startswith("nullification")]
    assert twins and not any((folder / "weights.safetensors").exists() for folder in twins)


def test_loco_has_the_papers_columns_and_an_average(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    rows = lines_of(run(capsys, planted, "loco", "--seeds", "0,1"))
    assert rows["features"][1:] == [
        f"{kind} {c}" for c in ("iemocap", "meld", "mosei", "afew") for kind in ("w/o", "LOCO")
    ]
    assert all(uar(cell) > 40 for cell in rows["light"][1:])
    assert rows["published, average over the encoders"][1:] == [
        "47.1",
        "44.3",
        "48.4",
        "32.7",
        "59.8",
        "30.6",
        "51.1",
        "46.8",
    ]


def test_published_values_stand_only_beside_what_they_can_be_compared_with(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    three = planted_catalog(tmp_path, experiments__loco={"corpora": ["iemocap", "meld", "afew"]})
    out = run(capsys, (planted[0], three), "loco", "--seeds", "0")
    assert "44.3" not in out and "do not compare: they are over iemocap, mosei, meld, afew." in out
    four = planted_catalog(tmp_path, experiments__single={"maps": {"iemocap": "four"}})
    out = run(capsys, (planted[0], four), "single", "--seeds", "0")
    assert not any(line.split()[:2] == ["iemocap", "published"] for line in out.splitlines())
    assert "68.8" in out and "iemocap has other classes here (neutral, happy, sad, angry)" in out
    plain = planted_catalog(tmp_path, experiments__cross_corpus={"training": {"loss": "plain"}})
    out = run(capsys, (planted[0], plain), "cross_corpus", "--seeds", "0")
    assert "published, meld" not in out and "they are of networks trained with the balanced loss" in out


def test_held_out_is_what_the_run_did_not_train_on(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    rows = json.loads(run(capsys, planted, "cross_corpus", "--seeds", "0", "--format", "json"))
    assert all(row["held_out"] == (row["corpus"] != row["train"]) for row in rows) and len(rows) == 16


def test_cross_corpus_averages_leave_the_diagonal_out(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    rows = lines_of(run(capsys, planted, "cross_corpus", "--seeds", "0"))
    order = rows["trained on"][1:5]
    cells = {(a, b): uar(rows[a][1 + order.index(b)]) for a in order for b in order}
    for a in order:
        assert uar(rows[a][5]) == pytest.approx(sum(cells[a, b] for b in order if b != a) / 3, abs=0.11)
    column = sum(cells[a, "meld"] for a in order if a != "meld") / 3
    assert uar(rows["average of the others"][1 + order.index("meld")]) == pytest.approx(column, abs=0.11)
    gap = cells["meld", "meld"] - column
    assert uar(rows["gap to its own corpus"][1 + order.index("meld")]) == pytest.approx(gap, abs=0.11)
    assert rows["published, average of the others"][1:] == ["42.6", "24.8", "30.2", "40.2", "-"]
    assert rows["published, meld"][1:] == ["42.3", "30.4", "62.0", "42.1", "38.3"]


def test_single_corpus_has_six_classes_in_iemocap_and_several_labels_in_mosei(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    out = run(capsys, planted, "single", "--seeds", "0")
    assert "several labels per utterance" in out and "69.3" in out and "72.9" in out
    store = planted[0]
    classes = "select distinct class from metrics join runs using (run) where experiment = 'single' and corpus = ? "
    named = {c for (c,) in store.sql(classes.replace("?", "'iemocap'") + "and class is not null").fetchall()}
    assert named == {"neutral", "happy", "sad", "angry", "excited", "frustrated"}
    wacc = "select count(*) from metrics join runs using (run) where experiment = 'single' and metric = 'wacc' "
    assert store.sql(wacc + "and corpus = 'mosei' and class is null and split = 'test'").fetchall() == [(2,)]
    assert store.sql(wacc + "and corpus <> 'mosei'").fetchall() == [(0,)]


def test_a_grid_chooses_on_validation(capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]) -> None:
    out = run(capsys, planted, "grid")
    table = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.startswith("light")]
    assert len(table) == 6
    validation = [float(cells[3]) for cells in table]
    chosen = [len(cells) > 9 for cells in table]
    assert sum(chosen) == 1 and validation[chosen.index(True)] == max(validation)


def test_a_planted_leak_is_blanked_and_not_averaged(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    twice = {"feature_sets": ["light", "again"]}
    again = {"audio": "prosody", "video": "face_hog", "text": "minilm"}
    leaky = planted_catalog(
        tmp_path, encoders__minilm={"trained_on": ["meld"]}, experiments__loco=twice, feature_sets__again=again
    )
    out = run(capsys, (planted[0], leaky), "loco", "--seeds", "0")
    rows = lines_of(out)
    at = rows["features"].index("LOCO meld")
    assert rows["light"][at - 1 : at + 1] == ["-", "-"] and rows["average of the 2 feature sets"][at] == "-"
    assert "meld: leak" in out
    assert uar(lines_of(run(capsys, (planted[0], leaky), "loco", "--seeds", "0", "--show-leaks"))["light"][at]) > 40


def test_features_that_know_nothing_score_at_chance(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    catalog = planted_catalog(tmp_path)
    store = planted_store(tmp_path / "store", catalog, n=600, telling=False)
    rows = json.loads(run(capsys, (store, catalog), "loco", "--seeds", "0,1,2", "--format", "json"))
    for corpus in CORPORA:
        found = [r["uar"] - r["majority_uar"] for r in rows if r["corpus"] == corpus and r["held_out"]]
        assert abs(sum(found) / len(found)) < 0.1


def test_running_again_reads_the_store_and_force_does_not(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    first = run(capsys, planted, "cross_corpus", "--seeds", "0")
    again = run(capsys, planted, "cross_corpus", "--seeds", "0")
    assert "4 runs, 4 of them read from the store" in again
    assert again.splitlines()[:-1] == first.splitlines()[:-1]
    assert "4 runs, 0 of them" in run(capsys, planted, "cross_corpus", "--seeds", "0", "--force")


def test_the_paper_protocol_says_so(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    catalog = planted_catalog(
        tmp_path, experiments__single={"paper_protocol": True, "corpora": ["afew"], "maps": {}, "multi_label": []}
    )
    out = run(capsys, (planted[0], catalog), "single", "--seeds", "0")
    assert "Paper protocol: early stopping on the reported rows of afew." in out


def test_a_choice_by_few_validation_rows_is_said(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    catalog = planted_catalog(tmp_path)
    few = planted_store(tmp_path / "few", catalog, n=120)
    dataset = load_matrices(few, "light", ("meld",), ["text"])
    out = run(capsys, (few, catalog), "cross_corpus", "--seeds", "0")
    (line,) = [line for line in out.splitlines() if "validation rows chose the weights" in line]
    assert line.startswith("fewer than 50 ") and f"meld ({len(dataset.rows(('meld',), 'val'))})" in line
    many = planted_store(tmp_path / "many", catalog, n=1200)
    assert "chose the weights" not in run(capsys, (many, catalog), "cross_corpus", "--seeds", "0")


def test_experiments_are_listed_and_an_unknown_one_is_one_sentence(
    capsys: pytest.CaptureFixture, planted: tuple[FeatureStore, Path]
) -> None:
    assert set(lines_of(run(capsys, planted))) >= {"loco", "cross_corpus", "single", "ablation", "grid"}
    code, _, err = merloco(capsys, "experiment", "locko", "--store", str(planted[0].root))
    assert code == 2 and "did you mean 'loco'" in the_sentence(err)


def test_a_corpus_without_a_modality_is_trained_without_it(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    catalog = planted_catalog(tmp_path)
    store = planted_store(tmp_path / "store", catalog, n=120, lacking={"afew": "text"})
    out = run(capsys, (store, catalog), "ablation", "--seeds", "0")
    assert "afew: no training row has text; trained without it" in out
    assert "afew, published" not in lines_of(out) and "meld, published" in lines_of(out)
    assert "Published values are not shown, because they do not compare: afew has no text here." in out
    modalities = store.sql("""
        select distinct config->>'$.modalities' from runs
        where experiment = 'ablation' and list_contains(test, 'afew')""").fetchall()
    assert sorted(m for (m,) in modalities) == ['["audio","video"]', '["audio"]', '["video"]']
    assert "71.3" not in run(capsys, (store, catalog), "cross_corpus", "--seeds", "0")

"""`report`: what the file says is what the store holds, and no text of a corpus is taken for markup."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from merloco.features.store import FeatureStore
from merloco.flows.report.data import load_experiment
from merloco.flows.report.page import inert_json
from merloco.flows.report.utterances import principal
from merloco.flows.report.write import write_report
from merloco.flows.results.tables import ResultTable
from merloco.models.metrics.resampling import bootstrap
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.report_files import Document
from tests.helpers.report_store import NASTY, TRUTH, predicted, store_with_nasty_texts
from tests.helpers.run_files import CLASSES, make_run
from tests.helpers.store_files import CATALOG, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """Three seeds on one corpus, and one run whose encoder has seen the corpus that it was tested on."""
    root = tmp_path_factory.mktemp("store")
    made = store_with_nasty_texts(root)
    for seed in range(3):
        make_run(root, {"meld": predicted(seed), "afew": predicted(seed + 9, 0.4, 40, "afew")}, seed=seed)
    leaky = {"trained_on": {"text": ["afew"]}, "training": {"loss": "plain", "epochs": 3, "learning_rate": 0.001}}
    make_run(root, {"afew": predicted(5, 0.9, 40, "afew")}, seed=0, **leaky)
    yield made


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)


def written(store: FeatureStore, folder: Path) -> Document:
    write_report(store, "mine", folder / "report.html")
    return Document((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def path(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(store, "mine", file)
    return file


@pytest.fixture(scope="module")
def document(path: Path) -> Document:
    return Document(path.read_text(encoding="utf-8"))


def test_the_score_table_is_mean_and_std_over_the_seeds(store: FeatureStore, document: Document) -> None:
    meld, *_ = document.rows(1)
    values = [
        row[0]
        for row in store.sql(
            "select value from metrics join runs using (run) where corpus = 'meld' and metric = 'uar' order by seed"
        ).fetchall()
    ]
    assert meld["UAR"] == f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    assert (meld["tested on"], meld["runs"], meld["n"]) == ("meld (within)", "3", "100")
    assert meld["chance UAR/wF1"] == "25.0/25.0" and meld["majority wF1"] == "25.0" and meld["T"] == "100"


def test_the_interval_is_that_of_the_mean_over_the_seeds_by_dialogue(document: Document) -> None:
    meld, *_ = document.rows(1)
    ids = sorted(predicted(0))
    truth = np.array([TRUTH.index(predicted(0)[i][0]) for i in ids])
    said = np.array([[TRUTH.index(predicted(seed)[i][1]) for i in ids] for seed in range(3)])
    dialogues = np.array([i.split("_")[0] for i in ids])
    interval = bootstrap(truth, said, 4, dialogues).interval("uar")
    assert meld["95 % interval"] == f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def test_a_leak_is_named_and_drawn_nowhere(document: Document) -> None:
    leaked = [row for row in document.rows(1) if row["UAR"] == "leak"]
    assert [(row["tested on"], row["trained on"]) for row in leaked] == [("afew", "meld, loss plain")]
    assert "an encoder of the feature set was trained on that corpus, so" in document.text
    recalls = [f for f in document.figures if f["layout"]["yaxis"]["title"].get("text") == "recall, %"]
    assert [[trace["name"] for trace in f["data"]] for f in recalls] == [["meld, loss balanced"]] * 2
    intervals = document.figures[0]["data"][-1]
    assert intervals["y"] == [
        "meld (within) ← meld, loss balanced",
        "afew ← meld, loss balanced",
    ]
    (transfer,) = [f for f in document.figures if f["layout"]["yaxis"]["title"].get("text") == "trained on"]
    row = transfer["data"][0]["y"].index("meld, loss plain")
    assert transfer["data"][0]["text"][row] == ["", "leak"] and transfer["data"][0]["z"][row] == [None, None]


def test_confusion_counts_every_prediction_of_every_seed(document: Document) -> None:
    matrices = [f for f in document.figures if f["layout"]["yaxis"]["title"].get("text") == "truth"]
    assert len(matrices) == 2
    meld = matrices[0]["data"][0]
    assert meld["x"] == list(TRUTH)
    shown = [[int(cell.split("<br>")[1]) if cell else 0 for cell in row] for row in meld["text"]]
    pairs = [pair for seed in range(3) for pair in predicted(seed).values()]
    assert shown == [[pairs.count((t, p)) for p in TRUTH] for t in TRUTH]


def test_curves_have_a_line_per_seed_a_band_and_a_mean(document: Document) -> None:
    curves = next(f for f in document.figures if f["layout"]["xaxis"]["title"].get("text") == "epoch")
    filled = [trace for trace in curves["data"] if trace.get("fill")]
    assert len(filled) == 1 and len(curves["data"]) == 3 + 2 + 1 + 1


def test_texts_of_a_corpus_end_no_element_and_start_none(path: Path, document: Document) -> None:
    source = path.read_text(encoding="utf-8")
    assert document.title == "Emotion recognition: experiment mine"
    assert "img" not in document.tags and source.count("<script") == len(document.figures) + 2
    hardest = document.rows(3)
    assert any(row["text"].startswith(NASTY) for row in hardest)
    dots = [trace for f in document.figures for trace in f["data"] if trace["type"] == "scatter"]
    hovers = [text for trace in dots for text in trace.get("text") or []]
    assert hovers and all("&lt;/script&gt;" in text and "<img" not in text for text in hovers)


def test_the_file_refers_to_nothing_and_its_policy_lets_it(document: Document) -> None:
    assert document.references and all(reference.startswith("#") for reference in document.references)
    assert "url(" not in document.style and "@import" not in document.style
    directives = dict(part.strip().split(" ", 1) for part in document.policy.split(";"))
    assert directives["default-src"] == "'none'" and "connect-src" not in directives
    assert directives["script-src"].count("'sha256-") == 2 and "unsafe" not in directives["script-src"]


def test_the_same_store_gives_the_same_bytes(store: FeatureStore, path: Path, tmp_path: Path) -> None:
    size = write_report(store, "mine", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()
    assert size == path.stat().st_size < 8_000_000


def test_given_tables_come_first_with_their_notes(store: FeatureStore, tmp_path: Path) -> None:
    table = ResultTable(
        "UAR in %, as in <Table 4>",
        [{"encoders": "AFEW", "w/o MELD": 52.25, "published": None}, {"encoders": "MOSEI", "published": "43.2"}],
        ["<i>published</i>: as printed."],
    )
    write_report(store, "mine", tmp_path / "r.html", (table,))
    document = Document((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert document.tables[0][1:] == [["AFEW", "52.250", "-"], ["MOSEI", "-", "43.2"]]
    assert "as in <Table 4>" in document.text and "<i>published</i>: as printed." in document.text


def test_hardest_utterances_are_those_with_the_least_probability(document: Document) -> None:
    hardest = [row for row in document.rows(3) if row["utterance"].startswith("meld")]
    wrong = [i for i in predicted(0) if all(predicted(seed)[i][0] != predicted(seed)[i][1] for seed in range(3))]
    assert len(hardest) == 10 > len(wrong) > 0
    assert {row["utterance"] for row in hardest[: len(wrong)]} == set(wrong)
    assert {(row["by"], row["p(truth)"]) for row in hardest[: len(wrong)]} == {("3/3", "0.050")}
    assert {row["p(truth)"] for row in hardest[len(wrong) :]} == {"0.267"}


def test_coverage_says_what_is_missing_and_why(document: Document) -> None:
    (row,) = document.rows(2)
    assert (row["view"], row["utterances"], row["with features"]) == ("minilm", "100", "90")
    assert row["without, by status"] == "no_text 10"


def test_runs_on_other_data_are_not_averaged(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    make_run(tmp_path, {"meld": predicted(0)}, shards="a")
    make_run(tmp_path, {"meld": predicted(1)}, shards="b")
    experiment = load_experiment(store, "mine")
    assert len(experiment.rows) == 2 and all(len(row.runs) == 1 for row in experiment.rows)
    assert all(name.startswith("meld (") for name in experiment.conditions)


def test_a_score_without_predictions_has_its_chance_level_and_no_interval(tmp_path: Path) -> None:
    """Several labels at once have no single prediction to resample, and no truth to confuse it with."""
    store = make_store(tmp_path, n=10, extracted=False)
    make_run(tmp_path, {"meld": predicted(0)}, task="single")
    make_run(tmp_path, {"mosei": predicted(1, corpus="mosei")}, train=("mosei",), task="multi")
    document = written(store, tmp_path)
    meld, mosei = document.rows(1)
    assert meld["chance UAR/wF1"] == "25.0/25.0" and "–" in meld["95 % interval"]
    assert mosei["chance UAR/wF1"] == "-/-" and mosei["95 % interval"] == "-" and mosei["UAR"] != "-"
    assert [f for f in document.figures if f["layout"]["yaxis"]["title"].get("text") == "truth"][1:] == []


def test_a_feature_set_that_the_catalog_has_lost_costs_only_its_own_sections(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    make_run(tmp_path, {"meld": predicted(0)}, feature_set="lost")
    document = written(store, tmp_path)
    assert "Hardest utterances" in document.text
    assert "The catalog no longer has the experiment's feature sets." in document.text, (
        "a section that is missing says why"
    )


def test_conditions_are_named_by_what_differs(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    for nullify in ({}, {"nullify": ["text"], "protocol": "nullification"}):
        for seed in (0, 1):
            make_run(tmp_path, {"meld": predicted(seed)}, seed=seed, **nullify)
    conditions = load_experiment(store, "mine").conditions
    assert {name: len(runs) for name, runs in conditions.items()} == {"meld": 2, "meld, nullify text": 2}


def test_matrices_of_one_or_of_all_but_one_corpus_line_up_on_the_diagonal(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    corpora = ("afew", "meld", "iemocap")
    for number, corpus in enumerate(corpora):
        rows = {c: predicted(number, n=12, corpus=c) for c in corpora}
        make_run(tmp_path, rows, "cross", train=(corpus,))
        make_run(tmp_path, {corpus: rows[corpus]}, "loco", train=tuple(c for c in corpora if c != corpus))
    cross, loco = load_experiment(store, "cross"), load_experiment(store, "loco")
    assert cross.corpora == loco.corpora == ["iemocap", "meld", "afew"] == list(cross.conditions)
    assert list(loco.conditions) == ["afew + meld", "afew + iemocap", "meld + iemocap"]


def test_runs_with_classes_that_the_label_order_lacks_are_shown(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    make_run(tmp_path, {"meld": predicted(0)})
    assert load_experiment(store, "mine").classes == tuple(c for c in CLASSES if c in TRUTH)


def test_principal_components_explain_the_variance_in_order_and_do_not_flip() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((50, 1)) * [[3.0, -3.0, 0.0]] + generator.standard_normal((50, 3)) * 0.3
    points, explained = principal(matrix)
    again, _ = principal(matrix[::-1])
    assert explained[0] > explained[1] > 0 and explained.sum() <= 1 + 1e-9
    assert np.allclose(points, again[::-1])


def test_a_trained_run_is_reported_by_the_command(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=100)
    make_run(tmp_path, {"meld": predicted(0)}, "older")
    arguments = ["--store", str(tmp_path)]
    train = ["train", "--train", "meld", "--test", "meld", "--modalities", "text", "--epochs", "2"]
    assert merloco(capsys, *train, *arguments)[0] == 0
    path = tmp_path / "out" / "r.html"
    code, out, _ = merloco(capsys, "report", "--output", str(path), *arguments)
    assert code == 0 and "experiment 'train', which has the newest run (others: older)" in out
    settings = dict(Document(path.read_text(encoding="utf-8")).tables[-1][1:])
    assert settings["training.epochs"] == "2" and "versions.torch" in settings
    code, out, _ = merloco(capsys, "report", "older", "--output", str(path), *arguments)
    assert code == 0 and "experiment 'older'" in out and "newest" not in out


def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    make_store(tmp_path, n=5, extracted=False)
    code, _, err = merloco(capsys, "report", "--store", str(tmp_path))
    assert code == 1 and "holds no run" in the_sentence(err)
    make_run(tmp_path, {"meld": predicted(0)})
    code, _, err = merloco(capsys, "report", "mime", "--store", str(tmp_path))
    assert code == 1 and "did you mean 'mine'" in the_sentence(err)
    code, _, err = merloco(capsys, "report", "mine", "--output", str(tmp_path), "--store", str(tmp_path))
    assert code == 2 and "is a folder" in the_sentence(err)


def test_json_in_a_page_cannot_end_its_script_element() -> None:
    value = {"text": "</script><!--<script> & \u2028\u2029 ünïcode", "n": [1, None]}
    inert = inert_json(json.dumps(value, ensure_ascii=False))
    assert not set("<>&\u2028\u2029") & set(inert) and json.loads(inert) == value


def test_a_section_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=10, extracted=False)
    make_run(tmp_path, {"meld": predicted(0)}, curve=())
    text = written(store, tmp_path).text
    for title, why in {
        "Transfer between corpora": "No corpus was tested without being trained on.",
        "Learning curves": "No run of the experiment keeps a learning curve.",
        "Coverage": "The store holds no shard of the experiment's views",
        "Embeddings": "The store holds no three labelled vectors",
        "Contribution of modalities": "The runs keep no measured contributions",
    }.items():
        assert f"{title}" in text and why in text

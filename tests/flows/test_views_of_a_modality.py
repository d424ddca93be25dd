"""A feature set with two audio views trains, ablates, predicts and is reported view by view."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from merloco.features.query.matrices import load_matrices
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.store_files import CATALOG

AUDIO = ["prosody", "prosody_mean"]
NAMES = [*AUDIO, "video", "text"]


def two_view_catalog(folder: Path) -> Path:
    path = planted_catalog(
        folder,
        views__prosody_mean={"encoder": "prosody", "window": 4.0, "step": 2.0, "pooling": "mean"},
        feature_sets__two={"audio": AUDIO, "video": "face_hog", "text": "minilm"},
        experiments__views={"protocol": "ablation", "feature_sets": ["two"], "corpora": ["meld"], "seeds": [0]},
    )
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["training"]["two"] = raw["training"]["light"]
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("two")
    return planted_store(
        folder / "store", two_view_catalog(folder), n=90, features="two", lacking={"afew": "prosody_mean"}
    )


def run(capsys: pytest.CaptureFixture, store: FeatureStore, *arguments: str) -> tuple[int, str, str]:
    catalog = str(store.root.parent / "catalog.yaml")
    return merloco(capsys, *arguments, "--store", str(store.root), "--catalog", catalog)


def test_each_view_has_its_matrix_and_its_mask(store: FeatureStore) -> None:
    data = load_matrices(store, "two", ["meld", "afew"])
    assert list(data.features) == NAMES
    assert dict(data.modality_of) == {name: "audio" if name in AUDIO else name for name in NAMES}
    afew = data.corpus == "afew"
    assert data.present["prosody"].all() and not data.present["prosody_mean"][afew].any()
    assert list(load_matrices(store, "two", ["meld"], ["audio"]).features) == AUDIO
    assert list(load_matrices(store, "two", ["meld"], ["text", "prosody_mean"]).features) == ["prosody_mean", "text"]


def test_it_trains_and_ablates_view_by_view(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    code, out, err = run(capsys, store, "experiment", "views")
    assert code == 0, err
    for name in NAMES:
        assert f"nullified {name}" in out and f"excluded {name}" in out
    known = store.sql("select config->>'$.modalities' from runs where experiment = 'views' and protocol = 'ablation'")
    assert len(known.fetchall()) == 1 + len(NAMES)
    code, out, err = run(capsys, store, "report", "views", "--output", str(store.root.parent / "views.html"))
    assert code == 0, err
    page = (store.root.parent / "views.html").read_text(encoding="utf-8")
    assert "prosody_mean" in page


def test_a_corpus_without_one_view_is_tested_with_the_others(
    capsys: pytest.CaptureFixture, store: FeatureStore
) -> None:
    code, out, err = run(capsys, store, "train", "--train", "meld", "--test", "meld,afew", "--features", "two")
    assert code == 0, err
    header, meld, afew = (
        next(line for line in out.splitlines() if line.split()[:1] == [word]) for word in ("tested", "meld", "afew")
    )
    assert all(name in header for name in NAMES)
    assert meld.count("100%") == 4 and afew.count("100%") == 3 and " 0%" in afew


def test_modalities_name_views(capsys: pytest.CaptureFixture, store: FeatureStore) -> None:
    options = ("train", "--train", "meld", "--test", "meld", "--features", "two", "--modalities")
    code, out, err = run(capsys, store, *options, "prosody_mean")
    assert code == 0, err
    assert "prosody_mean" in out and "prosody " not in out
    code, _, err = run(capsys, store, *options, "prosody_maen")
    assert code == 2 and "'two'" in the_sentence(err) and "did you mean 'prosody_mean'?" in the_sentence(err)
    code, _, err = run(capsys, store, "train", "--train", "meld", "--test", "meld", "--modalities", "prosody")
    assert code == 2 and "no modality or view 'prosody'" in the_sentence(err)


def test_one_view_in_a_list_is_the_view_itself(tmp_path: Path) -> None:
    path = planted_catalog(tmp_path, feature_sets__one={"audio": ["prosody"], "text": "minilm"})
    assert load_catalog(path).feature_set("one").views == {"audio": "prosody", "text": "minilm"}


@pytest.mark.parametrize(
    ("views", "sentence"),
    [
        ("[]", r"audio: \[\]: expected one view or more, each once"),
        ("[prosody, prosody]", r"audio: \[prosody, prosody\]: expected one view or more, each once"),
        ("[prosody, minilm]", "feature_sets.light.audio: 'minilm' is no audio view"),
        ("[prosody, prosodi]", "feature_sets.light.audio: unknown view 'prosodi': did you mean 'prosody'"),
        ("{a: b}", "feature_sets.light.audio: expected a view or a list of views, found {'a': 'b'}"),
        ("[1]", r"feature_sets.light.audio: expected a view or a list of views, found \(1,\)"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_sentence(tmp_path: Path, views: str, sentence: str) -> None:
    text = CATALOG.read_text(encoding="utf-8").replace("light: {audio: prosody,", f"light: {{audio: {views},")
    (tmp_path / "catalog.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=sentence) as caught:
        load_catalog(tmp_path / "catalog.yaml")
    assert "\n" not in str(caught.value)


def test_exports_hold_a_column_for_each_view_and_mmsa_says_that_it_cannot(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    out = tmp_path / "x.parquet"
    code, _, err = run(capsys, store, "export", "parquet", str(out), "--corpora", "meld", "--features", "two")
    assert code == 0 and {"prosody", "prosody_mean", "face_hog", "minilm"} <= set(pq.read_schema(out).names), err
    arguments = ["--corpora", "meld", "--features", "two"]
    code, _, err = run(capsys, store, "export", "mmsa", str(tmp_path / "x.pkl"), *arguments)
    assert code == 1 and "several views of a modality (prosody, prosody_mean)" in the_sentence(err)

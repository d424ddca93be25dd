"""catalog.yaml is checked when it is read: a wrong key or value is one sentence with the nearest known name."""

from pathlib import Path

import pytest
import yaml

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.samples.schema import EMOTIONS

CATALOG = Path(__file__).parents[2] / "catalog.yaml"


@pytest.fixture
def raw() -> dict:
    return yaml.safe_load(CATALOG.read_text())


def load(tmp_path: Path, raw: dict):
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load_catalog(path)


def test_the_shipped_catalog_declares_its_corpora_and_both_feature_sets() -> None:
    catalog = load_catalog(CATALOG)
    assert list(catalog.corpora) == ["iemocap", "meld", "mosei", "afew", "ravdess", "crema_d", "savee"]
    assert catalog.label_order == EMOTIONS
    assert set(catalog.feature_sets) == {"light", "published"}
    assert all(set(s.views) == {"audio", "video", "text"} for s in catalog.feature_sets.values())


def test_a_misspelt_key_names_the_nearest_one(tmp_path: Path, raw: dict) -> None:
    raw["corpora"]["meld"]["media_rulez"] = {}
    with pytest.raises(DataError, match=r"unknown key 'corpora\.meld\.media_rulez': did you mean 'media_rules'\?"):
        load(tmp_path, raw)


def test_a_misspelt_top_level_key_names_the_nearest_one(tmp_path: Path, raw: dict) -> None:
    raw["viewz"] = raw.pop("views")
    with pytest.raises(DataError, match=r"unknown key 'viewz': did you mean 'views'\?"):
        load(tmp_path, raw)


def test_a_misspelt_required_key_names_the_nearest_one(tmp_path: Path, raw: dict) -> None:
    raw["views"]["minilm"] = {"encodr": "minilm"}
    with pytest.raises(DataError, match=r"unknown key 'views\.minilm\.encodr': did you mean 'encoder'\?"):
        load(tmp_path, raw)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG.read_text() + "\nexperiments: {}\n")
    with pytest.raises(DataError, match=r"catalog\.yaml:\d+: broken YAML: key 'experiments' is there twice"):
        load_catalog(path)


def test_maps_without_classes_follow_the_label_order(tmp_path: Path, raw: dict) -> None:
    raw["label_order"] = list(EMOTIONS[::-1])
    catalog = load(tmp_path, raw)
    assert catalog.corpus("meld").maps["seven"].classes == EMOTIONS[::-1]
    assert catalog.corpus("iemocap").maps["four"].classes == ("neutral", "happy", "sad", "angry")
    raw["label_order"].append("happy")
    with pytest.raises(DataError, match=r"label_order: .*expected each class once"):
        load(tmp_path, raw)


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("store: x\ncorpora: [\n")
    with pytest.raises(DataError, match=r"catalog\.yaml:3: broken YAML"):
        load_catalog(path)


def test_a_missing_catalog_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--catalog"):
        load_catalog(tmp_path / "none.yaml")


def test_a_map_to_an_unknown_class_fails(tmp_path: Path, raw: dict) -> None:
    raw["corpora"]["meld"]["maps"]["seven"]["labels"]["joy"] = "hapy"
    with pytest.raises(DataError, match=r"'hapy'.*did you mean 'happy'"):
        load(tmp_path, raw)


@pytest.mark.parametrize(
    ("section", "name", "key", "value"),
    [
        ("views", "minilm", "encoder", "minilmm"),
        ("feature_sets", "light", "text", "minlm"),
        ("experiments", "loco", "feature_sets", ["lite"]),
        ("encoders", "text_published", "trained_on", ["melt"]),
        ("corpora", "meld", "map", "sevn"),
    ],
)
def test_names_must_resolve(tmp_path: Path, raw: dict, section: str, name: str, key: str, value: object) -> None:
    raw[section][name][key] = value
    with pytest.raises(DataError, match="did you mean"):
        load(tmp_path, raw)


def test_environment_variables_give_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELD_ROOT", "somewhere")
    monkeypatch.delenv("AFEW_ROOT", raising=False)
    catalog = load_catalog(CATALOG)
    assert catalog.corpus("meld").root == "somewhere"
    assert catalog.corpus("afew").root == ""


def test_an_unknown_corpus_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="unknown corpus 'mled': did you mean 'meld'"):
        load_catalog(CATALOG).corpus("mled")


def test_no_absolute_path_in_the_catalog() -> None:
    assert not [line for line in CATALOG.read_text().splitlines() if ": /" in line or '"/' in line]

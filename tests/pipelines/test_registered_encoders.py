"""Encoders that a store brings along: additions to the catalog, checked, clashing with nothing, and movable."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.entries import EncoderEntry, ViewEntry
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.catalog.registered import (
    ENCODER_FILE,
    RegisteredEncoder,
    encoder_folder,
    write_registered_encoder,
)
from merloco.pipelines.errors import DataError
from tests.helpers.store_files import CATALOG

BASES = {
    "audio": ("wav2vec2_projector", ViewEntry(encoder="a", window=4.0, step=2.0, pooling="mean_std")),
    "video": ("resnet50_affectnet", ViewEntry(encoder="v", window=4.0, step=2.0, pooling="mean_std")),
    "text": ("hf_text", ViewEntry(encoder="t")),
}


def registered(name: str, modality: str, **changes: object) -> RegisteredEncoder:
    kind, view = BASES[modality]
    entry = {"kind": kind, "modality": modality, "checkpoint": "weights", "trained_on": ("meld",)}
    values = {
        "encoder": EncoderEntry.model_validate({**entry, **changes.pop("encoder", {})}),  # type: ignore[dict-item]
        "view": view.model_copy(update={"encoder": name}),
        "feature_set": "light_meld",
        "base_feature_set": "light",
        "description": {},
    }
    return RegisteredEncoder(**{**values, **changes})  # type: ignore[arg-type]


def add(store: Path, name: str, modality: str, **changes: object) -> Path:
    return write_registered_encoder(store, name, registered(name, modality, **changes))


def test_encoders_of_one_corpus_fill_one_feature_set(tmp_path: Path) -> None:
    add(tmp_path, "text_meld", "text")
    add(tmp_path, "audio_meld", "audio")
    catalog = load_catalog(CATALOG, tmp_path)
    assert catalog.feature_set("light_meld").views == {"audio": "audio_meld", "video": "face_hog", "text": "text_meld"}
    assert catalog.feature_set("light").views["text"] == "minilm"
    assert catalog.encoders["text_meld"].trained_on == ("meld",)
    assert catalog.encoders["text_meld"].checkpoint == str(tmp_path / "encoders" / "text_meld" / "weights")
    assert catalog.view("audio_meld").window == 4.0
    assert catalog.training["light_meld"] == catalog.training["light"]


def test_other_stores_and_the_catalog_file_know_nothing_of_it(tmp_path: Path) -> None:
    before = CATALOG.read_bytes()
    add(tmp_path / "one", "text_meld", "text")
    assert "text_meld" not in load_catalog(CATALOG, tmp_path / "other").encoders
    assert CATALOG.read_bytes() == before


def test_a_feature_set_of_the_catalog_can_name_the_view(tmp_path: Path) -> None:
    add(tmp_path / "store", "text_meld", "text")
    content = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    content["feature_sets"]["mine"] = {"audio": "prosody", "text": "text_meld"}
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(content))
    catalog = load_catalog(tmp_path / "catalog.yaml", tmp_path / "store")
    assert FeatureStore.open(tmp_path / "store", catalog, create=True).catalog.feature_set("mine").text == "text_meld"
    with pytest.raises(DataError, match=r"feature_sets\.mine\.text: unknown view 'text_meld'"):
        load_catalog(tmp_path / "catalog.yaml", tmp_path / "elsewhere")


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    add(
        tmp_path / "one",
        "video_meld",
        "video",
        encoder={"parameters": {"detector_checkpoint": "weights/detector/r.pth"}},
    )
    assert str(tmp_path) not in (encoder_folder(tmp_path / "one", "video_meld") / ENCODER_FILE).read_text()
    shutil.move(tmp_path / "one", tmp_path / "two")
    moved = load_catalog(CATALOG, tmp_path / "two").encoders["video_meld"]
    assert moved.parameters["detector_checkpoint"] == str(
        tmp_path / "two" / "encoders" / "video_meld" / "weights" / "detector" / "r.pth"
    )


def test_a_set_can_build_on_another_stores_set_whatever_the_order_of_names(tmp_path: Path) -> None:
    add(tmp_path, "z_meld", "text")
    add(tmp_path, "a_meld_afew", "audio", feature_set="light_meld_afew", base_feature_set="light_meld")
    catalog = load_catalog(CATALOG, tmp_path)
    assert catalog.feature_set("light_meld_afew").views == {
        "audio": "a_meld_afew",
        "video": "face_hog",
        "text": "z_meld",
    }


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("minilm", {}, "the catalog has its own encoder 'minilm' and view 'minilm'"),
        ("t", {"feature_set": "published"}, "the catalog has its own feature set 'published'"),
        ("t", {"base_feature_set": "lite"}, "the catalog has no feature set 'lite' to build on: did you mean 'light'?"),
        ("t", {"encoder": {"trained_on": ("msp",)}}, "trained on 'msp', which the catalog does not know"),
        ("t", {"encoder": {"checkpoint": "/etc/weights"}}, "'/etc/weights': expected a path inside the folder"),
        ("t", {"encoder": {"checkpoint": "../weights"}}, "'../weights': expected a path inside the folder"),
    ],
)
def test_what_does_not_go_with_the_catalog_is_one_sentence(
    name: str, changes: dict, sentence: str, tmp_path: Path
) -> None:
    path = add(tmp_path, name, "text", **changes)
    with pytest.raises(DataError) as caught:
        load_catalog(CATALOG, tmp_path)
    assert str(path) in str(caught.value) and sentence in str(caught.value)


def test_two_encoders_for_one_place_are_refused(tmp_path: Path) -> None:
    add(tmp_path, "one", "text")
    add(tmp_path, "two", "text")
    with pytest.raises(DataError, match="feature set 'light_meld' has 'one' for text already"):
        load_catalog(CATALOG, tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"encoder": 1}', "[1]"])
def test_a_broken_record_is_one_sentence(content: str, tmp_path: Path) -> None:
    path = add(tmp_path, "one", "text")
    path.write_text(content)
    with pytest.raises(DataError, match=r"encoder\.json: not a fine-tuned encoder: "):
        load_catalog(CATALOG, tmp_path)


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = add(tmp_path, "one", "text")
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": "rm"}))
    with pytest.raises(DataError, match="not a fine-tuned encoder: run: "):
        load_catalog(CATALOG, tmp_path)


def test_an_unfinished_encoder_is_not_there(tmp_path: Path) -> None:
    (encoder_folder(tmp_path, "half") / "weights").mkdir(parents=True)
    assert "half" not in load_catalog(CATALOG, tmp_path).encoders

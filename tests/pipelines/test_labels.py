"""Labels are data: maps are applied by name, and changing one changes targets and nothing else."""

import pytest

from merloco.pipelines.catalog.entries import LabelMap, MultiLabel
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import EMOTIONS, Sample, to_table
from tests.helpers.store_files import CATALOG

MOSEI = load_catalog(CATALOG).corpus("mosei").maps
SIX = dict.fromkeys(("happy", "sad", "anger", "surprise", "disgust", "fear"), 0.0)


def one(label_map: LabelMap, **values: float) -> tuple[str | None, dict[str, float], str | None]:
    """Emotion, present classes and reason of one sample with intensities."""
    table = to_table([Sample("mosei/v/1", "mosei", "train", intensities=SIX | values)])
    row = apply_map(table, "mosei", label_map).to_pylist()[0]
    return row["emotion"], {c for c, v in zip(EMOTIONS, row["target"], strict=True) if v}, row["reason"]


def test_the_strongest_emotion_is_the_single_label_and_all_present_ones_the_target() -> None:
    assert one(MOSEI["dominant"], happy=1.0, fear=0.333) == ("happy", {"happy", "fear"}, None)


def test_ties_are_dropped_or_go_to_the_first_class() -> None:
    assert one(MOSEI["dominant"], anger=1.0, sad=1.0) == (None, {"angry", "sad"}, "tie")
    assert one(MOSEI["dominant_first"], anger=1.0, sad=1.0) == ("sad", {"angry", "sad"}, None)


def test_all_zero_is_looked_at_before_the_maximum() -> None:
    assert one(MOSEI["dominant"]) == (None, set(), "all_zero")
    assert one(MOSEI["dominant_first"]) == (None, set(), "all_zero")
    assert one(MOSEI["dominant_neutral"]) == ("neutral", {"neutral"}, None)


def test_the_presence_threshold_is_exclusive() -> None:
    strict = MOSEI["dominant"].model_copy(update={"multi": MultiLabel(presence=1.0)})
    assert one(strict, happy=1.0, sad=1.333) == ("sad", {"sad"}, None)


def test_the_mask_says_which_classes_a_corpus_annotates_at_all() -> None:
    assert "neutral" not in MOSEI["dominant"].annotated
    assert "neutral" in MOSEI["dominant_neutral"].annotated
    iemocap = load_catalog(CATALOG).corpus("iemocap").maps
    assert iemocap["four"].annotated == ("neutral", "happy", "sad", "angry")
    assert iemocap["seven"].annotated == EMOTIONS


def test_an_unknown_label_raises_with_the_known_ones() -> None:
    seven = load_catalog(CATALOG).corpus("meld").maps["seven"]
    table = to_table([Sample("meld/train/x", "meld", "train", label="joi")])
    with pytest.raises(DataError, match=r"unknown label 'joi': did you mean 'joy'\? known: anger, disgust, fear"):
        apply_map(table, "meld", seven)


def test_a_sample_without_a_label_is_unlabelled_and_kept() -> None:
    seven = load_catalog(CATALOG).corpus("afew").maps["seven"]
    table = to_table([Sample("afew/test/000000001", "afew", "none")])
    row = apply_map(table, "afew", seven).to_pylist()[0]
    assert (row["emotion"], row["target"], row["reason"]) == (None, None, "unlabelled")

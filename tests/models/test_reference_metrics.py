"""The published metrics to the last digit: golden vectors of the single-label and the multi-label scores."""

import os
from pathlib import Path

import numpy as np
import pytest

from merloco.models.metrics.multilabel import score_multi
from merloco.models.metrics.resampling import metric_values
from merloco.models.metrics.scores import confusion

FOLDER = Path(os.environ.get("MERLOCO_REFERENCE", Path(__file__).parents[1] / "data" / "reference"))
GOLDEN = np.load(FOLDER / "metrics.npz")
LABELS = tuple("abcdef")


@pytest.mark.parametrize(
    ("metric", "name"), [("accuracy", "acc"), ("uar", "uar"), ("macro_f1", "macro_f1"), ("weighted_f1", "weighted_f1")]
)
def test_scores_of_confusion_counts(metric: str, name: str) -> None:
    counts = confusion(GOLDEN["y"], GOLDEN["pred"], 7)
    assert float(metric_values(counts, metric)) == pytest.approx(float(GOLDEN[name]), abs=1e-9)


def test_multi_label_scores() -> None:
    s = score_multi(GOLDEN["multi_y"], GOLDEN["multi_pred"], LABELS)
    assert s.accuracy == pytest.approx(float(GOLDEN["multi_acc"]), abs=1e-9)
    assert s.f1 == pytest.approx(float(GOLDEN["multi_f1"]), abs=1e-9)
    for found, name in (
        (s.class_wacc, "multi_wacc"),
        (s.class_recall, "multi_recall"),
        (s.support, "multi_support"),
        (s.class_weighted_f1, "multi_weighted_f1_per_label"),
    ):
        assert tuple(found) == LABELS
        assert list(found.values()) == pytest.approx(GOLDEN[name].tolist(), abs=1e-9)
    assert s.defined == 6 and s.undefined == ()

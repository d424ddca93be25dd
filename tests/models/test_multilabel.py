"""Multi-label metrics: what is undefined is NaN and counted, empty sets agree, scikit-learn says the same."""

import numpy as np
import pytest
from sklearn import metrics as sk

from merloco.models.errors import ModelError
from merloco.models.metrics.multilabel import score_multi

CLASSES = ("happy", "sad", "fear")


def test_a_class_without_positive_or_without_negative_rows_has_no_weighted_accuracy() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]])
    prediction = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 1]])
    s = score_multi(truth, prediction, CLASSES)
    assert s.class_wacc["happy"] == pytest.approx((1 + 1 / 2) / 2)
    assert s.undefined == ("sad", "fear") and s.defined == 1
    assert s.wacc == s.class_wacc["happy"]
    assert np.isnan(s.class_recall["sad"]) and s.class_recall["fear"] == 0.75
    assert s.uar == pytest.approx((1 + 0.75) / 2)


def test_two_empty_sets_agree() -> None:
    truth = np.array([[0, 0, 0], [1, 1, 0]])
    s = score_multi(truth, np.array([[0, 0, 0], [1, 0, 0]]), CLASSES)
    assert s.accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert s.f1 == pytest.approx((1 + 2 / 3) / 2)
    assert score_multi(truth[:1], np.array([[0, 0, 1]]), CLASSES).accuracy == 0.0


def test_equal_to_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    truth, prediction = generator.random((400, 3)) < 0.4, generator.random((400, 3)) < 0.3
    s = score_multi(truth, prediction, CLASSES)
    assert s.accuracy == pytest.approx(sk.jaccard_score(truth, prediction, average="samples", zero_division=1.0))
    assert s.f1 == pytest.approx(sk.f1_score(truth, prediction, average="samples", zero_division=1.0))
    assert list(s.class_recall.values()) == pytest.approx(sk.recall_score(truth, prediction, average=None).tolist())
    for k, name in enumerate(CLASSES):
        assert s.class_wacc[name] == pytest.approx(sk.balanced_accuracy_score(truth[:, k], prediction[:, k]))
        weighted = sk.f1_score(truth[:, k], prediction[:, k], average="weighted")
        assert s.class_weighted_f1[name] == pytest.approx(weighted)


def test_only_annotated_classes_are_scored() -> None:
    truth, prediction = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[1, 0, 1], [0, 0, 1]])
    s = score_multi(truth, prediction, CLASSES, np.array([True, True, False]))
    assert s.accuracy == 0.5 and list(s.support) == ["happy", "sad"]


def test_no_row_gives_nan_and_shapes_must_fit() -> None:
    assert np.isnan(score_multi(np.zeros((0, 3), bool), np.zeros((0, 3), bool), CLASSES).accuracy)
    with pytest.raises(ModelError, match=r"\(2, 3\) and \(2, 2\): expected \(2, 3\)"):
        score_multi(np.zeros((2, 3)), np.zeros((2, 2)), CLASSES)

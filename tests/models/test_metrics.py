"""Metrics equal hand-computed values and scikit-learn; absent classes are named and left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from merloco.models.metrics.scores import balanced_weights, majority, masked_prediction, score

CLASSES = ("neutral", "happy", "sad", "angry")


def test_hand_computed_values() -> None:
    s = score(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2]), CLASSES)
    assert s.accuracy == pytest.approx(4 / 6)
    assert s.uar == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert s.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert s.weighted_f1 == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1) / 6)
    assert s.absent == ("angry",) and np.isnan(s.recall["angry"])


def test_equal_to_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 4, 500), generator.integers(0, 4, 500)
    s = score(truth, prediction, CLASSES)
    assert s.accuracy == pytest.approx(sk.accuracy_score(truth, prediction))
    assert s.uar == pytest.approx(sk.balanced_accuracy_score(truth, prediction))
    assert s.macro_f1 == pytest.approx(sk.f1_score(truth, prediction, average="macro"))
    assert s.weighted_f1 == pytest.approx(sk.f1_score(truth, prediction, average="weighted"))
    assert list(s.recall.values()) == pytest.approx(sk.recall_score(truth, prediction, average=None).tolist())


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_published_uar_also_averages_predicted_classes_without_a_true_row(pairs: list[tuple[int, int]]) -> None:
    truth, prediction = (np.array(side) for side in zip(*pairs, strict=True))
    report = sk.classification_report(truth, prediction, output_dict=True, zero_division=0)
    s = score(truth, prediction, CLASSES)
    assert s.published_uar == pytest.approx(report["macro avg"]["recall"])
    assert s.published_uar <= s.uar + 1e-9


def test_only_annotated_classes_are_predicted_and_scored() -> None:
    mask = np.array([False, True, True, True])
    probabilities = np.array([[0.9, 0.06, 0.04, 0.0], [0.5, 0.1, 0.3, 0.1]])
    prediction = masked_prediction(probabilities, mask)
    assert prediction.tolist() == [1, 2]
    assert list(score(np.array([1, 2]), prediction, CLASSES, mask).recall) == ["happy", "sad", "angry"]


def test_the_majority_row_says_the_most_frequent_annotated_training_class() -> None:
    mask = np.array([False, True, True, True])
    s = majority(np.array([0, 0, 0, 2, 2, 1]), np.array([1, 2, 2, 3]), CLASSES, mask)
    assert s.accuracy == 0.5 and s.uar == pytest.approx(1 / 3)


def test_balanced_weights_are_those_of_scikit_learn_over_the_classes_that_occur() -> None:
    labels = np.array([0, 0, 0, 2, 3, 3])
    weights = balanced_weights(labels, 4)
    assert weights[[0, 2, 3]] == pytest.approx([6 / 9, 2.0, 1.0])
    assert weights[1] == 0.0


def test_no_row_gives_nan_and_not_zero() -> None:
    assert np.isnan(score(np.zeros(0, int), np.zeros(0, int), CLASSES).uar)

"""Intervals cover at their level and permutation tests are uniform under the null, by simulation and against scipy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from merloco.models.errors import ModelError
from merloco.models.metrics.resampling import METRICS, bootstrap, class_recall, metric_values, permutation_test
from merloco.models.metrics.scores import confusion, score

CLASSES = 4
RATES = np.array([0.4, 0.3, 0.2, 0.1])
RECALL = np.array([0.8, 0.6, 0.5, 0.4])


def drawn_rows(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose true UAR is the mean of RECALL."""
    truth = generator.choice(CLASSES, n, p=RATES)
    right = generator.random(n) < RECALL[truth]
    wrong = (truth + generator.integers(1, CLASSES, n)) % CLASSES
    return truth, np.where(right, truth, wrong)


def dialogue_rows(generator: np.random.Generator, dialogues: int, turns: int) -> tuple[np.ndarray, ...]:
    """Rows in dialogues that are easy or hard as a whole; accuracy is 0.5 on average."""
    group = np.repeat(np.arange(dialogues), turns)
    truth = generator.integers(0, 2, dialogues * turns)
    right = generator.random(len(truth)) < generator.choice([0.1, 0.9], dialogues)[group]
    return truth, np.where(right, truth, 1 - truth), group


def test_scores_of_many_matrices_are_those_of_one() -> None:
    generator = np.random.default_rng(0)
    pairs = [drawn_rows(generator, n) for n in (5, 40, 300)]
    counts = np.stack([confusion(t, p, CLASSES) for t, p in pairs])
    for metric in METRICS:
        expected = [getattr(score(t, p, tuple("abcd")), metric) for t, p in pairs]
        assert metric_values(counts, metric) == pytest.approx(expected)
    truth, prediction = pairs[2]
    recall = sk.recall_score(truth, prediction, average=None)
    assert class_recall(counts)[2] == pytest.approx(recall)
    assert np.isnan(metric_values(np.zeros((CLASSES, CLASSES)), "uar"))
    with pytest.raises(ModelError, match="unknown metric 'wer': known: uar"):
        metric_values(counts, "wer")


def test_the_interval_is_that_of_scipy() -> None:
    truth, prediction = drawn_rows(np.random.default_rng(1), 500)
    ours = bootstrap(truth, prediction, CLASSES, resamples=4000).interval("accuracy")
    theirs = stats.bootstrap(
        ((truth == prediction).astype(float),), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.value == pytest.approx(sk.accuracy_score(truth, prediction))


def test_the_interval_of_the_uar_is_that_of_copied_rows() -> None:
    generator = np.random.default_rng(2)
    truth, prediction = drawn_rows(generator, 200)
    rows = generator.integers(0, 200, (2000, 200))
    copied = [sk.balanced_accuracy_score(truth[chosen], prediction[chosen]) for chosen in rows[:600]]
    ours = bootstrap(truth, prediction, CLASSES).interval("uar")
    assert (ours.low, ours.high) == pytest.approx(np.quantile(copied, [0.025, 0.975]).tolist(), abs=0.02)


@pytest.mark.parametrize("metric", ["uar", "weighted_f1"])
def test_the_interval_covers_at_its_level(metric: str) -> None:
    generator = np.random.default_rng(3)
    truth, prediction = drawn_rows(generator, 400_000)
    true_value = float(metric_values(confusion(truth, prediction, CLASSES), metric))
    covered = 0
    for number in range(300):
        interval = bootstrap(*drawn_rows(generator, 300), CLASSES, resamples=1000, seed=number).interval(metric)
        covered += interval.low <= true_value <= interval.high
    assert 0.90 <= covered / 300 <= 0.99


def test_dialogues_that_are_alike_need_the_bootstrap_by_dialogue() -> None:
    generator = np.random.default_rng(4)
    covered = {"utterance": 0, "dialogue": 0}
    for number in range(300):
        truth, prediction, group = dialogue_rows(generator, 60, 12)
        for name, groups in (("utterance", None), ("dialogue", group)):
            interval = bootstrap(truth, prediction, 2, groups, 500, number).interval("accuracy")
            covered[name] += interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered["dialogue"] / 300 <= 0.99
    assert covered["utterance"] / 300 < 0.75


def test_runs_of_several_seeds_are_resampled_on_the_same_rows() -> None:
    generator = np.random.default_rng(5)
    truth, prediction = drawn_rows(generator, 300)
    twice = bootstrap(truth, np.stack([prediction, prediction]), CLASSES)
    once = bootstrap(truth, prediction, CLASSES)
    assert twice.interval("uar") == once.interval("uar") == twice.interval("uar", run=1)
    difference = twice.difference("uar")
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    other = drawn_rows(generator, 300)[1]
    both = bootstrap(truth, np.stack([prediction, other]), CLASSES)
    values = [float(metric_values(confusion(truth, p, CLASSES), "uar")) for p in (prediction, other)]
    assert both.interval("uar").value == pytest.approx(np.mean(values))
    assert both.difference("uar").value == pytest.approx(values[0] - values[1])


def test_recall_has_an_interval_per_class_and_none_where_the_class_is_absent() -> None:
    truth, prediction = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1, 1])
    first, second, absent = bootstrap(truth, prediction, 3).recall()
    assert first.value == 0.75 and first.low < 0.75 < first.high
    assert (second.value, second.low, second.high) == (1, 1, 1)
    assert np.isnan([absent.value, absent.low, absent.high]).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = drawn_rows(np.random.default_rng(6), 100)
    first, again = (bootstrap(*rows, CLASSES, seed=1).interval("uar") for _ in range(2))
    assert first == again != bootstrap(*rows, CLASSES, seed=2).interval("uar")


@pytest.mark.parametrize("by", ["utterance", "dialogue"])
def test_the_permutation_test_is_uniform_under_the_null(by: str) -> None:
    generator = np.random.default_rng(7)
    p_values = []
    for number in range(300):
        truth, first, group = dialogue_rows(generator, 40, 4)
        _, second, _ = dialogue_rows(generator, 40, 4)
        if by == "utterance":  # independent rows: dialogues that are easy as a whole would break this null
            first, second = (np.where(generator.random(160) < 0.6, truth, 1 - truth) for _ in range(2))
        groups = group if by == "dialogue" else None
        p_values.append(permutation_test(truth, first, second, 2, ("uar",), groups, 400, number)["uar"])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) <= 0.09


def test_the_permutation_test_of_the_accuracy_is_that_of_scipy() -> None:
    generator = np.random.default_rng(8)
    truth, first = drawn_rows(generator, 120)
    second = np.where(generator.random(120) < 0.85, first, (truth + 1) % CLASSES)
    ours = permutation_test(truth, first, second, CLASSES, ("accuracy",))["accuracy"]
    right = ((first == truth).astype(float), (second == truth).astype(float))
    theirs = stats.permutation_test(
        right, lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples", n_resamples=10_000, rng=0
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)


def test_a_real_difference_is_found_and_equal_runs_differ_in_nothing() -> None:
    generator = np.random.default_rng(9)
    truth, prediction = drawn_rows(generator, 400)
    worse = np.where(generator.random(400) < 0.3, (truth + 1) % CLASSES, prediction)
    assert set(permutation_test(truth, prediction, prediction, CLASSES).values()) == {1.0}
    assert max(permutation_test(truth, prediction, worse, CLASSES).values()) < 0.001


def test_nothing_to_resample_is_said() -> None:
    with pytest.raises(ModelError, match="no rows"):
        bootstrap(np.zeros(0, int), np.zeros(0, int), 2)
    with pytest.raises(ModelError, match="one dialogue"):
        bootstrap(np.zeros(4, int), np.zeros(4, int), 2, np.zeros(4))

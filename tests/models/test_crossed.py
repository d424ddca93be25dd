"""Equal systems are found different at most at the level, planted differences are found: by simulation and by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from merloco.models.errors import ModelError
from merloco.models.metrics.crossed import count_units, crossed_mean, jackknife, mean_scores, recall_jackknife
from merloco.models.metrics.resampling import METRICS, metric_values, permutation_test
from merloco.models.metrics.scores import confusion

CLASSES = 4
RATES = np.array([0.4, 0.3, 0.2, 0.1])
EASE = np.array([0.6, 0.3, 0.0, -0.3])
TOLERANCE = 0.03
"""Of a share of 400 at 0.05: two and a half standard errors."""

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn_systems(
    generator: np.random.Generator,
    seeds: int,
    effect: float = 0.0,
    between_seeds: float = 0.2,
    between_systems: float = 0.5,
    dialogues: int = 30,
    turns: int = 5,
) -> Rows:
    """Truth, predictions (2, seeds, n) and dialogues of two systems.

    An utterance is right above a threshold. What it owes to its class, its dialogue and itself is the same for both
    systems, a system's way with a dialogue for all its seeds; a seed has a quality per class of its own.
    """
    n = dialogues * turns
    group = np.repeat(np.arange(dialogues), turns)
    truth = generator.choice(CLASSES, n, p=RATES)
    shared = EASE[truth] + generator.normal(0, 0.8, dialogues)[group] + generator.normal(0, 0.8, n)
    system = generator.normal(0, between_systems, (2, dialogues))[:, group]
    seed = generator.normal(0, between_seeds, (2, seeds, CLASSES))[..., truth]
    chance = generator.normal(0, 0.6, (2, seeds, n))
    right = shared + system[:, None] + seed + chance + np.array([effect, 0])[:, None, None] > 0
    wrong = (truth + generator.integers(1, CLASSES, (2, seeds, n))) % CLASSES
    return truth, np.where(right, truth, wrong), np.char.add("d", group.astype(str))


def found(rows: Rows, metric: str = "uar") -> float:
    truth, predictions, dialogues = rows
    return jackknife(count_units(truth, predictions, CLASSES, dialogues), "meld", metric).difference(0, 1).p


def rejected(draw: Callable[[], float], times: int = 400) -> float:
    return float(np.mean([draw() <= 0.05 for _ in range(times)]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("between_seeds", "between_systems"), [(0.0, 0.5), (0.2, 0.0), (0.4, 0.5)])
def test_equal_systems_are_found_different_at_most_at_the_level(
    seeds: int, between_seeds: float, between_systems: float
) -> None:
    generator = np.random.default_rng([seeds, int(10 * between_seeds)])
    share = rejected(lambda: found(drawn_systems(generator, seeds, 0.0, between_seeds, between_systems)))
    assert share <= 0.05 + TOLERANCE


def test_a_test_that_knows_no_seeds_finds_equal_systems_different() -> None:
    """What the crossed test is for: single runs of equal systems, swapped dialogue by dialogue."""
    generator = np.random.default_rng(1)

    def swapped() -> float:
        truth, predictions, dialogues = drawn_systems(generator, 1, between_seeds=0.4, between_systems=0.0)
        p = permutation_test(truth, *predictions[:, 0], CLASSES, ("uar",), dialogues, permutations=500)
        return p["uar"]

    assert rejected(swapped, 200) > 0.15


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_planted_difference_is_found(seeds: int) -> None:
    generator = np.random.default_rng(2)
    assert rejected(lambda: found(drawn_systems(generator, seeds, effect=0.9)), 100) > 0.8


def test_the_interval_of_the_mean_over_corpora_covers_and_agrees_with_p() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(150):
        folds = []
        for corpus in ("meld", "afew", "mosei"):
            truth, predictions, dialogues = drawn_systems(generator, 3)
            folds.append(jackknife(count_units(truth, predictions, CLASSES, dialogues), corpus, "uar"))
        difference = mean_scores(folds).difference(0, 1)
        inside = difference.low <= 0 <= difference.high
        assert inside == (difference.p >= 0.05)
        covered += inside
    assert covered / 150 >= 0.95 - 0.045


def test_the_accuracy_of_one_run_each_is_the_paired_t_test_over_utterances() -> None:
    truth, predictions, _ = drawn_systems(np.random.default_rng(4), 1)
    names = np.arange(len(truth)).astype(str)
    ours = jackknife(count_units(truth, predictions, CLASSES, names), "meld", "accuracy").difference(0, 1)
    right = (predictions[:, 0] == truth).astype(float)
    theirs = stats.ttest_rel(*right)
    interval = theirs.confidence_interval()
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))


def test_seeds_that_decide_alone_are_the_paired_t_test_over_seeds() -> None:
    values = np.array([0.03, 0.05, 0.01, 0.04])
    nothing = [np.zeros((4, 50))]
    ours, theirs = crossed_mean(values, nothing), stats.ttest_1samp(values, 0)
    interval = theirs.confidence_interval()
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))


def test_values_are_those_of_the_scores_and_the_jackknife_that_of_left_out_rows() -> None:
    truth, predictions, dialogues = drawn_systems(np.random.default_rng(5), 2)
    counted = count_units(truth, predictions, CLASSES, dialogues)
    for metric in METRICS:
        scores = jackknife(counted, "meld", metric)
        expected = [[metric_values(confusion(truth, p, CLASSES), metric) for p in own] for own in predictions]
        assert scores.values == pytest.approx(np.array(expected))
    names, moved = jackknife(counted, "meld", "uar").influence["meld"]
    kept = [dialogues != name for name in names]
    without = [metric_values(confusion(truth[k], predictions[1, 0][k], CLASSES), "uar") for k in kept]
    variance = (len(names) - 1) / len(names) * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert (moved[1, 0] ** 2).sum() == pytest.approx(variance)


def test_folds_of_one_corpus_are_not_independent() -> None:
    truth, predictions, dialogues = drawn_systems(np.random.default_rng(6), 3)
    fold = jackknife(count_units(truth, predictions, CLASSES, dialogues), "meld", "uar")
    once, twice = fold.difference(0, 1), mean_scores([fold, fold]).difference(0, 1)
    assert (twice.value, twice.low, twice.p) == pytest.approx((once.value, once.low, once.p))
    other = jackknife(count_units(truth, predictions, CLASSES, dialogues), "afew", "uar")
    apart = mean_scores([fold, other]).difference(0, 1)
    assert apart.high - apart.low < once.high - once.low


def test_a_recall_is_measured_on_the_dialogues_that_have_the_class() -> None:
    truth = np.array([0, 0, 1, 1, 1, 1])
    predictions = np.array([[[0, 0, 1, 1, 1, 0]], [[0, 0, 1, 0, 0, 1]]])
    counted = count_units(truth, predictions, 3, np.array(list("aabbcd")))
    scores = recall_jackknife(counted, "meld", 1)
    assert scores is not None and scores.influence["meld"][0].tolist() == ["b", "c", "d"]
    assert scores.difference(0, 1).value == pytest.approx(0.25)
    assert recall_jackknife(counted, "meld", 2) is None
    one_dialogue = recall_jackknife(counted, "meld", 0)
    assert one_dialogue is not None and np.isnan(one_dialogue.difference(0, 1).p)


def test_predictions_that_agree_or_differ_everywhere_have_no_interval_and_a_p_that_swapping_could_give() -> None:
    truth, names = np.zeros(6, dtype=int), np.array(list("abcdef"))
    right, wrong = np.zeros((1, 2, 6), dtype=int), np.ones((1, 2, 6), dtype=int)
    for pair, value, p in (((right, right), 0.0, 1.0), ((right, wrong), 1.0, 2.0**-5)):
        counted = count_units(truth, np.concatenate(pair), 2, names)
        found = jackknife(counted, "meld", "accuracy").difference(0, 1)
        assert (found.value, found.p) == (value, p) and np.isnan([found.low, found.high]).all()


def test_a_great_difference_has_a_p_that_is_small_and_not_zero() -> None:
    found = crossed_mean(np.full(3, 0.5), [np.full((3, 4000), 1e-7)])
    assert 0 < found.p < 1e-100


def test_no_row_is_said() -> None:
    with pytest.raises(ModelError, match="no rows"):
        count_units(np.zeros(0, int), np.zeros((2, 1, 0), int), 2, np.zeros(0, str))

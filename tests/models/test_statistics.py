"""Seeds, chance, McNemar and Holm equal what scipy and scikit-learn compute, or a simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from merloco.models.metrics.statistics import EXACT_BELOW, chance, holm, letter_groups, mcnemar, mean_std


def test_mean_and_sample_std_over_the_defined_seeds() -> None:
    assert mean_std([0.5, 0.7, 0.6]) == pytest.approx((0.6, np.std([0.5, 0.6, 0.7], ddof=1)))
    assert mean_std([0.5, float("nan"), 0.7])[0] == pytest.approx(0.6)
    assert mean_std([0.5])[0] == 0.5 and np.isnan(mean_std([0.5])[1])
    assert np.isnan(mean_std([float("nan")])[0])


def test_chance_is_what_guessing_gives() -> None:
    support = [600, 300, 0, 100]
    expected = chance(support)
    assert expected["uar"] == expected["accuracy"] == pytest.approx(1 / 3)
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), support).repeat(200)
    guess = generator.choice([0, 1, 3], len(truth))
    assert expected["weighted_f1"] == pytest.approx(sk.f1_score(truth, guess, average="weighted"), abs=0.005)
    assert expected["macro_f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"), abs=0.005)
    assert expected["weighted_f1"] > 1 / 3
    assert np.isnan(chance([0, 0])["uar"])


def predictions(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    right = np.repeat([True, True, False, False], [both, first, second, neither])
    other = np.repeat([True, False, True, False], [both, first, second, neither])
    truth = np.zeros(len(right), dtype=int)
    return truth, np.where(right, 0, 1), np.where(other, 0, 1)


def test_mcnemar_is_the_binomial_test_of_few_discordant_rows_and_chi_squared_of_many() -> None:
    few = mcnemar(*predictions(30, 9, 2, 5))
    assert (few.both_right, few.first_right, few.second_right, few.both_wrong) == (30, 9, 2, 5)
    assert few.exact and few.p == pytest.approx(stats.binomtest(9, 11).pvalue)
    many = mcnemar(*predictions(300, 60, 40, 50))
    assert not many.exact and many.p == pytest.approx(stats.chi2.sf(19**2 / 100, 1))
    assert many.p == pytest.approx(stats.binomtest(60, 100).pvalue, abs=0.005)
    assert mcnemar(*predictions(5, 0, 0, 5)).p == 1.0
    assert mcnemar(*predictions(0, EXACT_BELOW, EXACT_BELOW, 0)).p == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.01, float("nan"), 0.04])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(adjusted[1])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    ordered = sorted(p_values)
    failed = [i for i, p in enumerate(ordered) if p > 0.05 / (len(ordered) - i)]
    rejected = ordered[: failed[0] if failed else len(ordered)]
    assert sorted(np.array(p_values)[holm(p_values) <= 0.05].tolist()) == rejected


def test_letters_by_hand() -> None:
    assert letter_groups(3, set()) == ["a", "a", "a"]
    assert letter_groups(3, {(0, 2)}) == ["a", "ab", "b"]
    assert letter_groups(3, {(0, 1), (0, 2), (1, 2)}) == ["a", "b", "c"]
    assert letter_groups(4, {(0, 2), (0, 3), (1, 3)}) == ["a", "ab", "bc", "c"]


@given(st.integers(1, 7), st.data())
def test_two_systems_share_a_letter_exactly_if_they_do_not_differ(number: int, data: st.DataObject) -> None:
    pairs = [(i, j) for i in range(number) for j in range(i + 1, number)]
    different = set(data.draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else set()
    letters = letter_groups(number, different)
    assert all(bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different) for i, j in pairs)
    assert "a" in letters[0]

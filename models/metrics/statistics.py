"""Uncertainty of scores in closed form: spread over seeds, chance rows, McNemar's test, Holm's correction, letters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

EXACT_BELOW = 25
"""Fewer discordant utterances than this: McNemar's test is the exact binomial one."""


def mean_std(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and sample STD (n - 1) of the defined values, for example of one score over seeds.

    Args:
        values: Scores; NaN ones are left out.

    Returns:
        (mean, STD); the mean of nothing is NaN, and so is the STD of fewer than two values.
    """
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    return mean, float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")


def chance(support: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Scores of guessing each scored class with equal probability.

    UAR and accuracy are 1 / K exactly. F1 comes from the expected counts: a class with n_k of n rows is said n / K
    times and hit n_k / K times, so F1_k = 2 n_k / (K n_k + n); the weighted F1 of a guess thus lies above 1 / K where
    classes are unbalanced, and the weighted F1 of the majority class is no floor for it.

    Args:
        support: Test rows per class; a class without rows is not scored and not guessed.

    Returns:
        uar, macro_f1, weighted_f1 and accuracy; NaN where there is no row.
    """
    rows = np.asarray(support, dtype=np.float64)
    rows = rows[rows > 0]
    n, classes = rows.sum(), len(rows)
    if not classes:
        return dict.fromkeys(("uar", "macro_f1", "weighted_f1", "accuracy"), float("nan"))
    f1 = 2 * rows / (classes * rows + n)
    return {
        "uar": 1 / classes,
        "macro_f1": float(f1.mean()),
        "weighted_f1": float((f1 * rows).sum() / n),
        "accuracy": 1 / classes,
    }


@dataclass(frozen=True, slots=True)
class McNemar:
    """How two runs agree on being right, and whether their error rates differ."""

    both_right: int
    first_right: int
    """Only the first run is right."""
    second_right: int
    both_wrong: int
    p: float
    exact: bool
    """Binomial test; otherwise chi-squared with continuity correction, one degree of freedom."""


def mcnemar(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test that two runs are wrong equally often on the same utterances (McNemar 1947, Edwards 1948).

    It takes utterances as independent: where those of a dialogue are not, trust the permutation test by dialogue.

    Args:
        truth: int (n,).
        first: int (n,), predictions of the first run.
        second: int (n,), predictions of the second run on the same rows.
    """
    from scipy.stats import binomtest, chi2

    right, other = first == truth, second == truth
    b, c = int((right & ~other).sum()), int((~right & other).sum())
    exact = b + c < EXACT_BELOW
    if b + c == 0:
        p = 1.0
    elif exact:
        p = float(binomtest(b, b + c).pvalue)
    else:
        p = float(chi2.sf(max(abs(b - c) - 1, 0) ** 2 / (b + c), 1))
    return McNemar(int((right & other).sum()), b, c, int((~right & ~other).sum()), p, exact)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust the p values of a table so that the chance of any false finding stays at the level (Holm 1979).

    Args:
        p_values: (m,); NaN marks a test that was not made and does not count.

    Returns:
        float (m,): adjusted values in the given order, NaN where NaN was.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def letter_groups(number: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Letters such that two systems share one exactly if they are not found different (Piepho 2004).

    The insert-and-absorb algorithm: a group that holds a pair that differs is split in two, and a group within another
    is dropped.

    Args:
        number: Of systems, in the order of a ranking.
        different: Pairs (i, j), i < j, that differ.

    Returns:
        The letters of each, for example `["a", "ab", "b"]`; the first system has an `a`.
    """
    groups = [frozenset(range(number))]
    for i, j in sorted(different):
        split = [part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))]
        groups = [group for group in dict.fromkeys(split) if not any(group < other for other in split)]
    groups.sort(key=sorted)
    names = [ascii_lowercase[k % 26] + str(k // 26 or "") for k in range(len(groups))]
    return ["".join(name for name, group in zip(names, groups, strict=True) if i in group) for i in range(number)]

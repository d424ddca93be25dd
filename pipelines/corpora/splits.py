"""Official splits completed: seeded validation carved out of a training part.

Choosing is pure: the same ids and seed give the same choice, in whatever order the rows come.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from merloco.pipelines.catalog.entries import Validation
from merloco.pipelines.errors import DataError

ORDERS = 100
"""Orders of the groups that are tried; the best choice of all is taken."""
COUNTED = 10
"""A label of which validation should hold fewer rows than this counts for less: its share is a matter of chance."""
ENOUGH = 3
"""Groups that have to hold a label before validation must hold it too."""


def seeded_validation(groups: Mapping[str, str], labels: Mapping[str, str | None], validation: Validation) -> set[str]:
    """Choose validation samples out of a training part.

    Args:
        groups: Sample id -> group that stays together (dialogue, film neighbourhood); `by: utterance` ignores it.
        labels: Sample id -> native label, on which whole groups are stratified; no map of labels plays a part.
        validation: How much, by what, with which seed.

    Returns:
        The chosen ids. By utterance exactly `size` of the given ones, or `fraction` of them, rounded. By group whole
        groups, so that validation holds the fraction of the ids and of every label as nearly as whole groups allow,
        every label that `ENOUGH` groups hold is in it, and none is there alone. Of a few huge groups it may be empty.

    Raises:
        DataError: `size` without `by: utterance`, or a size that leaves no sample to train on.
    """
    ids = sorted(groups)
    if validation.size is not None and validation.by != "utterance":
        raise DataError(
            f"validation by {validation.by!r} has the size {validation.size}: whole groups take a fraction; "
            f"an exact size needs by: utterance"
        )
    if not ids:
        return set()
    if validation.size is not None and validation.size >= len(ids):
        raise DataError(
            f"validation of {validation.size} utterances: expected fewer than the {len(ids)} there are to train on"
        )
    wanted = validation.size or min(round(validation.fraction * len(ids)), len(ids) - 1)
    generator = np.random.default_rng(validation.seed)
    if validation.by == "utterance":
        return {ids[i] for i in generator.permutation(len(ids))[:wanted]}
    members: dict[str, list[str]] = {}
    for sample_id in ids:
        members.setdefault(groups[sample_id], []).append(sample_id)
    return {i for name in _stratified(members, labels, validation.fraction, generator) for i in members[name]}


def _stratified(
    members: Mapping[str, list[str]], labels: Mapping[str, str | None], fraction: float, generator: np.random.Generator
) -> set[str]:
    """The groups that come nearest to the fraction of every label and of the whole, of `ORDERS` greedy choices."""
    names = sorted(members)
    strata = sorted({labels.get(i) or "" for ids in members.values() for i in ids})
    place = {label: k for k, label in enumerate(strata)}
    counts = np.zeros((len(names), len(strata) + 1))
    for row, name in enumerate(names):
        for i in members[name]:
            counts[row, place[labels.get(i) or ""]] += 1
    counts[:, -1] = counts.sum(axis=1)  # the size is one more thing to come near to
    totals = counts.sum(axis=0)
    held = (counts > 0).sum(axis=0)
    weights = np.minimum(totals * fraction / COUNTED, 1.0)
    weights[-1] = len(strata)

    def distance(chosen: np.ndarray) -> float:
        lacking = (chosen == 0) & (held >= ENOUGH)
        alone = chosen == totals  # nothing is left to train on
        missed = weights * ((chosen / totals - fraction) / fraction) ** 2
        return float(missed.sum() + lacking.sum() + 1e6 * alone.sum())

    nothing = np.zeros(len(totals))
    best, nearest = np.zeros(len(names), dtype=bool), distance(nothing)
    for _ in range(ORDERS):
        order = generator.permutation(len(names))
        taken, chosen, now = np.zeros(len(names), dtype=bool), nothing, distance(nothing)
        for row in (*order, *order):  # taken in the first round, and where that helps, put back or taken in the second
            changed = chosen - counts[row] if taken[row] else chosen + counts[row]
            if (then := distance(changed)) < now:
                taken[row], chosen, now = not taken[row], changed, then
        if now < nearest:
            best, nearest = taken, now
    return {name for name, there in zip(names, best, strict=True) if there}

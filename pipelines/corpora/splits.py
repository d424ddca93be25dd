"""Official splits completed: seeded validation carved out of a training part; and turns numbered.

Choosing is pure: the same ids and seed give the same choice, in whatever order the rows come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from merloco.pipelines.catalog.entries import Validation
from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

TRIALS = 100
"""Orders of the groups that are tried; the best choice of all is taken."""
MIN_EXPECTED_ROWS = 10
"""A label of which validation should hold fewer rows than this counts for less: its share is a matter of chance."""
MIN_GROUPS = 3
"""Groups that have to hold a label before validation must hold it too."""


def carve_validation(parsed: Parsed, groups: Mapping[str, str], validation: Validation, group: str, whole: str) -> None:
    """Give some training samples the split `val`; a note says so where no group is small enough.

    Args:
        parsed: The samples; those of `groups` that are chosen change.
        groups: See `seeded_validation`.
        validation: See `seeded_validation`.
        group: What a group is, for the note.
        whole: Of what validation is a fraction, for the note.

    Raises:
        DataError: See `seeded_validation`.
    """
    chosen = seeded_validation(groups, {s.sample_id: s.label for s in parsed.samples}, validation)
    if not chosen:
        parsed.notes.append(f"validation is empty: no {group} is small enough for {validation.fraction:g} of {whole}")
    parsed.samples = [replace(s, split="val") if s.sample_id in chosen else s for s in parsed.samples]


def number_turns(samples: Iterable[Sample], order: Callable[[Sample], Any]) -> list[Sample]:
    """Samples dialogue by dialogue, the utterances of each numbered from 0 by `order`."""
    dialogues: dict[str | None, list[Sample]] = {}
    for sample in samples:
        dialogues.setdefault(sample.dialogue, []).append(sample)
    return [
        replace(sample, turn=turn)
        for members in dialogues.values()
        for turn, sample in enumerate(sorted(members, key=order))
    ]


def seeded_validation(groups: Mapping[str, str], labels: Mapping[str, str | None], validation: Validation) -> set[str]:
    """Choose validation samples out of a training part.

    Args:
        groups: Sample id -> group that stays together (dialogue, film neighbourhood); `by: utterance` ignores it.
        labels: Sample id -> native label, on which whole groups are stratified; no map of labels plays a part.
        validation: How much, by what, with which seed.

    Returns:
        The chosen ids. By utterance exactly `size` of the given ones, or `fraction` of them, rounded. By group whole
        groups, so that validation holds the fraction of the ids and of every label as nearly as whole groups allow,
        every label that `MIN_GROUPS` groups hold is in it, and none is there alone. Of a few huge groups it may be
        empty.

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
    """The groups that come nearest to the fraction of every label and of the whole, of `TRIALS` greedy choices."""
    names = sorted(members)
    strata = sorted({labels.get(i) or "" for ids in members.values() for i in ids})
    column = {label: k for k, label in enumerate(strata)}
    counts = np.zeros((len(names), len(strata) + 1))
    for row, name in enumerate(names):
        for i in members[name]:
            counts[row, column[labels.get(i) or ""]] += 1
    counts[:, -1] = counts.sum(axis=1)  # the size is one more thing to come near to
    totals = counts.sum(axis=0)
    held = (counts > 0).sum(axis=0)
    weights = np.minimum(totals * fraction / MIN_EXPECTED_ROWS, 1.0)
    weights[-1] = len(strata)

    def distance(chosen: np.ndarray) -> float:
        missing = (chosen == 0) & (held >= MIN_GROUPS)
        alone = chosen == totals  # nothing is left to train on
        shares = weights * ((chosen / totals - fraction) / fraction) ** 2
        return float(shares.sum() + missing.sum() + 1e6 * alone.sum())

    nothing = np.zeros(len(totals))
    best, smallest = np.zeros(len(names), dtype=bool), distance(nothing)
    for _ in range(TRIALS):
        order = generator.permutation(len(names))
        selected, chosen, current = np.zeros(len(names), dtype=bool), nothing, distance(nothing)
        for row in (*order, *order):  # selected in the first round, and where that helps, undone or selected later
            changed = chosen - counts[row] if selected[row] else chosen + counts[row]
            if (new := distance(changed)) < current:
                selected[row], chosen, current = not selected[row], changed, new
        if current < smallest:
            best, smallest = selected, current
    return {name for name, is_selected in zip(names, best, strict=True) if is_selected}

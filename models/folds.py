"""Cross-validation: every row is a test row of one fold, whole groups are on one side, the rest trains and validates.

Choosing is pure: the same ids and seed give the same folds, in whatever order the rows come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from merloco.models.errors import ModelError

VALIDATION_PARTS = 10
"""Validation is one of this many parts of the rows that a fold does not test, or of as many as there are groups."""
MOST_VALIDATION = 1 / 3
"""Of those rows. Groups that are larger are not validated on whole: their dialogues are."""


@dataclass(frozen=True, slots=True)
class FoldRows:
    """The labelled rows of one corpus, and what they belong to; all str (N,)."""

    corpus: str
    """Its name, for messages."""
    by: str
    """What a group is: session, speaker, dialogue, or random, where each row is one."""
    sample_id: np.ndarray
    group: np.ndarray
    dialogue: np.ndarray
    label: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> FoldRows:
        """Some of the rows."""
        columns = (self.sample_id, self.group, self.dialogue, self.label)
        return FoldRows(self.corpus, self.by, *(column[rows] for column in columns))


def make_folds(rows: FoldRows, k: int | None, stratified: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Folds of a corpus.

    Args:
        rows: Its rows.
        k: How many folds of whole groups, of about equal size; None makes one of each group (leave one group out).
        stratified: Every fold has its share of every class as nearly as whole groups allow; of single rows (`random`)
            within one row.
        seed: Of the choice, of validation as well.

    Returns:
        Name of a fold (the group left out, or `1 of 5`) -> str (N,): `train`, `val` or `test`.

    Raises:
        ModelError: There are too few groups or rows, or a fold would test a class that the others do not have.
    """
    order = np.argsort(rows.sample_id)
    ordered = rows[order]
    names, part = _parts(ordered, k, stratified, seed)
    folds = {}
    for number, name in enumerate(names):
        tested = part == number
        _require_training(ordered, name, tested)
        split = np.full(len(order), "train", dtype="<U5")
        split[tested] = "test"
        validated = _validation(ordered[~tested], np.random.default_rng([seed, 1, number]))
        split[np.flatnonzero(~tested)[validated]] = "val"
        folds[name] = np.empty_like(split)
        folds[name][order] = split
    return folds


def _parts(rows: FoldRows, k: int | None, stratified: bool, seed: int) -> tuple[list[str], np.ndarray]:
    """Names of the folds, and which of them tests each row."""
    groups, index = np.unique(rows.group, return_inverse=True)
    what = "row" if rows.by == "random" else rows.by
    if len(groups) < max(k or 0, 2):
        wanted = f"k = {k} folds need {k} or more" if k else f"leaving one {what} out needs two or more"
        number = f"{len(groups)} {what}{'s' if len(groups) != 1 else ''} with a label"
        raise ModelError(f"{rows.corpus} has {number}: {wanted}")
    if k is None:
        return groups.tolist(), index
    classes, counts = np.unique(rows.label, return_counts=True)
    if stratified and counts.min() < k:
        few = f"{counts.min()} row{'s' if counts.min() != 1 else ''} of {classes[counts.argmin()]}"
        raise ModelError(
            f"{rows.corpus} has {few}: k = {k} stratified folds need {k} or more of every class; take a smaller k, or "
            "a label map without it"
        )
    part = _distribute(rows.group, rows.label if stratified else None, k, np.random.default_rng([seed, 0]))
    return [f"{number + 1} of {k}" for number in range(k)], part


def _require_training(rows: FoldRows, name: str, tested: np.ndarray) -> None:
    lost = sorted(set(rows.label[tested]) - set(rows.label[~tested]))
    if lost:
        number = int((rows.label[tested] == lost[0]).sum())
        raise ModelError(
            f"{rows.corpus}, fold {name} (by {rows.by}): it tests every row of {lost[0]} ({number}), so that none is "
            "left to train on; take other folds, or a label map without it"
        )


def _distribute(group: np.ndarray, label: np.ndarray | None, parts: int, generator: np.random.Generator) -> np.ndarray:
    """Deal whole groups to parts of about equal size, with labels also of about equal shares of each: int (N,)."""
    names, index = np.unique(group, return_inverse=True)
    if len(names) == len(group):
        order = generator.permutation(len(group))
        if label is not None:
            order = order[np.argsort(label[order], kind="stable")]
        part = np.empty(len(group), dtype=np.int64)
        part[order] = np.arange(len(group)) % parts
        return part
    sizes = np.bincount(index)
    shares = sizes[:, None] / len(group)
    if label is not None:
        classes, column = np.unique(label, return_inverse=True)
        counts = np.zeros((len(names), len(classes)))
        np.add.at(counts, (index, column), 1)
        shares = np.hstack([shares, counts / counts.sum(axis=0)])
    shuffled = generator.permutation(len(names))
    load, of_group = np.zeros((parts, shares.shape[1])), np.zeros(len(names), dtype=np.int64)
    empty = set(range(parts))
    largest_first = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    for done, name in enumerate(largest_first):
        # As many groups as empty parts are left: each gets one.
        open_ = sorted(empty) if len(empty) >= len(names) - done else range(parts)
        candidates = np.array(open_)
        chosen = int(candidates[np.argmin(load[candidates] @ shares[name])])  # adds least to the sum of squares
        load[chosen] += shares[name]
        of_group[name] = chosen
        empty.discard(chosen)
    return of_group[index]


def _validation(rows: FoldRows, generator: np.random.Generator) -> np.ndarray:
    """Which of the rows that a fold does not test choose its weights: bool (N,).

    Whole groups, or dialogues where groups are few and large or would take a class along, or else single rows.
    """
    for unit in (rows.group, rows.dialogue):
        number = min(VALIDATION_PARTS, len(np.unique(unit)))
        part = _distribute(unit, rows.label, number, generator) if number > 1 else np.zeros(len(unit), dtype=np.int64)
        if (best := _best_part(part, number, rows.label)) is not None:
            return np.asarray(part == best)
    part = _distribute(rows.sample_id, rows.label, VALIDATION_PARTS, generator)
    _, index, counts = np.unique(rows.label, return_inverse=True, return_counts=True)
    return (part == 0) & (counts[index] > 1)  # the only row of a class trains


def _best_part(part: np.ndarray, number: int, label: np.ndarray) -> int | None:
    """The part that has its share of every class most nearly, of those that leave enough of each to train on."""
    best, smallest = None, np.inf
    classes, column = np.unique(label, return_inverse=True)
    totals = np.bincount(column)
    for candidate in range(number):
        counts = np.bincount(column[part == candidate], minlength=len(classes))
        if counts.sum() > MOST_VALIDATION * len(label) or (counts == totals).any():
            continue
        distance = float(((counts / totals - 1 / VALIDATION_PARTS) ** 2).sum())
        if distance < smallest:
            best, smallest = candidate, distance
    return best

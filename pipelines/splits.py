"""Official splits completed: seeded validation carved out of an official training part, and folds over groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.catalog import Validation


def carve_validation(groups: Mapping[str, str], validation: Validation) -> set[str]:
    """Choose validation samples out of a training part.

    The choice depends on the ids and the seed only, not on the order of the samples.

    Args:
        groups: Sample id -> group that stays together (dialogue, film neighbourhood); an utterance split ignores it.
        validation: How much, by what, with which seed.

    Returns:
        The chosen sample ids: exactly `size` where that is given, else whole groups up to about `fraction`.
    """
    ids = sorted(groups)
    if not ids:
        return set()
    generator = np.random.default_rng(validation.seed)
    wanted = validation.size or round(validation.fraction * len(ids))
    if validation.by == "utterance":
        return {ids[i] for i in generator.permutation(len(ids))[:wanted]}
    members: dict[str, list[str]] = {}
    for sample_id in ids:
        members.setdefault(groups[sample_id], []).append(sample_id)
    names = sorted(members)
    chosen: set[str] = set()
    for i in generator.permutation(len(names)):
        group = members[names[i]]
        # A group is taken if that brings the size nearer to the wanted one.
        if abs(len(chosen) + len(group) - wanted) < abs(len(chosen) - wanted):
            chosen.update(group)
        if len(chosen) >= wanted:
            break
    return chosen


def leave_one_group_out(groups: Sequence[str]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Folds such as IEMOCAP's leave one session out.

    Args:
        groups: (n,) group of every row, for example its session.

    Returns:
        For each group in order of its name: the name, the row indices that train, the row indices left out.
    """
    array = np.asarray(groups)
    return [(str(g), np.flatnonzero(array != g), np.flatnonzero(array == g)) for g in np.unique(array)]

"""Official splits completed: seeded validation carved out of a training part.

Choosing is pure: the same ids and seed give the same choice, in whatever order the rows come.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.catalog_entries import Validation
from pipelines.errors import DataError


def seeded_validation(groups: Mapping[str, str], validation: Validation) -> set[str]:
    """Choose validation samples out of a training part.

    Args:
        groups: Sample id -> group that stays together (dialogue, film neighbourhood); `by: utterance` ignores it.
        validation: How much, by what, with which seed.

    Returns:
        The chosen ids. By utterance exactly `size` of the given ones, or `fraction` of them, rounded. By group
        whole groups: in seeded order a group is taken if that brings the number of ids nearer to the fraction and
        leaves something to train on, so that in the end no further group would. A group of twice the fraction or
        more is therefore never taken.

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
    names = sorted(members)
    chosen: set[str] = set()
    for i in generator.permutation(len(names)):
        group = members[names[i]]
        size = len(chosen) + len(group)
        if abs(size - wanted) < abs(len(chosen) - wanted) and size < len(ids):
            chosen.update(group)
    return chosen

"""Splits of a corpus that has none: by seed or by names, whole speakers or dialogues, every label in its share.

Pure functions of ids, groups and labels: the order of rows plays no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from merloco.pipelines.catalog.entries import Validation
from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.corpora.splits import seeded_validation
from merloco.pipelines.corpora.table.options import Splits
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.samples.schema import Sample

FAR = 0.5
"""Share of what was asked for by which a part may differ from it without a note."""


def make_splits(parsed: Parsed, splits: Splits, given: bool) -> None:
    """Give samples their splits.

    Args:
        parsed: The samples; notes say what is far from what was asked for.
        splits: What was asked for.
        given: Whether the corpus has splits of its own: then validation is taken out of its training part.

    Raises:
        DataError: No sample has what `by` names, a name is of none, or the corpus has the part that is asked for.
    """
    if given:
        _refuse_given(parsed.samples, splits)
    pool = [sample for sample in parsed.samples if not given or sample.split == "train"]
    groups = {sample.sample_id: _group(sample, splits.by) for sample in pool}
    ungrouped = sum(not name for name in groups.values())
    if pool and ungrouped == len(pool):
        raise DataError(
            f"splits by {splits.by}: no sample has a {splits.by}; expected a column or field {splits.by!r}, "
            "or by: random"
        )
    if ungrouped:
        parsed.notes.append(f"splits: {ungrouped} samples without a {splits.by} stay together, as if they had one")
    chosen = split_groups(groups, {sample.sample_id: _stratum(sample) for sample in pool}, splits)
    rest = "train"
    parsed.samples = [
        replace(s, split=chosen.get(s.sample_id, rest)) if s.sample_id in groups else s for s in parsed.samples
    ]
    for part, asked in (("test", splits.test), ("val", splits.val)):
        share = sum(split == part for split in chosen.values()) / max(len(pool), 1)
        if isinstance(asked, float) and abs(share - asked) > FAR * asked:
            parsed.notes.append(
                f"splits: {part} holds {share:.0%} of the samples instead of {asked:.0%}: each {splits.by} stays whole"
            )


def _refuse_given(samples: Iterable[Sample], splits: Splits) -> None:
    has = {sample.split for sample in samples}
    for part, asked in (("test", splits.test), ("val", splits.val)):
        if asked is not None and (part == "test" or part in has):
            raise DataError(
                f"splits: the corpus has its own splits ({', '.join(sorted(has))}), and `splits` asks for {part}: "
                "expected one of them; only validation can be taken out of a training part"
            )


def _group(sample: Sample, by: str) -> str:
    return sample.sample_id if by == "random" else (sample.speaker if by == "speaker" else sample.dialogue) or ""


def _stratum(sample: Sample) -> str:
    """The label on which a sample is stratified; of intensities the highest."""
    if sample.intensities:
        strongest = max(sample.intensities.values())
        return min(name for name, value in sample.intensities.items() if value == strongest) if strongest > 0 else ""
    return sample.label or ""


def split_groups(groups: Mapping[str, str], labels: Mapping[str, str], splits: Splits) -> dict[str, str]:
    """Choose test and validation.

    Args:
        groups: Sample id -> group that stays whole.
        labels: Sample id -> native label.
        splits: What is asked for.

    Returns:
        Sample id -> `test` or `val`; what is left is to train on.

    Raises:
        DataError: A listed name is of no group.
    """
    chosen: dict[str, str] = {}
    parts = (("test", splits.test), ("val", splits.val))
    for part, names in parts:
        if isinstance(names, tuple):
            known = set(groups.values())
            for name in names:
                if name not in known:
                    raise DataError(f"splits: {part}: no {splits.by} {name!r}: {suggest(name, filter(None, known))}")
            chosen |= {i: part for i, group in groups.items() if group in names}
    for number, (part, share) in enumerate(parts):
        if not isinstance(share, float):
            continue
        pool = {i: group for i, group in groups.items() if i not in chosen}
        fraction = min(share * len(groups) / max(len(pool), 1), 1.0)
        seed = (splits.seed, number)
        found = _choose(pool, labels, fraction, splits, seed)
        if part == "test" and isinstance(splits.val, float) and splits.by != "random":
            found = _with_two_groups_left(found, pool)
        chosen |= dict.fromkeys(found, part)
    return chosen


def _with_two_groups_left(found: set[str], groups: Mapping[str, str]) -> set[str]:
    """Give a group of a test part back where only one would be left, for training and validation."""
    taken = sorted({groups[i] for i in found})
    if len(taken) > 1 and len(set(groups.values()) - set(taken)) < 2:
        return {i for i in found if groups[i] != taken[-1]}
    return found


def _choose(
    groups: Mapping[str, str], labels: Mapping[str, str], fraction: float, splits: Splits, seed: tuple[int, int]
) -> set[str]:
    """About a fraction of the samples, never all."""
    if splits.by == "random":
        return _utterances(groups, labels if splits.stratified else {}, fraction, np.random.default_rng(seed))
    members: dict[str, list[str]] = {}
    for sample_id in sorted(groups):
        members.setdefault(groups[sample_id], []).append(sample_id)
    if len(members) < 2 or fraction >= 1:
        return set()
    strata = labels if splits.stratified else {}
    validation = Validation(by="dialogue", fraction=fraction, seed=splits.seed + seed[1])
    found = seeded_validation(groups, {i: strata.get(i, "") for i in groups}, validation)
    # A part that was asked for is not left empty where a group is larger than it: the smallest one makes it.
    return found or set(members[min(sorted(members), key=lambda name: len(members[name]))])


def _utterances(
    ids: Iterable[str], labels: Mapping[str, str], fraction: float, generator: np.random.Generator
) -> set[str]:
    """A fraction of the ids, and of those of every label as nearly as whole numbers allow."""
    strata: dict[str, list[str]] = {}
    for sample_id in sorted(ids):
        strata.setdefault(labels.get(sample_id, ""), []).append(sample_id)
    total = sum(map(len, strata.values()))
    wanted = min(round(fraction * total), total - 1)
    shares = {label: fraction * len(members) for label, members in sorted(strata.items())}
    sizes = {label: int(share) for label, share in shares.items()}
    by_remainder = sorted(shares, key=lambda label: (sizes[label] - shares[label], label))
    for label in by_remainder[: max(wanted - sum(sizes.values()), 0)]:
        sizes[label] += 1
    chosen = set[str]()
    for label, members in sorted(strata.items()):
        chosen |= {members[i] for i in generator.permutation(len(members))[: sizes[label]]}
    return chosen

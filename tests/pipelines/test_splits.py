"""Validation carved out of a training part: whole groups, every label, the same from any order of rows."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.entries import Validation
from merloco.pipelines.corpora.splits import MIN_GROUPS, seeded_validation

IEMOCAP = {
    "fru": 1468, "neu": 1324, "ang": 933, "sad": 839, "exc": 742, "hap": 452, "xxx": 2005, "sur": 89, "fea": 30,
    "dis": 2, "oth": 3,
}  # fmt: skip
"""About what sessions 1 to 4 of the release hold: 120 dialogues, labels that come in runs."""


def iemocap() -> tuple[dict[str, str], dict[str, str]]:
    """Sample id -> dialogue and -> label, with the skew of scripted dialogues: a few of them hold most of a label."""
    generator = np.random.default_rng(3)
    groups, labels = {}, {}
    for label, count in IEMOCAP.items():
        mood = generator.dirichlet(np.full(120, 0.3))
        for i, dialogue in enumerate(generator.choice(120, count, p=mood)):
            groups[f"{label}{i}"], labels[f"{label}{i}"] = f"d{dialogue}", label
    return groups, labels


def test_every_label_of_iemocap_that_enough_dialogues_hold_is_in_validation() -> None:
    groups, labels = iemocap()
    chosen = seeded_validation(groups, labels, Validation(by="dialogue", fraction=0.1, seed=7))
    counts = Counter(labels[i] for i in chosen)
    held = {label: len({groups[i] for i in groups if labels[i] == label}) for label in IEMOCAP}
    assert all(counts[label] for label in IEMOCAP if held[label] >= MIN_GROUPS)
    assert len(chosen) == pytest.approx(0.1 * len(groups), rel=0.1)
    for label in ("fru", "neu", "ang", "sad", "exc", "hap"):
        assert counts[label] / IEMOCAP[label] == pytest.approx(0.1, abs=0.03), label
    assert {groups[i] for i in chosen}.isdisjoint(groups[i] for i in groups if i not in chosen)


def test_another_seed_is_another_choice() -> None:
    groups, labels = iemocap()
    one, same, other = (
        seeded_validation(groups, labels, Validation(by="dialogue", fraction=0.1, seed=seed)) for seed in (7, 7, 8)
    )
    assert one == same != other


@st.composite
def parts(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    rows = draw(st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=1, max_size=60))
    ids = [f"u{i:02d}" for i in range(len(rows))]
    return (
        {i: f"d{group}" for i, (group, _) in zip(ids, rows, strict=True)},
        {i: label for i, (_, label) in zip(ids, rows, strict=True)},
    )


@settings(max_examples=60)
@given(parts(), st.floats(0.05, 0.5), st.integers(0, 3))
def test_groups_stay_whole_something_is_left_and_order_plays_no_part(part: tuple, fraction: float, seed: int) -> None:
    groups, labels = part
    validation = Validation(by="dialogue", fraction=fraction, seed=seed)
    chosen = seeded_validation(groups, labels, validation)
    rest = groups.keys() - chosen
    assert rest and {groups[i] for i in chosen}.isdisjoint(groups[i] for i in rest)
    assert {labels[i] for i in chosen} <= {labels[i] for i in rest}, "no label is in validation alone"
    mixed = list(groups)
    random.Random(seed).shuffle(mixed)
    assert seeded_validation({i: groups[i] for i in mixed}, labels, validation) == chosen

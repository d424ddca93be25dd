"""Folds of a cross-validation: every row is tested once, groups are whole, and the order of rows plays no part."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from merloco.models.errors import ModelError
from merloco.models.folds import MOST_VALIDATION, FoldRows, make_folds
from merloco.models.fusion.table import FeatureTable
from tests.helpers.training import CONFIG, planted

LABELS = ("angry", "happy", "sad")


def rows_of(groups: list[str], labels: list[str], dialogues: list[str] | None = None, by: str = "speaker") -> FoldRows:
    ids = [f"c/x/{i:04d}" for i in range(len(groups))]
    columns = (ids, ids if by == "random" else groups, dialogues or groups, labels)
    return FoldRows("corpus", by, *(np.array(column, dtype=str) for column in columns))


@st.composite
def corpora(draw: st.DrawFn) -> tuple[FoldRows, int]:
    """Rows of up to eight speakers in dialogues of four rows, and a number of folds that they can have."""
    by = draw(st.sampled_from(["speaker", "random"]))
    groups = draw(st.lists(st.sampled_from("abcdefgh"), min_size=12, max_size=120))
    labels = [draw(st.sampled_from(LABELS)) for _ in groups]
    rows = rows_of(groups, labels, [f"{g}{i // 4}" for i, g in enumerate(groups)], by)
    distinct = len(set(rows.group.tolist()))
    assume(distinct > 1)
    return rows, draw(st.integers(2, min(distinct, 10)))


def folds_or_assume(rows: FoldRows, k: int | None, stratified: bool, seed: int = 0) -> dict[str, np.ndarray]:
    try:
        return make_folds(rows, k, stratified, seed)
    except ModelError:
        assume(False)
        raise


@given(corpora(), st.booleans(), st.booleans(), st.integers(0, 5))
def test_every_row_is_tested_once_and_no_group_is_on_both_sides(
    case: tuple[FoldRows, int], stratified: bool, leave_one_out: bool, seed: int
) -> None:
    rows, k = case
    folds = folds_or_assume(rows, None if leave_one_out else k, stratified and not leave_one_out, seed)
    tested = np.sum([split == "test" for split in folds.values()], axis=0)
    assert (tested == 1).all()
    for split in folds.values():
        inside = set(rows.group[split == "test"].tolist())
        assert inside and inside.isdisjoint(rows.group[split != "test"].tolist())
        assert set(rows.label[split == "train"]) == set(rows.label), "every class trains"
    if not leave_one_out:
        assert len(folds) == k


@given(corpora(), st.integers(0, 5))
def test_validation_leaves_most_rows_to_train_on(case: tuple[FoldRows, int], seed: int) -> None:
    rows, k = case
    for split in folds_or_assume(rows, k, False, seed).values():
        others = split != "test"
        assert (split == "train").any() and (split == "val").sum() <= max(MOST_VALIDATION * others.sum(), len(LABELS))


@given(corpora(), st.integers(0, 5))
def test_stratified_folds_of_single_rows_are_within_one_row_per_class(case: tuple[FoldRows, int], seed: int) -> None:
    rows, k = case
    assume(rows.by == "random")
    folds = folds_or_assume(rows, k, True, seed)
    for name in set(rows.label.tolist()):
        counts = [int(((split == "test") & (rows.label == name)).sum()) for split in folds.values()]
        assert max(counts) - min(counts) <= 1
    sizes = [int((split == "test").sum()) for split in folds.values()]
    assert max(sizes) - min(sizes) <= 1


@given(corpora(), st.booleans(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_folds_in_any_order_of_rows(
    case: tuple[FoldRows, int], stratified: bool, seed: int, random: object
) -> None:
    rows, k = case
    order = np.arange(len(rows.label))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = folds_or_assume(rows, k, stratified, seed)
    second = make_folds(rows[order], k, stratified, seed)
    assert list(first) == list(second)
    assert all((first[name][order] == second[name]).all() for name in first)


def test_groups_left_out_one_by_one_give_their_names_to_the_folds() -> None:
    rows = rows_of(["b", "a", "c", "a", "b", "c"] * 4, ["happy", "happy", "sad", "sad", "sad", "happy"] * 4)
    folds = make_folds(rows, None)
    assert list(folds) == ["a", "b", "c"]
    assert all(set(rows.group[split == "test"]) == {name} for name, split in folds.items())


def test_another_seed_deals_the_rows_anew() -> None:
    rows = rows_of(["a"] * 40, ["happy", "sad"] * 20, by="random")
    first, second = (make_folds(rows, 4, True, seed) for seed in (0, 1))
    assert any((first[name] != second[name]).any() for name in first)


def test_whole_groups_validate_where_they_are_small_and_dialogues_where_not() -> None:
    five = rows_of([f"s{i // 40}" for i in range(200)], ["happy", "sad"] * 100, [f"d{i // 8}" for i in range(200)])
    for split in make_folds(five, None).values():
        assert set(five.group[split == "val"]).isdisjoint(five.group[split == "train"])
        assert (split == "val").sum() == 40
    two = rows_of([f"s{i // 100}" for i in range(200)], ["happy", "sad"] * 100, [f"d{i // 8}" for i in range(200)])
    for split in make_folds(two, None).values():
        assert set(two.dialogue[split == "val"]).isdisjoint(two.dialogue[split == "train"])
        assert 0 < (split == "val").sum() < 20


def test_groups_of_unlike_size_make_folds_of_like_size() -> None:
    sizes = [30, 20, 10, 10, 10, 5, 5, 5, 3, 2]
    groups = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    rows = rows_of(groups, ["happy", "sad"] * 50)
    tested = [int((split == "test").sum()) for split in make_folds(rows, 3).values()]
    assert max(tested) - min(tested) <= 5


def test_as_many_folds_as_groups_are_all_filled() -> None:
    rows = rows_of(["a"] * 50 + ["b", "c", "d"] * 2, (["happy", "sad"] * 28))
    assert all((split == "test").any() for split in make_folds(rows, 4, stratified=True).values())


@pytest.mark.parametrize(
    ("groups", "labels", "k", "stratified", "sentence"),
    [
        ("aabbcc", "hshshs", 4, False, "corpus has 3 speakers with a label: k = 4 folds need 4 or more"),
        ("aaaaaa", "hshshs", None, False, "corpus has 1 speaker with a label: leaving one speaker out needs two"),
        ("", "", 2, False, "corpus has 0 speakers with a label: k = 2 folds need 2 or more"),
        ("aabbcc", "hhhsss", 3, True, ""),
        ("aabbcc", "hhhhss", 3, True, "corpus has 2 rows of s: k = 3 stratified folds need 3 or more of every class"),
        ("aabbcc", "hhhhss", None, False, "corpus, fold c (by speaker): it tests every row of s (2), so that none is"),
    ],
)
def test_what_cannot_be_divided_is_one_sentence(
    groups: str, labels: str, k: int | None, stratified: bool, sentence: str
) -> None:
    rows = rows_of(list(groups), list(labels))
    if not sentence:
        assert len(make_folds(rows, k, stratified)) == k
        return
    with pytest.raises(ModelError) as error:
        make_folds(rows, k, stratified)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_the_rows_of_all_folds_lie_in_memory_once() -> None:
    data = planted(60)
    folds = [replace(data, split=data.split[::-1].copy()), data, planted(60)]
    table = FeatureTable(folds, CONFIG, "cpu")
    assert len(table.label) == 120 and [table.offset(fold) for fold in folds] == [0, 0, 60]

"""Splits made for a corpus that has none: whole groups, every label, the same from any order of rows."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.corpora.table.options import Splits
from merloco.pipelines.corpora.table.splits import split_groups
from merloco.pipelines.errors import DataError
from tests.helpers.table_corpora import parse_table_corpus, write_table

COLUMNS = {"name": "id", "label": "emotion", "speaker": "who", "dialogue": "talk"}
LABELS = ("joy", "anger", "sadness", "neutral")


def corpus(root: Path, split: str = "", n: int = 120) -> Path:
    """Twelve speakers in two dialogues each; four labels in turn."""
    rows = [f"u{i},{LABELS[i % 4]},s{i // 10},d{i // 5},{split}" for i in range(n)]
    return write_table(root, "id,emotion,who,talk,part", *rows)


def parse(root: Path, splits: dict[str, object], **columns: str) -> Parsed:
    return parse_table_corpus(root, file="labels.csv", columns=COLUMNS | columns, splits=splits)


@pytest.mark.parametrize("by", ["speaker", "dialogue", "random"])
def test_splits_have_their_share_and_keep_groups_whole(tmp_path: Path, by: str) -> None:
    samples = parse(corpus(tmp_path), {"by": by, "test": 0.25, "val": 0.1}).samples
    counts = Counter(sample.split for sample in samples)
    assert counts["test"] == 30 and counts["val"] == (12 if by == "random" else 10)
    if by != "random":
        parts: dict[str | None, set[str]] = {}
        for sample in samples:
            parts.setdefault(getattr(sample, by), set()).add(sample.split)
        assert all(len(found) == 1 for found in parts.values())
    labels = Counter(sample.label for sample in samples if sample.split == "test")
    assert max(labels.values()) - min(labels.values()) <= 2


def test_the_order_of_rows_plays_no_part_and_the_seed_does(tmp_path: Path) -> None:
    root = corpus(tmp_path)
    splits = {"by": "speaker", "test": 0.25, "val": 0.1, "seed": 3}
    first = {s.sample_id: s.split for s in parse(root, splits).samples}
    header, *rows = (root / "labels.csv").read_text().splitlines()
    random.Random(1).shuffle(rows)
    write_table(root, header, *rows)
    assert {s.sample_id: s.split for s in parse(root, splits).samples} == first
    assert {s.sample_id: s.split for s in parse(root, splits | {"seed": 4}).samples} != first


def test_speakers_are_listed_and_an_unknown_one_names_the_nearest(tmp_path: Path) -> None:
    root = corpus(tmp_path)
    samples = parse(root, {"by": "speaker", "test": ["s5", "s7"], "val": 0.1}).samples
    assert {s.speaker for s in samples if s.split == "test"} == {"s5", "s7"}
    assert len({s.speaker for s in samples if s.split == "val"}) == 1
    with pytest.raises(DataError, match=r"splits: test: no speaker 's55': did you mean 's5'\?"):
        parse(root, {"by": "speaker", "test": ["s55"]})


def test_validation_is_taken_out_of_the_training_part_that_the_corpus_has(tmp_path: Path) -> None:
    root = corpus(tmp_path, split="train")
    with (root / "labels.csv").open("a") as file:
        file.writelines(f"v{i},joy,t{i},e{i},test\n" for i in range(10))
    samples = parse(root, {"by": "speaker", "val": 0.1}, split="part").samples
    assert {s.speaker for s in samples if s.split == "test"} == {f"t{i}" for i in range(10)}
    assert Counter(s.split for s in samples) == {"train": 110, "val": 10, "test": 10}
    with pytest.raises(DataError, match=r"the corpus has its own splits \(test, train\), and `splits` asks for test"):
        parse(root, {"by": "speaker", "test": 0.1}, split="part")


def test_a_part_that_was_asked_for_is_not_empty_and_a_share_far_off_is_said(tmp_path: Path) -> None:
    write_table(tmp_path, "id,emotion,who,talk", *(f"u{i},joy,s{i % 3},d" for i in range(30)))
    parsed = parse(tmp_path, {"by": "speaker", "test": 0.2, "val": 0.1})
    assert Counter(s.split for s in parsed.samples) == {"train": 10, "val": 10, "test": 10}
    assert "splits: val holds 33% of the samples instead of 10%: each speaker stays whole" in parsed.notes


def test_splits_by_what_no_sample_has_are_refused_and_no_splits_are_a_note(tmp_path: Path) -> None:
    write_table(tmp_path, "id,emotion", "u1,joy", "u2,anger")
    columns = {"name": "id", "label": "emotion"}
    with pytest.raises(DataError, match="splits by speaker: no sample has a speaker; expected a column or field"):
        parse_table_corpus(tmp_path, file="labels.csv", columns=columns, splits={"test": 0.5})
    parsed = parse_table_corpus(tmp_path, file="labels.csv", columns=columns)
    assert {s.split for s in parsed.samples} == {"none"} and "no splits: every split is none" in parsed.notes[0]


@st.composite
def rows(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    found = draw(st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=1, max_size=50))
    groups = {f"u{i:02d}": f"g{group}" for i, (group, _) in enumerate(found)}
    return groups, {f"u{i:02d}": label for i, (_, label) in enumerate(found)}


@settings(max_examples=40)
@given(
    rows(),
    st.sampled_from(["speaker", "random"]),
    st.floats(0.05, 0.45),
    st.floats(0.05, 0.45),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_corpus_keeps_groups_whole_leaves_training_and_depends_on_no_order(
    corpus_rows: tuple[dict[str, str], dict[str, str]], by: str, test: float, val: float, seed: int, stratified: bool
) -> None:
    groups, labels = corpus_rows
    groups = {i: i for i in groups} if by == "random" else groups
    splits = Splits(by=by, test=test, val=val, seed=seed, stratified=stratified)
    chosen = split_groups(groups, labels, splits)
    assert set(chosen) < set(groups), "something is left to train on"
    parts: dict[str, set[str]] = {}
    for i, group in groups.items():
        parts.setdefault(group, set()).add(chosen.get(i, "train"))
    assert all(len(found) == 1 for found in parts.values())
    assert len(parts) < 3 or {"test", "val"} <= set(chosen.values()) or by == "random"
    mixed = list(groups)
    random.Random(seed).shuffle(mixed)
    assert split_groups({i: groups[i] for i in mixed}, labels, splits) == chosen


def test_two_groups_are_left_where_validation_is_asked_for_as_well() -> None:
    groups = {"u00": "g0", "u01": "g0", "u02": "g0", "u03": "g1", "u04": "g2"}
    splits = Splits(by="speaker", test=0.375, val=0.25, seed=0, stratified=False)
    chosen = split_groups(groups, dict.fromkeys(groups, "a"), splits)
    assert set(chosen.values()) == {"test", "val"} and len(chosen) < len(groups)


@given(st.lists(st.sampled_from("abcd"), min_size=40, max_size=200), st.floats(0.1, 0.4), st.integers(0, 5))
def test_utterances_at_random_have_every_label_in_its_share(labels: list[str], share: float, seed: int) -> None:
    ids = {f"u{i:03d}": label for i, label in enumerate(labels)}
    chosen = split_groups({i: i for i in ids}, ids, Splits(by="random", test=share, seed=seed))
    assert len(chosen) == round(share * len(ids))
    for label, n in Counter(labels).items():
        assert abs(sum(ids[i] == label for i in chosen) - share * n) <= 1, label

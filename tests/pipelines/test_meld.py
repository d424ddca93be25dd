"""MELD: rows drive, never files; ids carry the part; both encodings read."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import to_table
from tests.helpers.meld_release import csv_text, release, row
from tests.helpers.store_files import CATALOG

WORKSPACE = Path(__file__).parents[2]
REAL = Path(os.environ.get("MERLOCO_MELD", WORKSPACE.parent / "shared" / "meld"))
real_meld = pytest.mark.skipif(not REAL.is_dir(), reason="MELD's annotation files are not here (MERLOCO_MELD)")
ENTRY = load_catalog(CATALOG).corpus("meld")


def parse(root: Path) -> Parsed:
    return parse_corpus("meld", ENTRY, root)


def clip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"clip")


def test_equal_names_in_two_parts_do_not_collide(tmp_path: Path) -> None:
    table = to_table(parse(release(tmp_path)).samples)
    ids = ["meld/dev/dia0_utt0", "meld/test/dia0_utt0", "meld/train/dia0_utt0"]
    assert table["sample_id"].to_pylist() == ids
    assert table["split"].to_pylist() == ["val", "test", "train"]
    assert table["dialogue"].to_pylist() == ["dev/dia0", "test/dia0", "train/dia0"]


def test_c1_control_characters_become_typographic_ones(tmp_path: Path) -> None:
    text = parse(release(tmp_path, [row(1, 0, 0, "You\x92re late\x85\u00a0ok")])).samples[0].text
    assert text == "You’re late… ok"


def test_a_cp1252_file_reads(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "train_sent_emo.csv").write_bytes(csv_text([row(1, 0, 0, "You’re late")]).encode("cp1252"))
    assert parse(root).samples[0].text == "You’re late"


def test_one_byte_of_another_encoding_spoils_no_other_row(tmp_path: Path) -> None:
    root = release(tmp_path)
    good, odd = row(1, 0, 0, "You’re late"), row(2, 0, 1, "You*re late")
    (root / "train_sent_emo.csv").write_bytes(csv_text([good, odd]).encode().replace(b"*", b"\x92"))
    assert [s.text for s in parse(root).samples if s.split == "train"] == ["You’re late"] * 2


def test_a_link_to_nowhere_is_no_clip_folder(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "train_splits").symlink_to(root / "nowhere")
    assert len(parse(root).samples) == 3


@pytest.mark.parametrize(
    "folder", ["train_splits", "train/train_splits", "MELD.Raw/train_splits", "MELD.Raw/train/train_splits"]
)
def test_clips_are_found_in_every_layout(tmp_path: Path, folder: str) -> None:
    root = release(tmp_path)
    clip(root / folder / "dia0_utt0.mp4")
    sample = next(s for s in parse(root).samples if s.split == "train")
    assert (sample.video_path, sample.video_status) == (f"{folder}/dia0_utt0.mp4", "ok")


def test_annotations_inside_the_part_folders_are_found(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        folder = tmp_path / "MELD.Raw" / part
        folder.mkdir(parents=True)
        (folder / f"{part}_sent_emo.csv").write_text(csv_text([row(1, 0, 0)]))
    assert len(parse(tmp_path).samples) == 3


def test_the_corrected_cut_wins_and_stubs_are_ignored(tmp_path: Path) -> None:
    root = release(tmp_path)
    folder = root / "output_repeated_splits_test"
    for name in (
        "dia0_utt0.mp4",
        "final_videos_testdia0_utt0.mp4",
        "._dia0_utt1.mp4",
        "._final_videos_testdia5_utt2.mp4",
    ):
        clip(folder / name)
    parsed = parse(root)
    sample = next(s for s in parsed.samples if s.split == "test")
    assert sample.video_path == "output_repeated_splits_test/final_videos_testdia0_utt0.mp4"
    assert not any("without an annotation row" in note for note in parsed.notes)


def test_a_clip_without_a_row_is_a_note_and_a_row_without_a_clip_keeps_its_place(tmp_path: Path) -> None:
    root = release(tmp_path)
    clip(root / "dev_splits_complete" / "dia49_utt4.mp4")
    parsed = parse(root)
    assert any("dia49_utt4" in note for note in parsed.notes)
    sample = next(s for s in parsed.samples if s.split == "val")
    assert (sample.video_status, sample.text_status) == ("missing_media", "ok")


def test_known_bad_and_odd_clips_are_marked_by_the_catalog(tmp_path: Path) -> None:
    rows = [row(1, 125, 3), row(2, 179, 8), row(3, 0, 0, EndTime="00:00:59,000"), row(4, 1, 0, EndTime="0:00:01,000")]
    samples = {s.sample_id: s for s in parse(release(tmp_path, rows)).samples if s.split == "train"}
    assert samples["meld/train/dia125_utt3"].video_status == "known_bad"
    marks = {sample_id.rsplit("/", 1)[1]: sample.marks for sample_id, sample in samples.items()}
    assert marks == {
        "dia125_utt3": ("known_bad",),
        "dia179_utt8": ("near_empty",),
        "dia0_utt0": ("over_long",),
        "dia1_utt0": ("bad_interval",),
    }


def test_turns_follow_the_utterance_ids_over_their_gaps(tmp_path: Path) -> None:
    samples = parse(release(tmp_path, [row(2, 3, 9), row(1, 3, 2), row(3, 4, 1)])).samples
    turns = {s.sample_id: s.turn for s in samples if s.split == "train"}
    assert turns == {"meld/train/dia3_utt2": 0, "meld/train/dia3_utt9": 1, "meld/train/dia4_utt1": 0}


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    broken = csv_text([row(1, 0, 0)]).replace("Emotion", "Emotions", 1)
    with pytest.raises(DataError, match=r"column 'Emotion' is missing: expected the columns Utterance, .*Emotions"):
        parse(_with(tmp_path, broken))


def _with(root: Path, train: str) -> Path:
    release(root)
    (root / "train_sent_emo.csv").write_text(train)
    return root


def test_no_annotation_at_all_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_sent_emo\.csv, dev_sent_emo\.csv, test_sent_emo\.csv"):
        parse(tmp_path)


def test_an_equal_row_is_left_out_and_says_where_the_first_is(tmp_path: Path) -> None:
    parsed = parse(release(tmp_path, [row(1, 0, 0, "same"), row(2, 0, 0, "same")]))
    assert [(e.code, e.line) for e in parsed.errors] == [("duplicate_row", 3)]
    assert "is also in train_sent_emo.csv:2" in parsed.errors[0].message
    assert next(s for s in parsed.samples if s.split == "train").text == "same"


@pytest.mark.parametrize(
    "other", [{"text": "second"}, {"emotion": "anger"}, {"EndTime": "0:00:09,000"}, {"Season": "7"}]
)
def test_rows_of_one_utterance_that_disagree_are_an_error_with_both_places(tmp_path: Path, other: dict) -> None:
    root = release(tmp_path, [row(1, 0, 0), row(2, 0, 0, **other)])
    with pytest.raises(
        DataError, match=r"^train_sent_emo\.csv:3: meld/train/dia0_utt0 is also in train_sent_emo\.csv:2"
    ):
        parse(root)


@settings(max_examples=60)
@given(
    which=st.integers(0, 4),
    junk=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=60),
)
def test_any_mangled_line_costs_that_line_only(tmp_path: Path, which: int, junk: str) -> None:
    lines = csv_text([row(i, 0, i, f"line {i}") for i in range(5)]).splitlines()
    lines[1 + which] = junk
    parsed = parse(_with(tmp_path, "\n".join(lines)))
    kept = {s.text for s in parsed.samples if s.split == "train"}
    assert kept >= {f"line {i}" for i in range(5) if i != which}
    for error in parsed.errors:
        assert (error.file, error.line) == ("train_sent_emo.csv", 2 + which)


@real_meld
def test_the_real_release_gives_the_published_counts() -> None:
    parsed = parse(REAL)
    samples = parsed.samples
    assert parsed.errors == []
    assert Counter(s.split for s in samples) == {"train": 9989, "val": 1109, "test": 2610}
    expected = {
        "neutral": 4710,
        "joy": 1743,
        "surprise": 1205,
        "anger": 1109,
        "sadness": 683,
        "disgust": 271,
        "fear": 268,
    }
    assert Counter(s.label for s in samples if s.split == "train") == expected
    assert sum(s.duration or 0 for s in samples) / 3600 == pytest.approx(12.07, abs=0.005)
    for split, dialogues, speakers in (("train", 1038, 260), ("val", 114, 47), ("test", 280, 100)):
        part = [s for s in samples if s.split == split]
        assert len({s.dialogue for s in part}) == dialogues
        assert len({s.speaker for s in part}) == speakers
    assert not any(0x80 <= ord(c) < 0xA0 for s in samples for c in s.text or "")
    bad = [s.sample_id for s in samples if "known_bad" in s.marks]
    assert sorted(bad) == ["meld/dev/dia110_utt7", "meld/train/dia125_utt3"]

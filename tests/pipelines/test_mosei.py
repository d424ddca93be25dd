"""CMU-MOSEI: three label sources, one samples table; joined by interval, never by row number."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.corpora.mosei.transcripts import parse_segment
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample, to_table
from tests.helpers.mosei_release import NAMES, Truth, csd, transcripts
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("mosei")


def truth() -> Truth:
    """Two videos; the first has thirteen clips, so that string order and number order differ."""
    generator = np.random.default_rng(3)
    videos: Truth = {}
    for video, clips in (("-3g5yACwYnA", 13), ("PtH_8O__EAY", 2)):
        videos[video] = {}
        for clip in range(clips):
            start = -0.25 if clip == 0 else 3.0 * clip + 0.125
            values = [float(generator.integers(-9, 10)) / 3, *(generator.integers(0, 10, 6) / 3).tolist()]
            videos[video][clip] = (start, 3.0 * clip + 2.5, values, f"text {clip} with a_b___c")
    return videos


def folds(root: Path) -> None:
    text = (
        'standard_train_fold = ["-3g5yACwYnA"]\nstandard_valid_fold = ["PtH_8O__EAY"]\nstandard_test_fold = []\n'
        "raise SystemExit  # never run\n"
    )
    (root / "cmu_mosei_std_folds.py").write_text(text)


def workers(root: Path, videos: Truth) -> Path:
    """Three workers per clip whose mean is the truth."""
    folder = root / "Raw" / "Labels"
    folder.mkdir(parents=True)
    columns = {"happy": "happiness", "sad": "sadness"}
    with (folder / "5000_batch_raw.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["Input.VIDEO_ID", "Input.CLIP", "WorkerId", *(f"Answer.{columns.get(n, n)}" for n in NAMES)])
        for video, clips in videos.items():
            for clip, (_, _, values, _) in clips.items():
                for shift in (-1 / 3, 0, 1 / 3):
                    writer.writerow([f"path/{video}", clip, "W", *(v + shift for v in values)])
    return root


def table(root: Path, videos: Truth) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "Data_Train_modified.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["video", "start_time", "end_time", *NAMES, "text"])
        for video, clips in reversed(videos.items()):
            for start, end, values, text in clips.values():
                writer.writerow([video, start, end, *values, text])
    return root


def parse(root: Path) -> Parsed:
    return parse_corpus("mosei", ENTRY, root)


@pytest.mark.parametrize("source", [csd, workers, table])
def test_every_label_source_gives_the_same_samples(tmp_path: Path, source: object) -> None:
    videos = truth()
    reference = csd(tmp_path / "reference", videos)
    other = source(tmp_path / "other", videos)
    for root in (reference, other):
        transcripts(root if root == reference else root / ("Raw" if source is workers else ""), videos)
        folds(root)
    assert to_table(parse(other).samples).equals(to_table(parse(reference).samples))


def test_labels_meet_their_texts_although_rows_are_in_string_order(tmp_path: Path) -> None:
    videos = truth()
    root = csd(tmp_path, videos)
    transcripts(root, videos)
    for sample in parse(root).samples:
        _, video, clip = sample.sample_id.split("/")
        _, end, values, text = videos[video][int(clip)]
        assert sample.text == text and sample.end == end
        assert sample.native["sentiment"] == pytest.approx(values[0], abs=1e-6)
        assert list(sample.intensities.values()) == pytest.approx(values[1:], abs=1e-6)


def test_dimension_names_are_read_from_the_metadata(tmp_path: Path) -> None:
    videos = truth()
    plain, shuffled = csd(tmp_path / "a", videos), csd(tmp_path / "b", videos, names=NAMES[::-1])
    assert parse(plain).samples == parse(shuffled).samples


def test_a_negative_start_is_clamped_and_marked(tmp_path: Path) -> None:
    root = csd(tmp_path, truth())
    transcripts(root, truth())
    sample = next(s for s in parse(root).samples if s.sample_id == "mosei/-3g5yACwYnA/0")
    assert (sample.start, sample.video_start, sample.native["start"], sample.marks) == (
        0.0,
        0.0,
        -0.25,
        ("negative_start",),
    )


def test_folds_are_read_and_other_videos_have_no_split(tmp_path: Path) -> None:
    videos = truth() | {"outside00000": {0: (0.0, 1.0, [0.0] * 7, "x")}}
    root = csd(tmp_path, videos)
    folds(root)
    splits = {s.dialogue: s.split for s in parse(root).samples}
    assert splits == {"-3g5yACwYnA": "train", "PtH_8O__EAY": "val", "outside00000": "none"}


def test_without_folds_a_note_names_the_file(tmp_path: Path) -> None:
    parsed = parse(csd(tmp_path, truth()))
    assert {s.split for s in parsed.samples} == {"none"}
    assert any("cmu_mosei_std_folds.py" in note for note in parsed.notes)


def test_a_segment_without_transcript_keeps_its_row(tmp_path: Path) -> None:
    sample = parse(csd(tmp_path, truth())).samples[1]
    assert sample.sample_id == "mosei/-3g5yACwYnA/t3125-5500"
    assert (sample.text_status, sample.marks) == ("no_text", ("no_transcript",))


def test_values_out_of_range_are_clipped_and_kept(tmp_path: Path) -> None:
    videos: Truth = {"abc": {0: (0.0, 1.0, [0.0, 3.5, 0, 0, 0, 0, 0], "x")}}
    sample = parse(csd(tmp_path, videos)).samples[0]
    assert (sample.intensities["happy"], sample.native["happy"], "out_of_range" in sample.marks) == (3.0, 3.5, True)


def test_full_videos_are_cut_and_ready_made_clips_are_whole(tmp_path: Path) -> None:
    videos = truth()
    root = csd(tmp_path, videos)
    transcripts(root, videos)
    for name in (
        "Raw/Videos/Full/Combined/-3g5yACwYnA.mp4",
        "Raw/Videos/Segmented/Combined/PtH_8O__EAY_1.mp4",
        "Raw/Audio/Full/WAV_16000/-3g5yACwYnA.wav",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"media")
    samples = {s.sample_id: s for s in parse(root).samples}
    cut, whole = samples["mosei/-3g5yACwYnA/1"], samples["mosei/PtH_8O__EAY/1"]
    assert (cut.video_start, cut.video_end, cut.audio_path[-4:], cut.audio_start) == (3.125, 5.5, ".wav", 3.125)
    assert (whole.video_start, whole.audio_path, whole.video_status) == (None, whole.video_path, "ok")
    assert samples["mosei/PtH_8O__EAY/0"].video_status == "missing_media"


@pytest.mark.parametrize("reader", [csd, table])
def test_stubs_of_macos_are_no_label_files(tmp_path: Path, reader: object) -> None:
    root = reader(tmp_path, truth())
    for path in list(root.iterdir()):
        path.with_name(f"._{path.name}").write_bytes(bytes(212))
    assert len(parse(root).samples) == 15


@settings(max_examples=60)
@given(
    name=st.sampled_from(["features", "intervals"]),
    array=st.none()
    | st.lists(st.floats(-1, 9), max_size=8).map(np.array)
    | st.tuples(st.integers(0, 14), st.integers(0, 8)).map(np.zeros)
    | st.sampled_from([np.full((13, 7), np.nan), np.full((13, 2), np.inf), np.array([b"x"] * 13), np.float64(1)]),
)
def test_any_damaged_array_costs_its_own_video_only(tmp_path: Path, name: str, array: np.ndarray | None) -> None:
    root = csd(tmp_path, truth())
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "r+") as handle:
        group = handle["All Labels/data/-3g5yACwYnA"]
        del group[name]
        if array is not None:
            group[name] = array
    parsed = parse(root)
    assert sum(s.dialogue == "PtH_8O__EAY" for s in parsed.samples) == 2
    assert all((e.file, "-3g5yACwYnA" in e.message) == ("CMU_MOSEI_Labels.csd", True) for e in parsed.errors)


def test_a_row_that_is_not_finite_costs_that_row(tmp_path: Path) -> None:
    root = csd(tmp_path, truth())
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "r+") as handle:
        handle["All Labels/data/-3g5yACwYnA/intervals"][2, 0] = np.nan
    parsed = parse(root)
    assert (len(parsed.samples), [(e.code, e.line) for e in parsed.errors]) == (14, [("bad_row", 3)])


def test_a_dimension_that_the_metadata_does_not_name_is_missed_by_name(tmp_path: Path) -> None:
    root = csd(tmp_path, truth())
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "r+") as handle:
        handle["All Labels/metadata/dimension names"][0] = json.dumps([*NAMES[:-1], "fright"])
    with pytest.raises(DataError, match=r"CMU_MOSEI_Labels\.csd: the dimension 'fear' is missing"):
        parse(root)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    for root, source, old, new in (
        (tmp_path / "a", table, "fear", "feer"),
        (tmp_path / "b", table, "start_time", "begin"),
        (tmp_path / "c", workers, "Answer.fear", "Answer.feer"),
        (tmp_path / "d", workers, "Input.CLIP", "Input.CLOP"),
    ):
        path = next(source(root, truth()).rglob("*.csv"))
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(DataError, match=rf"{path.name}: column '{old}' is missing: expected"):
            parse(root)


def test_a_table_without_emotions_is_no_label_source(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text("video_id,clip_id,text,label\nabc,1,hello,1.0\n")
    with pytest.raises(DataError, match=r"label\.csv has no column for an emotion"):
        parse(tmp_path)
    csd(tmp_path / "Raw", truth())
    assert len(parse(tmp_path / "Raw").samples) == 15


def test_the_common_tables_give_the_split_by_their_names(tmp_path: Path) -> None:
    videos = truth()
    root = table(tmp_path, {"-3g5yACwYnA": videos["-3g5yACwYnA"]})
    (root / "Data_Train_modified.csv").rename(root / "Data_Val_modified.csv")
    table(root, {"PtH_8O__EAY": videos["PtH_8O__EAY"]})
    parsed = parse(root)
    assert {s.dialogue: s.split for s in parsed.samples} == {"-3g5yACwYnA": "val", "PtH_8O__EAY": "train"}
    assert not any("no fold list" in note for note in parsed.notes)


def test_a_table_brings_its_own_texts_where_there_are_no_transcripts(tmp_path: Path) -> None:
    parsed = parse(table(tmp_path, truth()))
    texts = {s.start: s.text for s in parsed.samples if s.dialogue == "PtH_8O__EAY"}
    assert texts == {0.0: "text 0 with a_b___c", 3.125: "text 1 with a_b___c"}
    assert not any("no_transcript" in s.marks for s in parsed.samples)
    assert any("texts are those of the label table" in note for note in parsed.notes)


def test_a_damaged_vote_costs_the_vote_and_only_the_last_one_costs_the_row(tmp_path: Path) -> None:
    videos: Truth = {"abc": {c: (3.0 * c, 3.0 * c + 2, [0.0, 1.0, 0, 0, 0, 0, 0], "x") for c in range(2)}}
    root = workers(tmp_path, videos)
    transcripts(root / "Raw", videos)
    path = root / "Raw" / "Labels" / "5000_batch_raw.csv"
    lines = path.read_text().split("\n")
    lines[1] = lines[1].replace("W,", "W,much", 1)
    lines[4:7] = [line.replace("W,", "W,much", 1) for line in lines[4:7]]
    path.write_text("\n".join(lines))
    parsed = parse(root)
    assert [s.sample_id for s in parsed.samples] == ["mosei/abc/0"]
    assert [e.code for e in parsed.damaged] == ["bad_vote"] * 4
    assert [(e.code, e.line) for e in parsed.left_out] == [("bad_row", 5)]
    assert parsed.found == 2


@pytest.mark.parametrize(
    "text",
    [
        "standard_train_fold = [",
        "standard_train_fold = 5\nstandard_valid_fold = []\nstandard_test_fold = []",
        "standard_train_fold = ['a']\nstandard_valid_fold = ['a']\nstandard_test_fold = []",
        "x = 1",
        "\0",
    ],
)
def test_a_fold_file_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    root = csd(tmp_path, truth())
    (root / "cmu_mosei_std_folds.py").write_text(text)
    with pytest.raises(DataError, match=r"^cmu_mosei_std_folds\.py: "):
        parse(root)


@settings(max_examples=40)
@given(
    which=st.integers(0, 5), junk=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=50)
)
def test_any_mangled_worker_line_costs_that_vote_only(tmp_path: Path, which: int, junk: str) -> None:
    shutil.rmtree(tmp_path / "Raw", ignore_errors=True)
    videos: Truth = {"abc": {c: (3.0 * c, 3.0 * c + 2, [0.0] * 7, f"text {c}") for c in range(2)}}
    root = workers(tmp_path, videos)
    transcripts(root / "Raw", videos)
    path = root / "Raw" / "Labels" / "5000_batch_raw.csv"
    lines = path.read_text().split("\n")
    lines[1 + which] = junk
    path.write_text("\n".join(lines), encoding="utf-8")
    parsed = parse(root)
    assert {s.start for s in parsed.samples} == {0.0, 3.0}
    assert all((e.file, e.line) == ("5000_batch_raw.csv", 2 + which) for e in parsed.errors)


def test_no_labels_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CMU_MOSEI_Labels\.csd"):
        parse(tmp_path)


def test_a_file_that_is_no_csd_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "CMU_MOSEI_Labels.csd").write_text("not hdf5")
    with pytest.raises(DataError, match=r"CMU_MOSEI_Labels\.csd: not a label sequence"):
        parse(tmp_path)


@given(
    video=st.from_regex(r"[A-Za-z0-9_-]{5,10}[A-Za-z0-9]", fullmatch=True),
    clip=st.integers(0, 99),
    start=st.floats(-1, 1e4).map(lambda v: round(v, 3)),
    text=st.text(alphabet=st.characters(exclude_categories=("Cc", "Zl", "Zp", "Cs")), max_size=30),
)
def test_transcript_lines_of_any_id_and_text_parse(video: str, clip: int, start: float, text: str) -> None:
    segment = parse_segment(f"{video}___{clip}___{start:.3f}___{start + 1:.3f}___{text}", video)
    assert segment is not None
    assert (segment.clip, segment.start, segment.text) == (str(clip), pytest.approx(start), " ".join(text.split()))


@settings(max_examples=40)
@given(
    which=st.integers(0, 3), junk=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=50)
)
def test_any_mangled_transcript_line_costs_that_text_only(tmp_path: Path, which: int, junk: str) -> None:
    videos: Truth = {"abc": {c: (3.0 * c, 3.0 * c + 2, [0.0] * 7, f"text {c}") for c in range(4)}}
    root = csd(tmp_path, videos)
    transcripts(root, videos)
    path = root / "Transcript" / "Segmented" / "Combined" / "abc.txt"
    lines = path.read_text().split("\n")
    lines[which] = junk
    path.write_text("\n".join(lines), encoding="utf-8")
    parsed = parse(root)
    by_start = {s.start: s.text for s in parsed.samples}
    assert len(parsed.samples) == 4
    assert all(by_start[3.0 * c] == f"text {c}" for c in range(4) if c != which)
    assert all((e.file, e.line) == ("Transcript/Segmented/Combined/abc.txt", which + 1) for e in parsed.errors)


@settings(max_examples=40)
@given(
    which=st.integers(0, 3), junk=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=50)
)
def test_any_mangled_label_line_costs_that_line_only(tmp_path: Path, which: int, junk: str) -> None:
    videos: Truth = {"abc": {c: (3.0 * c, 3.0 * c + 2, [0.0] * 7, f"text {c}") for c in range(4)}}
    root = table(tmp_path, videos)
    path = root / "Data_Train_modified.csv"
    lines = path.read_text().split("\n")
    lines[1 + which] = junk
    path.write_text("\n".join(lines), encoding="utf-8")
    parsed = parse(root)
    assert {s.start for s in parsed.samples} >= {3.0 * c for c in range(4) if c != which}
    assert all((e.file, e.line) == ("Data_Train_modified.csv", 2 + which) for e in parsed.errors)


def test_samples_survive_the_table(tmp_path: Path) -> None:
    from merloco.pipelines.samples.schema import from_table

    samples: list[Sample] = parse(csd(tmp_path, truth())).samples
    back = from_table(to_table(samples))
    assert back == sorted((replace(s) for s in samples), key=lambda s: s.sample_id)


def test_two_segments_that_begin_at_zero_are_two_samples(tmp_path: Path) -> None:
    values = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    parsed = parse(csd(tmp_path, {"180971": {0: (0.0, 4.5, values, "a"), 1: (0.0, 9.25, values, "b")}}))
    assert [s.sample_id for s in parsed.samples] == ["mosei/180971/t0-4500", "mosei/180971/t0-9250"]
    assert parsed.errors == []


def test_a_row_that_is_there_twice_says_both_places(tmp_path: Path) -> None:
    table = tmp_path / "Labels" / "Data_Train_modified.csv"
    table.parent.mkdir()
    line = "180971,0.0,4.5,0.3,1,0,0,0,0,0,text"
    head = "video,start_time,end_time,sentiment,happy,sad,anger,surprise,disgust,fear,text"
    table.write_text("\n".join([head, line, line]) + "\n")
    parsed = parse(tmp_path)
    (error,) = parsed.errors
    assert (error.code, error.file, error.line) == ("duplicate_row", "Data_Train_modified.csv", 3)
    assert "is also in Data_Train_modified.csv:2" in error.message and len(parsed.samples) == 1

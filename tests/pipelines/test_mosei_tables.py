"""CMU-MOSEI's tables as spreadsheets and scripts leave them: splits by their usual names, seconds only."""

from pathlib import Path

import pytest

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.corpora.cells import SPLIT_WORDS
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.ingest import ingest_corpus
from tests.helpers.corpora_files import write_tone
from tests.helpers.mosei_release import NAMES, Truth, transcripts
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("mosei")
ROWS = [
    (f"video{i // 4}", 5.0 * (i % 4) + 0.125, 5.0 * (i % 4) + 4.5 + i / 8, *((i + k) % 4 / 3 for k in range(7)))
    for i in range(8)
]
HEADER = ["video", "start_time", "end_time", *NAMES]


def parsed_from(root: Path, lines: list, delimiter: str = ",", texts: bool = True, file: str = "labels.csv") -> Parsed:
    root.mkdir(parents=True, exist_ok=True)
    (root / file).write_text("\n".join(delimiter.join(map(str, line)) for line in lines) + "\n")
    if texts:
        videos: Truth = {}
        for i, (video, start, end, *values) in enumerate(ROWS):
            videos.setdefault(video, {})[i % 4] = (start, end, values, f"text {i}")
        transcripts(root, videos)
    return parse_corpus("mosei", ENTRY, root)


def with_split(words: list[str]) -> list:
    return [[*HEADER, "split"], *([*row, words[i % len(words)]] for i, row in enumerate(ROWS))]


@pytest.mark.parametrize("word", SPLIT_WORDS)
def test_the_usual_names_of_splits_are_read_in_any_case_and_trimmed(tmp_path: Path, word: str) -> None:
    for i, form in enumerate((word, word.upper(), f"  {word.capitalize()} ", f"{word}.0" if word.isdigit() else word)):
        parsed = parsed_from(tmp_path / str(i), with_split([form]))
        assert {s.split for s in parsed.samples} == {SPLIT_WORDS[word]}
        assert not any("fold list" in note for note in parsed.notes)


@pytest.mark.parametrize("word", ["none", "3", "", "3.0", "None"])
def test_a_video_in_no_fold_has_no_split(tmp_path: Path, word: str) -> None:
    assert [s.split for s in parsed_from(tmp_path, with_split([word, "train"])).samples] == ["none", "train"] * 4


@pytest.mark.parametrize("word", ["trian", "4", "train/val", "-1"])
def test_an_unknown_split_is_an_error_with_the_known_ones(tmp_path: Path, word: str) -> None:
    with pytest.raises(
        DataError, match=r"^labels\.csv:4: unknown split .*known: train, training, tr, 0, val, valid, val"
    ):
        parsed_from(tmp_path, with_split(["train", "val", word]))


def test_the_fold_table_reads_the_same_names_and_names_the_line_of_an_unknown_one(tmp_path: Path) -> None:
    table = tmp_path / "folds.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("Video;Split\nvideo0; Training\nvideo1;2\n")
    parsed = parsed_from(tmp_path, [HEADER, *ROWS])
    assert {s.dialogue: s.split for s in parsed.samples} == {"video0": "train", "video1": "test"}
    assert "folds.csv: separated by ';'; columns in another spelling (Video, Split)" in parsed.notes
    table.write_text("video,split\nvideo0,train\nvideo1,held-out\n")
    with pytest.raises(DataError, match=r"^folds\.csv:3: unknown split 'held-out': known: train"):
        parsed_from(tmp_path, [HEADER, *ROWS])


UNITS = {
    "milliseconds": 1000.0,
    "microseconds": 1e6,
    "minutes": 1 / 60,
    "hours": 1 / 3600,
    "frames at 30 per second": 30.0,
}


@pytest.mark.parametrize("unit", UNITS)
def test_intervals_in_another_unit_than_the_transcripts_are_an_error_that_guesses_it(tmp_path: Path, unit: str) -> None:
    lines = [HEADER, *([video, s * UNITS[unit], e * UNITS[unit], *rest] for video, s, e, *rest in ROWS)]
    with pytest.raises(
        DataError, match=rf"^labels\.csv:2: the interval .* of video0 fits no transcript.* as {unit}: exp"
    ):
        parsed_from(tmp_path, lines)


def test_without_transcripts_the_lengths_of_segments_tell_the_unit(tmp_path: Path) -> None:
    lines = [HEADER, *([video, s * 1000, e * 1000, *rest] for video, s, e, *rest in ROWS)]
    with pytest.raises(DataError, match=r"^labels\.csv:2: .*4,375 s apart.*look like milliseconds"):
        parsed_from(tmp_path, lines, texts=False)


def test_intervals_behind_the_end_of_every_video_are_an_error(tmp_path: Path) -> None:
    for video in ("video0", "video1"):
        write_tone(tmp_path / f"Videos/Full/Combined/{video}.wav", 21.0)
        (tmp_path / f"Videos/Full/Combined/{video}.wav").rename(tmp_path / f"Videos/Full/Combined/{video}.mp4")
    assert len(parsed_from(tmp_path, [HEADER, *ROWS], texts=False).samples) == 8
    lines = [HEADER, *([video, s + 500, e + 500, *rest] for video, s, e, *rest in ROWS)]
    with pytest.raises(DataError, match=r"^labels\.csv:2: .*begins after the end of its video, as do 8 of 8 rows"):
        parsed_from(tmp_path, lines, texts=False)


def test_a_few_intervals_outside_the_transcripts_are_marks(tmp_path: Path) -> None:
    lines = [HEADER, *ROWS[:6], ["video1", 300.0, 304.0, *ROWS[0][3:]]]
    parsed = parsed_from(tmp_path, lines)
    assert [s.marks for s in parsed.samples].count(("no_transcript",)) == 1 and len(parsed.samples) == 7


def test_sentiment_is_kept_where_it_is_there_and_not_required(tmp_path: Path) -> None:
    lines = [[cell for at, cell in enumerate(line) if at != 3] for line in [HEADER, *ROWS]]
    samples = parsed_from(tmp_path, lines).samples
    assert len(samples) == 8 and all("sentiment" not in s.native for s in samples)


@pytest.mark.parametrize("column", ["video", "start_time", "end_time", *NAMES[1:]])
def test_a_column_that_is_used_is_missed_by_name(tmp_path: Path, column: str) -> None:
    header = [f"other_{name}" if name == column else name for name in HEADER]
    with pytest.raises(DataError, match=rf"^labels\.csv: column '{column}' is missing: expected the columns video"):
        parsed_from(tmp_path, [header, *ROWS])


def test_semicolons_bring_decimal_commas(tmp_path: Path) -> None:
    lines = [HEADER, *([str(cell).replace(".", ",") for cell in row] for row in ROWS)]
    plain, other = parsed_from(tmp_path / "a", [HEADER, *ROWS]), parsed_from(tmp_path / "b", lines, ";")
    assert other.samples == plain.samples
    assert any("decimal commas: 72 (first: '0,125')" in note for note in other.notes)


def test_other_names_of_emotions_are_read_and_two_of_one_are_an_error(tmp_path: Path) -> None:
    header = [{"happy": "Happiness", "sad": "sadness", "anger": "angry"}.get(name, name) for name in HEADER]
    plain, other = parsed_from(tmp_path / "a", [HEADER, *ROWS]), parsed_from(tmp_path / "b", [header, *ROWS])
    assert other.samples == plain.samples
    with pytest.raises(DataError, match=r"^labels\.csv:1: the columns 'happy' and 'happiness' are one emotion"):
        parsed_from(tmp_path / "c", [[*HEADER, "happiness"], *([*row, 0] for row in ROWS)])


def test_numeric_ids_lose_a_spreadsheets_fraction(tmp_path: Path) -> None:
    parsed = parsed_from(tmp_path, [HEADER, ["180971.0", *ROWS[0][1:]]], texts=False)
    assert parsed.samples[0].dialogue == "180971"
    assert any("ids taken as whole numbers: 1 (first: '180971.0')" in note for note in parsed.notes)


@pytest.mark.parametrize("change", [{4: 3.0}, {-1: "val"}])
def test_rows_of_one_segment_that_disagree_are_an_error_and_equal_ones_a_line_of_the_audit(
    tmp_path: Path, change: dict
) -> None:
    lines = with_split(["train"])
    again = list(lines[1])
    parsed = parsed_from(tmp_path / "equal", [*lines, again])
    assert [(e.code, e.line) for e in parsed.errors] == [("duplicate_row", 10)] and len(parsed.samples) == 8
    for at, value in change.items():
        again[at] = value
    with pytest.raises(DataError, match=r"^labels\.csv:10: video0 0\.125-4\.5 s is also in labels\.csv:2 with another"):
        parsed_from(tmp_path / "other", [*lines, again])


def test_a_column_without_information_is_a_finding(tmp_path: Path) -> None:
    lines = [[*HEADER, "split"], *([*row[:3], 0, row[4], *[0] * 5, "train"] for row in ROWS)]
    parsed_from(tmp_path, lines)
    audit = ingest_corpus("mosei", ENTRY, tmp_path, tmp_path / "store")
    found = {(f["code"], f["column"], f["value"]) for f in audit.findings}
    assert found == {("one_value", n, "0.0") for n in ("sad", "anger", "surprise", "disgust", "fear")} | {
        ("one_value", "split", "train")
    }
    assert audit.total == "8 of the release's 23,259 segments"


def test_a_tsv_and_an_ending_in_capitals_are_label_tables(tmp_path: Path) -> None:
    for i, (file, delimiter) in enumerate((("labels.tsv", "\t"), ("LABELS.CSV", ","))):
        assert len(parsed_from(tmp_path / str(i), [HEADER, *ROWS], delimiter, file=file).samples) == 8


def test_the_folder_of_the_labels_alone_says_where_the_transcripts_are(tmp_path: Path) -> None:
    parsed_from(tmp_path, [HEADER, *ROWS])
    labels = tmp_path / "Labels"
    labels.mkdir()
    (tmp_path / "labels.csv").rename(labels / "labels.csv")
    parsed = parse_corpus("mosei", ENTRY, labels)
    assert any(note.endswith(f"give {str(tmp_path)!r} as the root") for note in parsed.notes)
    assert all(s.text for s in parse_corpus("mosei", ENTRY, tmp_path).samples)


def test_transcripts_in_another_unit_are_an_error_that_guesses_it(tmp_path: Path) -> None:
    videos: Truth = {"video0": {i: (5000.0 * i, 5000.0 * i + 4500, [0.0] * 7, "a") for i in range(4)}}
    transcripts(tmp_path, videos)
    with pytest.raises(DataError, match=r"^video0\.txt, clip 0: .*look like milliseconds"):
        parsed_from(tmp_path, [HEADER, *ROWS], texts=False)


def test_a_clip_twice_in_a_transcript_is_a_line_of_the_audit(tmp_path: Path) -> None:
    parsed_from(tmp_path, [HEADER, *ROWS])
    path = tmp_path / "Transcript/Segmented/Combined/video0.txt"
    path.write_text(path.read_text() + "video0___1___50.0___54.0___again\n")
    parsed = parse_corpus("mosei", ENTRY, tmp_path)
    assert [(e.code, e.line) for e in parsed.damaged] == [("bad_transcript", 6)] and len(parsed.samples) == 8


def test_a_fold_list_that_differs_from_the_splits_of_the_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("video,split\nvideo0,train\nvideo1,test\n")
    parsed = parsed_from(tmp_path, with_split(["train"]))
    assert {s.split for s in parsed.samples} == {"train", "test"}
    assert "the fold list is taken, which differs from the split of 4 rows (first: labels.csv:6)" in parsed.notes

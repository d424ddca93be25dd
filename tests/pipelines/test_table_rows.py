"""Corpora without code, as tables: every row is a sample or a line of the audit, whatever the table looks like."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.corpora.table.ids import sample_id_of
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import SAMPLE_ID, to_table
from merloco.pipelines.samples.table import read_samples
from tests.helpers.table_corpora import parse_table_corpus, table_entry, touch, write_table

COLUMNS = {"name": "id", "label": "emotion", "speaker": "who", "text": "said"}
HEADER = "id,emotion,who,said"


def parse(root: Path, columns: dict[str, Any] | None = None, **options: Any) -> Parsed:
    return parse_table_corpus(root, file="labels.csv", columns=columns or COLUMNS, **options)


TWELVE_BAD_ROWS = (
    ("a.wav,joy,s1,train,0,1.5,0,d1,too,many,cells", "bad_row", "11 cells; expected 9"),
    ("a.wav,joy,s1,train", "bad_row", "4 cells; expected 9"),
    ('b.wav,joy,s1,train,0,1.5,2,d1,"an open quote', "bad_row", "not a CSV row"),
    ("c.wav,joy,s1,tran,0,1.5,3,d1,hi", "bad_row", "unknown split 'tran': did you mean 'train'?"),
    ("d.wav,joy,s1,train,0,1.5,four,d1,hi", "bad_row", "turn is 'four'; expected a whole number"),
    (",joy,s1,train,0,1.5,,d1,hi", "bad_row", "path, turn is empty; expected what names the utterance"),
    ("ok.wav,joy,s1,train,0,1.5,0,d1,hi", "duplicate_row", "is also in labels.csv:2: that one is kept"),
    ("e.wav,,s1,train,0,1.5,7,d1,hi", "no_label", "has no label"),
    ("f.wav,joy,s1,train,soon,1.5,8,d1,hi", "bad_time", "from is 'soon'; expected seconds"),
    ("g.wav,joy,s1,train,3,1.5,9,d1,hi", "bad_time", "the interval 3-1.5 s is empty"),
    ("../h.wav,joy,s1,train,0,1.5,10,d1,hi", "bad_path", "'../h.wav' leads out of the corpus root"),
    ("/elsewhere/i.wav,joy,s1,train,0,1.5,11,d1,hi", "bad_path", "'/elsewhere/i.wav' leads out of the corpus root"),
)


def test_twelve_kinds_of_bad_rows_are_lines_of_the_audit_and_nothing_else_is_lost(tmp_path: Path) -> None:
    good = [f"ok{i}.wav,anger,s2,test,{i},{i + 2},{20 + i},d2,fine" for i in range(3)]
    lines = ["path,emotion,who,split,from,to,turn,talk,said", "ok.wav,joy,s1,train,0,1.5,0,d1,hi"]
    write_table(tmp_path / "root", *lines, *(line for line, _, _ in TWELVE_BAD_ROWS), *good)
    columns = {
        "media": "path", "label": "emotion", "speaker": "who", "split": "split", "start": "from", "end": "to",
        "turn": "turn", "dialogue": "talk", "text": "said",
    }  # fmt: skip
    entry = table_entry(file="labels.csv", columns=columns)
    audit = ingest_corpus("mine", entry, tmp_path / "root", tmp_path / "store")
    errors = {error["line"]: error for error in audit.errors}
    for line, (_, code, message) in enumerate(TWELVE_BAD_ROWS, start=3):
        assert errors[line]["code"] == code and message in errors[line]["message"], line
    assert len(audit.errors) == 12 and {error["file"] for error in audit.errors} == {"labels.csv"}
    assert audit.found == 16 and audit.samples == 9 and sum(audit.left_out.values()) == 7
    samples = {row["sample_id"]: row for row in read_samples(tmp_path / "store", "mine").to_pylist()}
    assert {"mine/d2/ok0/t0-2000", "mine/d2/ok1/t1000-3000", "mine/d2/ok2/t2000-4000"} <= samples.keys()
    outside = samples["mine/d1/h/t0-1500"]
    assert outside["audio_path"] is None and outside["audio_status"] == "missing_media" and outside["text"] == "hi"


def test_a_column_that_the_table_has_not_is_one_sentence_with_the_nearest_one(tmp_path: Path) -> None:
    write_table(tmp_path, HEADER, "u1,joy,s1,hi")
    write_table(tmp_path, '{"id": "u1", "emotion": "joy", "who": "s1", "said": "hi"}', name="labels.jsonl")
    pq.write_table(pa.table({name: ["x"] for name in HEADER.split(",")}), tmp_path / "labels.parquet")
    for file in ("labels.csv", "labels.jsonl", "labels.parquet"):
        with pytest.raises(
            DataError, match=rf"{file}: columns.label: .* no column 'emotoin': did you mean 'emotion'\?"
        ):
            parse_table_corpus(tmp_path, file=file, columns=COLUMNS | {"label": "emotoin"})


def test_an_unknown_label_names_the_nearest_one_and_its_line_and_the_samples_are_kept(tmp_path: Path) -> None:
    write_table(tmp_path / "root", HEADER, "u1,joy,s1,hi", "u2,angre,s1,hi")
    with pytest.raises(
        DataError, match=r"labels.csv:3: unknown label 'angre' .*did you mean 'anger'\? known: anger, joy"
    ):
        ingest_corpus("mine", table_entry(file="labels.csv", columns=COLUMNS), tmp_path / "root", tmp_path / "store")
    assert read_samples(tmp_path / "store", "mine").num_rows == 2


@pytest.mark.parametrize("form", ["csv", "semicolons", "tabs", "jsonl", "parquet", "utf16", "header"])
def test_one_corpus_reads_the_same_from_every_kind_of_file(tmp_path: Path, form: str) -> None:
    rows = [
        {"id": "u1", "emotion": "Joy", "who": "1", "said": "hello, you"},
        {"id": "u2", "emotion": "anger", "who": "2", "said": "no"},
    ]
    lines = [HEADER, *(f'{r["id"]},{r["emotion"]},{r["who"]},"{r["said"]}"' for r in rows)]
    name = {"jsonl": "labels.jsonl", "parquet": "labels.parquet", "tabs": "labels.tsv"}.get(form, "labels.csv")
    if form == "parquet":
        typed = [row | {"who": int(row["who"]), "file": b"\0\1", "tags": ["a"]} for row in rows]
        pq.write_table(pa.Table.from_pylist(typed), tmp_path / name)
    elif form == "jsonl":
        write_table(tmp_path, *(json.dumps(row | {"who": int(row["who"])}) for row in rows), name=name)
    elif form == "utf16":
        (tmp_path / name).write_bytes("\n".join(lines).encode("utf-16"))
    elif form == "header":
        write_table(tmp_path, "exported today", "ID,Emotion,Who,Said", *lines[1:], name=name)
    else:
        mark = {"csv": ",", "semicolons": ";", "tabs": "\t"}[form]
        write_table(
            tmp_path, *(mark.join(row.values()) for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]), name=name
        )
    parsed = parse_table_corpus(tmp_path, file=name, columns=COLUMNS)
    found = [(s.sample_id, s.label, s.speaker, s.text) for s in parsed.samples] if form != "csv" else None
    assert found in (None, [("mine/1/u1", "joy", "1", "hello, you"), ("mine/2/u2", "anger", "2", "no")])
    assert form != "csv" or len(parsed.errors) == 1, "a comma in a text without quotes costs its row"


def test_a_broken_line_of_json_costs_that_line(tmp_path: Path) -> None:
    good = '{"id": "u%d", "emotion": "joy", "who": null, "said": "hi"}'
    write_table(tmp_path, good % 1, '{"id": "u2", "emo', '["u3"]', "", good % 4, "NaN", name="l.jsonl")
    parsed = parse_table_corpus(tmp_path, file="l.jsonl", columns=COLUMNS)
    assert [sample.sample_id for sample in parsed.samples] == ["mine/all/u1", "mine/all/u4"]
    assert [(error.code, error.line) for error in parsed.errors] == [("bad_row", 2), ("bad_row", 3), ("bad_row", 6)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.jsonl", b"[\n1\n]", "l.jsonl: line 1 is not a JSON object"),
        ("l.jsonl", b"", "l.jsonl: the file is empty"),
        ("l.parquet", b"no parquet", "l.parquet: not a Parquet file"),
        ("l.csv", b"PK\x03\x04zip", "l.csv: the file is a spreadsheet or a ZIP archive: save it as CSV"),
        ("l.csv", b"id,id,emotion,who,said\n1,2,joy,s,hi\n", "l.csv:1: column 'id' stands twice"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        parse_table_corpus(tmp_path, file=name, columns=COLUMNS)
    assert said in str(error.value)


def test_a_missing_table_names_the_nearest_one(tmp_path: Path) -> None:
    write_table(tmp_path, HEADER, name="lables.csv")
    with pytest.raises(DataError, match=r"no table 'labels.csv' under .*: did you mean 'lables.csv'\?"):
        parse(tmp_path)
    with pytest.raises(DataError, match=r"no table '\.\./lables\.csv'"):
        parse_table_corpus(tmp_path / ".." / tmp_path.name, file="../lables.csv", columns=COLUMNS)


def test_files_by_split_carry_it_in_ids_and_dialogues(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write_table(tmp_path, "talk,nr,emotion", "0,0,joy", "0,1,anger", name=f"{split}.csv")
    files = {"train": "train.csv", "dev": "dev.csv"}
    parsed = parse_table_corpus(tmp_path, files=files, columns={"dialogue": "talk", "turn": "nr", "label": "emotion"})
    assert {(s.sample_id, s.split, s.dialogue) for s in parsed.samples} == {
        (f"mine/{word}/0/{turn}", split, f"{word}/0")
        for word, split in (("train", "train"), ("dev", "val"))
        for turn in (0, 1)
    }


def test_several_files_with_a_star_and_a_root_one_level_too_high(tmp_path: Path) -> None:
    for part in "ab":
        write_table(tmp_path / "release" / "tables", HEADER, f"{part}1,joy,s1,hi", name=f"{part}.csv")
    touch(tmp_path, ["release/clips/a1.wav"])
    parsed = parse_table_corpus(tmp_path, file="tables/*.csv", columns=COLUMNS | {"audio": "id"}, media_folder="Clips")
    assert [s.sample_id for s in parsed.samples] == ["mine/s1/a1", "mine/s1/b1"]
    assert parsed.samples[0].audio_path == "release/clips/a1.wav" and parsed.samples[0].audio_status == "ok"
    assert "the release is in release/ of the root" in parsed.notes


def test_two_rows_that_disagree_stop_the_corpus_and_equal_ones_are_a_line(tmp_path: Path) -> None:
    write_table(tmp_path, HEADER, "u1,joy,s1,hi", "u1,anger,s1,hi")
    with pytest.raises(DataError, match=r"labels.csv:3: mine/s1/u1 is also in labels.csv:2 with another label, 'joy'"):
        parse(tmp_path)
    write_table(tmp_path, HEADER, "u1,joy,s1,hi", "u1,joy,s1,hi ")
    parsed = parse(tmp_path)
    assert [(error.code, error.line) for error in parsed.errors] == [("duplicate_row", 3)] and parsed.found == 2


def test_a_name_that_gives_the_id_of_another_is_a_line_that_names_both(tmp_path: Path) -> None:
    made = sample_id_of("mine", ["s1", "a b"]).rpartition("/")[2]
    write_table(tmp_path, HEADER, "a b,joy,s1,hi", f"{made},anger,s1,hi")
    parsed = parse(tmp_path)
    (error,) = parsed.errors
    assert error.code == "same_id" and error.line == 3
    assert f"'s1/{made}' gives the sample id mine/s1/{made}, as 's1/a b' of labels.csv:2 does" in error.message


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda t: t.strip("/ \u00a0")
)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_ids_are_usable_and_different_names_have_different_ones(names: list[str]) -> None:
    usable = [name for name in names if any(part.strip() for part in name.split("/"))]
    ids = {name: sample_id_of("mine", ["part", name]) for name in usable}
    assert all(SAMPLE_ID.fullmatch(sample_id) for sample_id in ids.values())

    def plain(name: str) -> tuple[str, ...]:
        parts = (unicodedata.normalize("NFC", part.strip()) for part in name.split("/"))
        return tuple(part for part in parts if part)

    assert len(set(ids.values())) == len({plain(name) for name in usable})


def test_ids_of_plain_names_are_the_names_and_stay_what_they_are() -> None:
    assert sample_id_of("mine", ["s1", "Actor_01/a-b_2"]) == "mine/s1/Actor_01/a-b_2"
    assert sample_id_of("mine", ["s1", "a b.1"]) == "mine/s1/a_b_1-e0fafdfe"
    assert sample_id_of("mine", ["s1", "u\u0308ben"]) == sample_id_of("mine", ["s1", "\u00fcben"])


def test_intervals_cut_media_and_name_the_utterance(tmp_path: Path) -> None:
    touch(tmp_path, ["talk.mp4", "talk.wav"])
    write_table(
        tmp_path,
        "clip,from,to,emotion",
        "talk,0:00:01.500,0:00:03.250,joy",
        "talk,0:00:03.250,0:00:05.000,anger",
        "talk,,,joy",
    )
    columns = {"video": "clip", "audio": "clip", "start": "from", "end": "to", "label": "emotion"}
    first, second, whole = parse(tmp_path, columns).samples
    assert first.sample_id == "mine/all/talk/t1500-3250" and second.sample_id == "mine/all/talk/t3250-5000"
    assert (first.video_path, first.video_start, first.video_end) == ("talk.mp4", 1.5, 3.25)
    assert (first.audio_path, first.audio_start, first.audio_end, first.duration) == ("talk.wav", 1.5, 3.25, 1.75)
    assert whole.sample_id == "mine/all/talk" and whole.video_start is None and whole.video_end is None


def test_times_in_milliseconds_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path, "clip,from,to,emotion", *(f"c{i},0,{3000 + i},joy" for i in range(5)))
    columns = {"media": "clip", "start": "from", "end": "to", "label": "emotion"}
    with pytest.raises(DataError, match="expected seconds, about 4 for an utterance; they look like milliseconds"):
        parse(tmp_path, columns)


def test_an_interval_that_cannot_be_cut_is_not_the_whole_file(tmp_path: Path) -> None:
    touch(tmp_path, ["a.wav", "b.wav"])
    write_table(tmp_path, "clip,from,to,emotion", "a.wav,1,x,joy", "b.wav,2,1,joy", "b.wav,-0.5,1,joy")
    broken, empty, early = parse(tmp_path, {"media": "clip", "start": "from", "end": "to", "label": "emotion"}).samples
    assert broken.audio_status == empty.audio_status == "bad_interval" and broken.marks == ("bad_interval",)
    assert early.audio_status == "ok" and early.audio_start == 0 and early.marks == ("negative_start",)


def test_intensities_by_class_are_numbers_or_cost_the_row(tmp_path: Path) -> None:
    lines = ["u1;0,5;1;0", "u2;0;x;0", "u3;;;", "u4;-1;0;0"]
    write_table(tmp_path, "id;joy;anger;sadness", *lines)
    parsed = parse(tmp_path, {"name": "id", "intensities": ["joy", "anger", "sadness"]})
    assert [s.intensities for s in parsed.samples] == [{"joy": 0.5, "anger": 1.0, "sadness": 0.0}, None]
    assert [error.line for error in parsed.errors] == [3, 5] and "anger is 'x'" in parsed.errors[0].message


def test_media_are_found_in_any_case_with_any_ending_and_what_is_missing_is_said(tmp_path: Path) -> None:
    touch(tmp_path, ["Clips/A1.WAV", "Clips/b1.flac", "Clips/c1x.wav", "Clips/d.1.wav"])
    write_table(tmp_path, "file,emotion", "clips\\a1.wav,joy", "clips/b1.wav,joy", "clips/c1.wav,joy", "clips/d.1,joy")
    parsed = parse(tmp_path, {"media": "file", "label": "emotion"})
    assert [(s.audio_path, s.audio_status) for s in parsed.samples] == [
        ("Clips/A1.WAV", "ok"),
        ("Clips/b1.flac", "ok"),
        ("clips/c1.wav", "missing_media"),
        ("Clips/d.1.wav", "ok"),
    ]
    assert all(s.video_status == "missing_media" and s.video_path is None for s in parsed.samples)
    assert any("Clips/c1x.wav, likeliest the missing c1" in note for note in parsed.notes)


def test_an_absolute_path_below_the_root_is_the_same_sample_as_a_relative_one(tmp_path: Path) -> None:
    touch(tmp_path, ["clips/a.wav"])
    columns = {"media": "file", "label": "emotion"}
    write_table(tmp_path, "file,emotion", f"{tmp_path}/clips/a.wav,joy")
    absolute = parse(tmp_path, columns).samples
    write_table(tmp_path, "file,emotion", "clips/a.wav,joy")
    (relative,) = parse(tmp_path, columns).samples
    assert absolute[0].sample_id == relative.sample_id == "mine/all/clips/a"
    assert absolute[0].audio_path == relative.audio_path == "clips/a.wav"


def test_a_cell_too_long_for_a_path_costs_nothing_else(tmp_path: Path) -> None:
    write_table(tmp_path, "file,emotion", "x" * 5000 + ".wav,joy", "b.wav,joy")
    assert [s.audio_status for s in parse(tmp_path, {"media": "file", "label": "emotion"}).samples] == [
        "missing_media"
    ] * 2


def test_labels_withheld_from_a_whole_split_are_a_note_and_codes_read_as_values(tmp_path: Path) -> None:
    lines = ["u1,3,train", "u2,7.0,train", "u3,,test", "u4,,train"]
    write_table(tmp_path, "id,code,part", *lines)
    columns = {"name": "id", "label": "code", "split": "part"}
    parsed = parse(tmp_path, columns, values={"label": {"3": "joy", "7.0": "anger"}})
    assert [s.label for s in parsed.samples] == ["joy", "anger", None, None]
    assert [(error.code, error.line) for error in parsed.errors] == [("no_label", 5)]
    assert "no sample has a label in test" in parsed.notes
    assert to_table(parsed.samples).num_rows == 4


def test_ids_that_became_decimal_numbers_are_whole_ones_and_leading_zeros_stay(tmp_path: Path) -> None:
    write_table(tmp_path, HEADER, "1.0,joy,01,hi", "2.0,joy,02,hi")
    parsed = parse(tmp_path)
    assert [s.sample_id for s in parsed.samples] == ["mine/01/1", "mine/02/2"]
    assert any("ids taken as whole numbers: 2 (first: '1.0')" in note for note in parsed.notes)


def test_utterances_of_a_dialogue_are_numbered_by_their_start(tmp_path: Path) -> None:
    write_table(tmp_path, "id,emotion,talk,from", "late,joy,d,5", "early,joy,d,1")
    parsed = parse(tmp_path, {"name": "id", "label": "emotion", "dialogue": "talk", "start": "from"})
    assert {s.sample_id: s.turn for s in parsed.samples} == {"mine/d/late": 1, "mine/d/early": 0}


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=8), max_size=12), st.sampled_from(["labels.csv", "labels.jsonl"]))
def test_whatever_a_table_holds_every_row_is_a_sample_or_a_line(
    tmp_path: Path, rows: list[list[str]], name: str
) -> None:
    columns = {
        "media": "path",
        "label": "emotion",
        "speaker": "who",
        "split": "split",
        "start": "from",
        "end": "to",
        "turn": "nr",
        "dialogue": "talk",
    }
    header = list(columns.values())
    if name.endswith("jsonl"):
        lines = [json.dumps(dict(zip(header, row, strict=False))) for row in ([""] * 8, *rows)]
    else:
        lines = [",".join(header), *(",".join(row) for row in rows)]
    write_table(tmp_path, *lines, name=name)
    try:
        parsed = parse_table_corpus(tmp_path, file=name, columns=columns)
    except DataError as error:
        assert "\n" not in str(error)
        return
    table = to_table(parsed.samples)
    assert parsed.found == table.num_rows + len(parsed.left_out)
    assert all(error.file == name and error.line >= 1 for error in parsed.errors)

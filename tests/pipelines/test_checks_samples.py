"""`merloco check samples`: every finding by name, its severity, and where it is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.checks.findings import FIRST_IDS, SampleFinding, read_findings, write_findings
from merloco.pipelines.checks.samples import check_samples
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import read_samples
from tests.helpers.corpora_files import counted, meld_store, merloco, needs_meld, store_of, write_tone
from tests.helpers.store_files import CATALOG

SEVEN = ("neutral", "joy", "sadness", "surprise", "fear", "disgust", "anger")
CLEAN = counted("meld", {split: dict.fromkeys(SEVEN, 5) for split in ("train", "val", "test")}, duration=1.0)


def findings(samples: list[Sample] | pa.Table, root: Path | None = None, **options: object) -> dict[str, SampleFinding]:
    """Code -> finding of samples of MELD; where a code has several findings, the first."""
    table = samples if isinstance(samples, pa.Table) else to_table(samples)
    found = check_samples("meld", load_catalog(CATALOG).corpus("meld"), table, root, **options)
    return {finding.code: finding for finding in reversed(found)}


def line(split: str, name: str, **fields: object) -> Sample:
    return Sample(f"meld/{split}/{name}", "meld", split, label="joy", **fields)


def with_media(
    root: Path, split: str, name: str, seconds: float = 1.0, hertz: float = 220.0, **fields: object
) -> Sample:
    """A sample whose sound is a real wav file; it has no picture."""
    write_tone(root / f"{name}.wav", seconds, hertz)
    sample = line(split, name, audio_path=f"{name}.wav", video_status="missing_media", duration=seconds)
    return replace(sample, **fields)


def test_a_clean_table_has_no_finding() -> None:
    assert findings(CLEAN) == {}


def test_ids_must_be_unique() -> None:
    table = to_table(CLEAN)
    found = findings(pa.concat_tables([table, table.slice(3, 1)]))
    assert (found["duplicate_id"].severity, found["duplicate_id"].count) == ("error", 1)
    assert found["duplicate_id"].first_ids == (table["sample_id"][3].as_py(),)


def test_a_label_that_the_map_lacks_is_an_error_and_hides_no_other_finding() -> None:
    found = findings([*CLEAN, replace(line("train", "a", start=2.0, end=1.0), label="hapy")])
    assert found["unknown_label"].severity == "error" and "'hapy'" in found["unknown_label"].message
    assert "negative_length" in found


@pytest.mark.parametrize(
    ("fields", "code", "severity"),
    [
        ({"start": 2.0, "end": 1.0}, "negative_length", "error"),
        ({"duration": -0.5}, "negative_length", "error"),
        ({"start": 2.0, "end": 2.0}, "zero_length", "warning"),
        ({"audio_start": 2.0, "audio_end": 2.0}, "empty_cut", "error"),
        ({"start": 2.0, "end": 2.0, "marks": ("bad_interval",)}, "bad_interval", "warning"),
    ],
)
def test_lengths_of_nothing_or_less(fields: dict, code: str, severity: str) -> None:
    found = findings([*CLEAN, line("train", "a", **fields)])
    assert list(found) == [code]
    assert (found[code].severity, found[code].first_ids) == (severity, ("meld/train/a",))


def test_missing_media_is_a_warning_and_counts_each_modality() -> None:
    found = findings([*CLEAN, line("train", "a", video_status="missing_media"), line("train", "b", audio_status="ok")])
    assert found["missing_media"].severity == "warning" and "(video 1)" in found["missing_media"].message


def test_a_file_that_was_there_at_ingest_and_is_gone_is_an_error(tmp_path: Path) -> None:
    samples = [with_media(tmp_path, "train", "a"), with_media(tmp_path, "train", "b")]
    (tmp_path / "b.wav").unlink()
    found = findings([*CLEAN, *samples], tmp_path)
    assert found["lost_media"].severity == "error" and found["lost_media"].first_ids == ("meld/train/b",)


@pytest.mark.parametrize("root", [None, Path("nowhere")])
def test_without_the_release_folder_no_file_is_called_lost(tmp_path: Path, root: Path | None) -> None:
    found = findings([*CLEAN, with_media(tmp_path, "train", "a")], root)
    assert "lost_media" not in found and "--root" in found["no_root"].message


@pytest.mark.parametrize(
    ("splits", "severity"), [(("train", "test"), "error"), (("val", "test"), "error"), (("train", "val"), "warning")]
)
@pytest.mark.parametrize("field", ["dialogue", "video_path"])
def test_a_dialogue_or_recording_in_two_splits(splits: tuple[str, str], severity: str, field: str) -> None:
    shared = [line(split, "a", **{field: "d7", "video_status": "missing_media"}) for split in splits]
    code = "shared_dialogue" if field == "dialogue" else "shared_media"
    found = findings([*CLEAN, *shared])[code]
    assert (found.severity, found.count) == (severity, 2)
    assert f"{splits[0]} and {splits[1]} 1" in found.message and "'d7'" in found.message


def test_samples_of_no_split_leak_into_nothing() -> None:
    assert findings([*CLEAN, line("train", "a", dialogue="d7"), line("none", "b", dialogue="d7")]) == {}


def test_shared_speakers_are_a_warning_that_names_the_most_frequent() -> None:
    shared = [line("train", f"a{i}", speaker="Joey") for i in range(3)] + [line("train", "b", speaker="Ann")]
    shared += [line("test", "c", speaker="Joey"), line("test", "d", speaker="Ann"), line("test", "e", speaker="Bob")]
    found = findings([*CLEAN, *shared])["shared_speaker"]
    assert (found.severity, found.count) == ("warning", 6)
    assert "2 speakers" in found.message and "'Joey' most often" in found.message


def test_identical_sentences_are_a_warning_and_short_ones_are_none() -> None:
    texts = ("Yeah.", "Oh my God!", "Thank  you for your patience, caller.", "thank you for YOUR patience, caller.")
    shared = [line(s, f"{s}{i}", text=t) for i, t in enumerate(texts[:2]) for s in ("train", "test")]
    assert findings([*CLEAN, *shared]) == {}
    shared += [line("train", "long", text=texts[2]), line("test", "long", text=texts[3])]
    found = findings([*CLEAN, *shared])["shared_text"]
    assert (found.severity, found.first_ids) == ("warning", ("meld/test/long", "meld/train/long"))


def test_small_classes_are_counted_per_split_and_the_least_number_is_an_option() -> None:
    few = [s for s in CLEAN if s.label != "fear" or s.split != "val" or s.sample_id.endswith("_0")]
    found = findings(few)["small_class"]
    assert found.severity == "warning" and found.count == 1
    assert found.message == "classes under map 'seven' with fewer than 5 in val: fear 1"
    assert findings(few, min_class=1) == {}


def test_a_split_that_the_corpus_does_not_have_has_no_small_class() -> None:
    assert findings([s for s in CLEAN if s.split != "val"]) == {}


def test_known_bad_clips_come_with_the_reason_of_the_catalog() -> None:
    bad = Sample("meld/train/dia125_utt3", "meld", "train", label="neutral", marks=("known_bad",))
    assert findings([*CLEAN, bad])["known_bad"].message.endswith("the mp4 is corrupt")


def test_media_are_opened_only_on_request(tmp_path: Path) -> None:
    sample = with_media(tmp_path, "train", "a")
    (tmp_path / "a.wav").write_bytes(b"this is no sound")
    assert "unreadable_media" not in findings([*CLEAN, sample], tmp_path)
    done: list[int] = []
    found = findings([*CLEAN, sample], tmp_path, media=True, progress=done.append)["unreadable_media"]
    assert found.severity == "error" and "decode_error 1" in found.message and done == [1]


@pytest.mark.parametrize(
    ("interval", "code", "severity"),
    [
        ((1.5, 2.0), "interval_outside_media", "error"),
        ((0.5, 2.0), "interval_past_end", "warning"),
        ((0.5, 1.2), None, None),
    ],
)
def test_intervals_against_the_length_of_the_file(
    tmp_path: Path, interval: tuple[float, float], code: str | None, severity: str | None
) -> None:
    sample = with_media(tmp_path, "train", "a", audio_start=interval[0], audio_end=interval[1])
    found = findings([*CLEAN, sample], tmp_path, media=True)
    assert {c: f.severity for c, f in found.items() if c.startswith("interval")} == ({code: severity} if code else {})


def test_a_whole_clip_that_is_not_as_long_as_annotated(tmp_path: Path) -> None:
    samples = [with_media(tmp_path, "train", "a", duration=5.0), with_media(tmp_path, "train", "b", 1.1, duration=0.6)]
    found = findings([*CLEAN, *samples], tmp_path, media=True)["length_mismatch"]
    assert found.first_ids == ("meld/train/a",)


def test_sound_where_there_should_be_pictures(tmp_path: Path) -> None:
    sample = with_media(tmp_path, "train", "a", video_path="a.wav", video_status="ok")
    assert findings([*CLEAN, sample], tmp_path, media=True)["no_video"].first_ids == ("meld/train/a",)


@pytest.mark.parametrize(("other", "severity"), [("test", "error"), ("train", "warning")])
def test_two_files_with_the_same_content(tmp_path: Path, other: str, severity: str) -> None:
    samples = [
        with_media(tmp_path, "train", "a"),
        with_media(tmp_path, other, "b"),
        with_media(tmp_path, other, "c", 1, 330),
    ]
    found = findings([*CLEAN, *samples], tmp_path, media=True)["duplicate_media"]
    assert found.severity == severity and set(found.first_ids) == {"meld/train/a", f"meld/{other}/b"}


def test_samples_that_share_one_recording_are_no_duplicates(tmp_path: Path) -> None:
    first = with_media(tmp_path, "train", "a", audio_start=0.0, audio_end=0.5)
    second = replace(first, sample_id="meld/train/b", audio_start=0.5, audio_end=1.0)
    assert "duplicate_media" not in findings([*CLEAN, first, second], tmp_path, media=True)


def test_a_finding_names_the_first_ids_and_errors_come_first() -> None:
    many = [line("train", f"u{i:02}", start=1.0, end=1.0) for i in range(20)]
    found = check_samples(
        "meld", load_catalog(CATALOG).corpus("meld"), to_table([*many, line("val", "x", duration=-1.0)]), min_class=0
    )
    assert [f.severity for f in found] == ["error", "warning"]
    assert found[1].count == 20 and found[1].first_ids == tuple(f"meld/train/u{i:02}" for i in range(FIRST_IDS))


def store_with_a_leak(root: Path) -> FeatureStore:
    return store_of(root, *CLEAN, line("train", "a", dialogue="d7"), line("test", "a", dialogue="d7"))


def test_the_command_exits_with_one_on_an_error_and_keeps_findings_for_sql(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = store_with_a_leak(tmp_path)
    code, out, _ = merloco(capsys, store, "check", "samples")
    assert code == 1 and "meld: 1 error, 0 warnings" in out and "meld/test/a, meld/train/a" in out
    query = "select corpus, code, severity, count, first_ids[1] from findings"
    assert store.sql(query).fetchall() == [("meld", "shared_dialogue", "error", 2, "meld/test/a")]
    code, out, _ = merloco(capsys, store, "check", "samples", "meld", "--format", "json")
    assert code == 1 and json.loads(out)[0]["code"] == "shared_dialogue"


def test_a_later_check_replaces_the_findings_and_exits_with_zero(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    merloco(capsys, store_with_a_leak(tmp_path), "check", "samples")
    store = store_of(tmp_path, *CLEAN)
    code, out, _ = merloco(capsys, store, "check", "samples")
    assert code == 0 and "no findings" in out
    assert read_findings(store.root, "meld") == [] and store.sql("select * from findings").fetchall() == []


def test_a_store_that_was_never_checked_answers_with_no_row(tmp_path: Path) -> None:
    store = store_of(tmp_path, *CLEAN)
    assert read_findings(store.root, "meld") is None
    assert store.sql("select count(*) from findings").fetchall() == [(0,)]


def test_an_unfinished_file_of_a_killed_check_is_not_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, *CLEAN)
    write_findings(tmp_path, "meld", [])
    (tmp_path / "checks" / ".tmp-0-1-2-meld.parquet").write_bytes(b"half")
    assert store.sql("select count(*) from findings").fetchall() == [(0,)]


def test_findings_are_no_samples(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_with_a_leak(tmp_path)
    merloco(capsys, store, "check", "samples")
    assert store.corpora() == ["meld"] and store.samples().equals(read_samples(tmp_path, "meld"))


def test_check_alone_checks_the_store_and_its_options_are_not_lost_on_the_way(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = store_with_a_leak(tmp_path)
    code, out, _ = merloco(capsys, store, "check")
    assert code == 0 and "The store is clean." in out
    code, _, err = merloco(capsys, store, "check", "--format", "json", "samples")
    assert code == 2 and "go after that word" in err


def test_the_command_opens_media_on_request(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    root = tmp_path / "meld"
    store = store_of(tmp_path / "store", *CLEAN, with_media(root, "train", "a", duration=9.0))
    code, out, err = merloco(capsys, store, "check", "samples", "--media", "--root", f"meld={root}")
    assert code == 0 and "length_mismatch" in out and "media of meld" in err
    code, out, _ = merloco(capsys, store, "check", "samples")
    assert code == 0 and "length_mismatch" not in out and "no_root" in out


@needs_meld
def test_the_real_meld_annotations_have_warnings_and_no_error(tmp_path: Path) -> None:
    store = meld_store(tmp_path)
    entry = store.catalog.corpus("meld")
    found = {f.code: f for f in check_samples("meld", entry, read_samples(tmp_path, "meld"))}
    assert {f.severity for f in found.values()} == {"warning"}
    assert found["known_bad"].first_ids == ("meld/dev/dia110_utt7", "meld/train/dia125_utt3")
    assert "'Joey' most often" in found["shared_speaker"].message
    assert found["shared_text"].message.startswith("5 sentences of 5 or more words")


@pytest.mark.parametrize("command", [("check", "samples"), ("stats", "--media")])
@pytest.mark.parametrize(
    ("root", "exit_code", "sentence"), [("meld=nowhere", 1, "not a folder"), ("mled=.", 2, "did you mean 'meld'?")]
)
def test_a_root_that_is_none_is_not_passed_over(
    capsys: pytest.CaptureFixture, tmp_path: Path, command: tuple[str, ...], root: str, exit_code: int, sentence: str
) -> None:
    store = store_of(tmp_path, *counted("meld", {"train": {"joy": 6}}))
    code, out, err = merloco(capsys, store, *command, "--root", root)
    assert (code, out) == (exit_code, "") and sentence in err

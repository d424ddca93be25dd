"""Corpora without code, as folders of files: what a path says; RAVDESS, CREMA-D and SAVEE as the catalog ships them."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.corpora.table.patterns import Pattern
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import to_table
from tests.helpers.corpora_files import write_tone
from tests.helpers.store_files import CATALOG
from tests.helpers.table_corpora import crema_d_names, parse_table_corpus, ravdess_names, savee_names, touch

SHIPPED = load_catalog(CATALOG)
TREE = "{split}/{label}/{speaker}_{name}.wav"


def shipped(name: str, root: Path) -> Parsed:
    return parse_corpus(name, SHIPPED.corpus(name), root)


def splits_of(parsed: Parsed) -> dict[str | None, set[str]]:
    """Speaker -> the splits that it is in."""
    splits: dict[str | None, set[str]] = {}
    for sample in parsed.samples:
        splits.setdefault(sample.speaker, set()).add(sample.split)
    return splits


def test_ravdess_is_read_from_the_names_of_its_1440_sounds(tmp_path: Path) -> None:
    names = ravdess_names()
    assert len(names) == 1440
    touch(tmp_path, (f"Audio_Speech_Actors_01-24/{name}.wav" for name in names))
    parsed = shipped("ravdess", tmp_path)
    assert len(parsed.samples) == 1440 and not parsed.errors
    assert Counter(s.label for s in parsed.samples) == {
        "neutral": 96,
        **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 192),
    }
    splits = splits_of(parsed)
    assert set(splits) == {f"{actor:02d}" for actor in range(1, 25)} and all(len(s) == 1 for s in splits.values())
    share = Counter(s.split for s in parsed.samples)
    assert share["test"] == 5 * 60 and 60 <= share["val"] <= 180
    sample = next(s for s in parsed.samples if s.audio_path and s.audio_path.endswith("03-01-06-01-02-01-12.wav"))
    assert sample.sample_id == "ravdess/Actor_12/01-06-01-02-01-12" and sample.label == "fearful"
    assert sample.text == "Dogs are sitting by the door." and sample.native["intensity"] == "normal"
    assert sample.video_status == "missing_media"
    emotions = Counter(
        apply_map(to_table(parsed.samples), "ravdess", SHIPPED.corpus("ravdess").active_map)["emotion"].to_pylist()
    )
    assert emotions["neutral"] == 288 and emotions["fear"] == emotions["surprise"] == 192 and None not in emotions


def test_ravdess_joins_sounds_and_pictures_of_one_recording_and_leaves_songs_out(tmp_path: Path) -> None:
    sounds, both, pictures = (ravdess_names(modality, [1]) for modality in ("03", "01", "02"))
    songs = [name.replace("/03-01-", "/03-02-") for name in sounds[:3]]
    touch(tmp_path, (f"Audio_Speech_Actors_01-24/{name}.wav" for name in sounds))
    touch(tmp_path, (f"Video_Speech_Actor_01/{name}.mp4" for name in (*both, *pictures)))
    touch(tmp_path, (f"Audio_Song_Actors_01-24/{name}.wav" for name in songs))
    parsed = shipped("ravdess", tmp_path)
    assert len(parsed.samples) == 60 and not parsed.errors
    first = next(s for s in parsed.samples if s.sample_id == "ravdess/Actor_01/01-01-01-01-01-01")
    assert first.video_path == "Video_Speech_Actor_01/Actor_01/01-01-01-01-01-01-01.mp4"
    assert first.audio_path == "Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.wav"
    assert any(note.startswith("media files that fit no pattern, not used: 3 (Audio_Song") for note in parsed.notes)
    assert any(note.startswith("files beside another one of their utterance, not used: 60 (") for note in parsed.notes)


def test_pictures_without_sound_give_no_sound(tmp_path: Path) -> None:
    touch(tmp_path, [f"{ravdess_names('02', [3])[0]}.mp4", f"{ravdess_names('01', [4])[0]}.mp4"])
    silent, loud = shipped("ravdess", tmp_path).samples
    assert silent.video_status == "ok" and silent.audio_status == "missing_media"
    assert loud.audio_path == loud.video_path and loud.audio_status == "ok"


def test_a_second_copy_of_a_release_is_lines_of_the_audit(tmp_path: Path) -> None:
    names = ravdess_names(actors=[1])
    touch(tmp_path, (f"{folder}{name}.wav" for name in names for folder in ("", "audio_speech_actors_01-24/")))
    parsed = shipped("ravdess", tmp_path)
    assert len(parsed.samples) == 60 and {error.code for error in parsed.errors} == {"duplicate_row"}
    assert len(parsed.errors) == 60


def test_crema_d_joins_sounds_and_pictures_of_its_91_actors(tmp_path: Path) -> None:
    names = crema_d_names()
    touch(tmp_path, (f"AudioWAV/{name}.wav" for name in names))
    touch(tmp_path, (f"VideoFlash/{name}.flv" for name in names[:100]))
    parsed = shipped("crema_d", tmp_path)
    assert len(parsed.samples) == 7442 and not parsed.errors and len(splits_of(parsed)) == 91
    assert {s.label for s in parsed.samples} == {"ANG", "DIS", "FEA", "HAP", "NEU", "SAD"}
    assert all(len(splits) == 1 for splits in splits_of(parsed).values())
    share = Counter(s.split for s in parsed.samples)
    assert share["test"] == pytest.approx(0.2 * 7442, rel=0.1) and share["val"] == pytest.approx(0.1 * 7442, rel=0.2)
    sample = next(s for s in parsed.samples if s.sample_id == "crema_d/1001/1001_DFA_ANG_XX")
    assert sample.text == "Don't forget a jacket." and sample.native["level"] == "unspecified"
    assert sum(s.video_status == "ok" for s in parsed.samples) == 100
    assert all(s.audio_path and s.audio_path.startswith("AudioWAV/") for s in parsed.samples)


@pytest.mark.parametrize("layout", ["ALL/{}_{}.wav", "{}_{}.wav", "AudioData/{}/{}.wav", "{}/{}.wav"])
def test_savee_is_read_from_both_of_its_layouts(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, (layout.format(*name) for name in savee_names()))
    parsed = shipped("savee", tmp_path)
    assert len(parsed.samples) == 480 and not parsed.errors
    counts = Counter(s.label for s in parsed.samples)
    assert counts == {"n": 120, **dict.fromkeys(("a", "d", "f", "h", "sa", "su"), 60)}
    assert splits_of(parsed).keys() == {"DC", "JE", "JK", "KL"}
    assert Counter(s.split for s in parsed.samples) == {"train": 240, "val": 120, "test": 120}


def test_the_shipped_corpora_are_left_alone_where_their_roots_are_not_set() -> None:
    assert not any(SHIPPED.corpus(name).root for name in ("ravdess", "crema_d", "savee"))
    assert all(
        set(experiment.corpora) <= {"iemocap", "meld", "mosei", "afew"} for experiment in SHIPPED.experiments.values()
    )


def test_an_ingest_of_real_sounds_and_a_second_one_of_the_same_release(tmp_path: Path) -> None:
    for i, name in enumerate(ravdess_names(actors=[1, 2, 3])[::9]):
        write_tone(tmp_path / "root" / f"{name}.wav", 0.2, 200 + i)
    first = ingest_corpus("ravdess", SHIPPED.corpus("ravdess"), tmp_path / "root", tmp_path / "store")
    again = ingest_corpus("ravdess", SHIPPED.corpus("ravdess"), tmp_path / "root", tmp_path / "store")
    assert first == again and first.usable == first.found == 20 and first.media["audio"] == {"ok": 20}


def test_folders_of_splits_and_labels(tmp_path: Path) -> None:
    labels = ("joy", "Anger")
    touch(
        tmp_path,
        (f"{split}/{label}/s{i}_{i:02d}.wav" for split in ("Train", "dev") for label in labels for i in (1, 2)),
    )
    touch(tmp_path, ["train/joy/._s1_01.wav", "train/readme.txt", "other.wav", ".hidden/joy/s1_01.wav"])
    parsed = parse_table_corpus(tmp_path, pattern=TREE)
    assert {s.sample_id for s in parsed.samples if s.label == "anger" and s.split == "val"} == {
        "mine/dev/Anger/s1_01",
        "mine/dev/Anger/s2_02",
    }
    assert len(parsed.samples) == 8 and parsed.notes == ["media files that fit no pattern, not used: 1 (other.wav)"]
    assert parsed.samples[0].native == {"split": "Train", "label": "Anger", "speaker": "s1", "name": "01"}


def test_a_root_one_level_too_high_is_found_and_nothing_that_fits_is_said(tmp_path: Path) -> None:
    touch(tmp_path, ["release/train/joy/s1_1.wav"])
    parsed = parse_table_corpus(tmp_path, pattern=TREE)
    assert parsed.samples[0].audio_path == "release/train/joy/s1_1.wav"
    assert parsed.samples[0].sample_id == "mine/train/joy/s1_1"
    assert "the release is in release/ of the root" in parsed.notes
    with pytest.raises(
        DataError, match=r"no path under .* fits the pattern '\{x\}/\{label\}-\{y\}.mp4': found 1 media file"
    ):
        parse_table_corpus(tmp_path, pattern="{x}/{label}-{y}.mp4")


def test_a_split_that_is_none_and_a_turn_that_is_none_cost_their_file(tmp_path: Path) -> None:
    touch(tmp_path, ["tran/joy/s1_1.wav", "train/joy/s1_1.wav"])
    parsed = parse_table_corpus(tmp_path, pattern=TREE)
    assert len(parsed.samples) == 1 and [(e.code, e.file) for e in parsed.errors] == [("bad_row", "tran/joy/s1_1.wav")]
    assert "did you mean 'train'?" in parsed.errors[0].message
    touch(tmp_path, ["d1/a_joy.wav"])
    parsed = parse_table_corpus(tmp_path, pattern="{dialogue}/{turn}_{label}.wav")
    assert "turn is 'a'; expected a whole number" in {e.message for e in parsed.errors}


def test_files_that_give_one_id_are_one_sample_or_a_line_that_names_both(tmp_path: Path) -> None:
    touch(tmp_path, ["one/s1_joy.wav", "one/s1_joy.flac"])
    touch(tmp_path, ["two/s1_joy.wav"], b"another clip")
    parsed = parse_table_corpus(tmp_path, pattern=["one/{speaker}_{label}", "two/{speaker}_{label}"])
    assert len(parsed.samples) == 1 and parsed.samples[0].audio_path == "one/s1_joy.wav"
    (error,) = parsed.errors
    assert (error.code, error.file) == ("same_id", "two/s1_joy.wav") and "as one/s1_joy.wav does" in error.message
    assert "files beside another one of their utterance, not used: 1 (one/s1_joy.flac)" in parsed.notes


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("{who:2}{text:3}{label:1}{take}", "03a01Fa.wav", {"who": "03", "text": "a01", "label": "F", "take": "a"}),
        ("{label:letters}{n:digits}.wav", "sa15.wav", {"label": "sa", "n": "15"}),
        ("{label:letters}{n:digits}.wav", "sa.wav", None),
        ("A_{x}/{y}-{x}.wav", "a_01/b-01.WAV", {"x": "01", "y": "b"}),
        ("A_{x}/{y}-{x}.wav", "A_01/b-02.wav", None),
        ("{x}_{y}.wav", "a_b_c.wav", {"x": "a", "y": "b_c"}),
        ("{x}_{y}.wav", "a/b_c.wav", None),
        ("**/{x}_{y}.wav", "q/a/b_c.wav", {"x": "b", "y": "c"}),
        ("{x}.y", "a.y.mp4", {"x": "a"}),
        ("{x} (1)+.wav", "a (1)+.wav", {"x": "a"}),
    ],
)  # fmt: skip
def test_what_a_pattern_takes(pattern: str, path: str, fields: dict[str, str] | None) -> None:
    match = Pattern.of(pattern).match(path)
    assert (match and match.fields) == fields


@given(st.text(alphabet="{}ab_:/*.-1 ", max_size=20))
def test_any_text_is_a_pattern_or_one_sentence(text: str) -> None:
    try:
        pattern = Pattern.of(text)
    except ValueError as error:
        assert str(error).startswith("pattern ") and "\n" not in str(error)
        return
    match = pattern.match("a_1/b.a-a/ab.wav")
    assert match is None or set(match.fields) == set(pattern.fields)


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=4),
        min_size=3,
        max_size=3,
    )
)
def test_fields_are_read_back_from_the_path_that_they_make(values: list[str]) -> None:
    match = Pattern.of("x_{a}/{b}-{c}.wav").match("x_{}/{}-{}.wav".format(*values))
    assert match is not None and list(match.fields.values()) == values

"""Folders as copies of releases have them: clips by stem in any case and ending, orphans by name, roots off by one."""

from pathlib import Path

import pytest

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.errors import DataError
from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS
from merloco.pipelines.samples.schema import Sample
from tests.helpers import afew_release, meld_release
from tests.helpers.iemocap_release import block, write_dialogue
from tests.helpers.meld_release import row
from tests.helpers.mosei_release import Truth, csd, transcripts
from tests.helpers.store_files import CATALOG

CORPORA = load_catalog(CATALOG).corpora
DIALOGUE = "Ses01F_impro01"
VIDEOS: Truth = {v: {0: (0.0, 4.0, [0.0, 1, 0, 0, 0, 0, 0], "a")} for v in ("abcDEF", "ABCdef", "other")}


def parse(corpus: str, root: Path) -> Parsed:
    return parse_corpus(corpus, CORPORA[corpus], root)


def media(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"clip")


def meld(root: Path, *clips: str) -> Parsed:
    meld_release.release(root, [row(1, 0, 0), row(2, 0, 7), row(3, 12, 3)])
    media(root, *(f"train_splits/{clip}" for clip in clips))
    return parse("meld", root)


def found(parsed: Parsed) -> dict[str, tuple[str | None, str, str]]:
    train: list[Sample] = [s for s in parsed.samples if s.split == "train"]
    return {s.sample_id.split("/")[-1]: (s.video_path, s.video_status, s.audio_status) for s in train}


@pytest.mark.parametrize(
    "name",
    [
        *(f"dia0_utt7{ending}" for ending in VIDEO_ENDINGS),
        *("dia0_utt7.MP4", "Dia0_utt7.mp4", "DIA0_UTT7.Mkv", "dia0_utt07.mp4", "dia00-utt7.mp4", "dia0 utt7.mp4"),
        *("dia0utt7.mp4", "train_dia0_utt7.mp4"),
    ],
)
def test_a_meld_clip_is_found_in_any_case_and_spelling_with_any_ending(tmp_path: Path, name: str) -> None:
    parsed = meld(tmp_path, name)
    assert found(parsed)["dia0_utt7"] == (f"train_splits/{name}", "ok", "ok")
    other = [note for note in parsed.notes if "under another name or ending" in note]
    assert other == (
        [] if name == "dia0_utt7.mp4" else [f"train: clips under another name or ending than the release's: 1 ({name})"]
    )


@pytest.mark.parametrize("ending", AUDIO_ENDINGS)
def test_sound_alone_is_sound_without_a_video(tmp_path: Path, ending: str) -> None:
    parsed = meld(tmp_path, f"dia0_utt7{ending}")
    sample = next(s for s in parsed.samples if s.sample_id == "meld/train/dia0_utt7")
    assert (sample.audio_path, sample.audio_status) == (f"train_splits/dia0_utt7{ending}", "ok")
    assert (sample.video_path, sample.video_status) == ("train_splits/dia0_utt7.mp4", "missing_media")


def test_the_released_ending_wins_and_a_note_names_the_other_files(tmp_path: Path) -> None:
    parsed = meld(tmp_path, "dia0_utt7.avi", "dia0_utt7.mp4", "Dia0_utt7.mp4", "dia0_utt7.wav", "._dia0_utt7.mp4")
    assert found(parsed)["dia0_utt7"][0] == "train_splits/dia0_utt7.mp4"
    assert (
        "train: clips beside another one of their utterance, not used: 2 (Dia0_utt7.mp4, dia0_utt7.avi)" in parsed.notes
    )


def test_orphans_are_named_beside_the_missing_with_the_likeliest_match(tmp_path: Path) -> None:
    parsed = meld(tmp_path, "dia0_utt0.mp4", "clip 12 3.mp4", "dia0_ut7.mp4", "dia9_utt9.mp4")
    (note,) = [note for note in parsed.notes if note.startswith("train: clips without")]
    assert "clip 12 3.mp4, likeliest the missing dia12_utt3" in note
    assert "dia0_ut7.mp4, likeliest the missing dia0_utt7" in note
    assert "dia9_utt9" in note and note.endswith("rows without a clip: 2 (dia0_utt7, dia12_utt3)")
    assert found(parsed)["dia0_utt7"][1] == "missing_media"


def test_a_clip_of_another_part_is_none_of_this_one(tmp_path: Path) -> None:
    assert found(meld(tmp_path, "test_dia0_utt7.mp4"))["dia0_utt7"][1] == "missing_media"


def test_folders_and_annotation_files_are_found_in_any_case(tmp_path: Path) -> None:
    root = meld_release.release(tmp_path, [row(1, 0, 7)])
    (root / "train_sent_emo.csv").rename(root / "Train_Sent_Emo.CSV")
    media(root, "Train_Splits/dia0_utt7.mp4")
    assert found(parse("meld", root)) == {"dia0_utt7": ("Train_Splits/dia0_utt7.mp4", "ok", "ok")}


def test_archives_that_are_not_unpacked_are_said(tmp_path: Path) -> None:
    root = meld_release.release(tmp_path)
    media(root, "train.tar.gz")
    assert "train.tar.gz is not unpacked: no clip of train was found" in parse("meld", root).notes
    (tmp_path / "other").mkdir()
    media(tmp_path / "other", "MELD.Raw.tar.gz", "train_sent_emo.xlsx")
    with pytest.raises(DataError, match=r"found MELD\.Raw\.tar\.gz, train_sent_emo\.xlsx"):
        parse("meld", tmp_path / "other")


def mosei(root: Path) -> Path:
    transcripts(csd(root, VIDEOS), VIDEOS)
    return root


def test_mosei_videos_are_found_by_stem_and_ids_that_differ_in_case_keep_their_own(tmp_path: Path) -> None:
    root = mosei(tmp_path)
    media(root, "Videos/Full/Combined/abcDEF.mkv", "Videos/Full/Combined/OTHER.MP4", "Audio/Full/WAV_16000/other.flac")
    samples = {s.dialogue: s for s in parse("mosei", root).samples}
    assert samples["abcDEF"].video_path == "Videos/Full/Combined/abcDEF.mkv"
    assert samples["ABCdef"].video_status == "missing_media"
    assert samples["other"].video_path == "Videos/Full/Combined/OTHER.MP4"
    assert samples["other"].audio_path == "Audio/Full/WAV_16000/other.flac"


def test_mosei_orphans_are_named_where_videos_are_missing(tmp_path: Path) -> None:
    root = mosei(tmp_path)
    media(root, *(f"Videos/Full/Combined/{name}.mp4" for name in ("abcDEF", "ABCdef", "otherr")))
    (note,) = [note for note in parse("mosei", root).notes if note.startswith("full videos")]
    assert "otherr.mp4, likeliest the missing other" in note and note.endswith("missing: 1 (other)")


def iemocap(root: Path) -> Path:
    write_dialogue(root, DIALOGUE, block(f"{DIALOGUE}_F000", 0.0, "ang"), f"{DIALOGUE}_F000 [0.0000-2.0000]: Hi.\n")
    return root


def test_iemocap_media_are_found_by_stem(tmp_path: Path) -> None:
    root = iemocap(tmp_path)
    media(
        root, f"Session1/dialog/avi/{DIALOGUE.upper()}.MP4", f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F000.flac"
    )
    (sample,) = parse("iemocap", root).samples
    assert sample.video_path == f"Session1/dialog/avi/{DIALOGUE.upper()}.MP4" and sample.video_status == "ok"
    assert sample.audio_path == f"Session1/sentences/wav/{DIALOGUE}/{DIALOGUE}_F000.flac" and sample.audio_start is None


def test_iemocap_orphans_are_named_where_media_are_missing(tmp_path: Path) -> None:
    root = iemocap(tmp_path)
    media(root, "Session1/dialog/avi/DivX/Ses01F_impro1.avi")
    (note,) = [note for note in parse("iemocap", root).notes if note.startswith("Session1, videos")]
    assert f"likeliest the missing {DIALOGUE}" in note


@pytest.mark.parametrize("clip", ["Angry/000100000.AVI", "angry/000100000.mp4", "ANGRY/000100000.mkv"])
def test_afew_clips_and_folders_are_found_in_any_case(tmp_path: Path, clip: str) -> None:
    root = afew_release.release(tmp_path, f"train_afew/{clip}")
    (sample,) = parse("afew", root).samples
    assert (sample.sample_id, sample.label) == ("afew/train/000100000", "Angry")
    assert (sample.video_path, sample.video_status) == (f"train_afew/{clip}", "ok")


def test_afew_sounds_beside_their_clips_are_no_clips(tmp_path: Path) -> None:
    root = afew_release.release(tmp_path, "Train_AFEW/Sad/000100000.avi", "Train_AFEW/Sad/000100000.wav")
    parsed = parse("afew", root)
    assert [s.video_path for s in parsed.samples] == ["Train_AFEW/Sad/000100000.avi"] and parsed.errors == []
    assert "files beside a clip of the same name, not used: 1 (Train_AFEW/Sad/000100000.wav)" in parsed.notes
    (root / "Train_AFEW/Sad/000100000.avi").unlink()
    (sample,) = parse("afew", root).samples
    assert (sample.video_status, sample.audio_status) == ("missing_media", "ok")


RELEASES = {
    "meld": lambda root: meld_release.release(root),
    "mosei": mosei,
    "iemocap": iemocap,
    "afew": lambda root: afew_release.release(root),
}
BELOW = {
    "meld": ("train_splits", "train_splits/deep"),
    "mosei": ("Transcript", "Transcript/Segmented/Combined"),
    "iemocap": ("Session1", "Session1/dialog/EmoEvaluation"),
    "afew": ("Train_AFEW", "Train_AFEW/Angry"),
}


@pytest.mark.parametrize("corpus", RELEASES)
def test_a_root_one_level_too_high_is_found_and_said(tmp_path: Path, corpus: str) -> None:
    RELEASES[corpus](tmp_path / "data" / "copy")
    (tmp_path / "data" / "notes").mkdir()
    direct, higher = parse(corpus, tmp_path / "data" / "copy"), parse(corpus, tmp_path / "data")
    assert [s.sample_id for s in higher.samples] == [s.sample_id for s in direct.samples]
    assert "the release is in copy/ of the root" in higher.notes
    paths = {s.video_path for s in higher.samples if s.video_path}
    assert all(path.startswith("copy/") for path in paths)
    with pytest.raises(DataError, match=rf"give one of them as the root: '{tmp_path}/data/copy'"):
        parse(corpus, tmp_path)


@pytest.mark.parametrize("corpus", RELEASES)
def test_two_releases_under_a_root_are_named(tmp_path: Path, corpus: str) -> None:
    for name in ("a", "b"):
        RELEASES[corpus](tmp_path / name)
    with pytest.raises(DataError, match=r"give one of them as the root: .*/a', .*/b'"):
        parse(corpus, tmp_path)


@pytest.mark.parametrize(("corpus", "folder"), [(c, f) for c, folders in BELOW.items() for f in folders])
def test_a_root_that_is_too_low_says_which_folder_to_give(tmp_path: Path, corpus: str, folder: str) -> None:
    root = RELEASES[corpus](tmp_path / "copy")
    (root / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match=rf"a folder above it is the release: give '{tmp_path}/copy' as the root"):
        parse(corpus, root / folder)


def test_one_part_of_meld_says_where_the_others_are(tmp_path: Path) -> None:
    meld_release.release(tmp_path)
    for part in ("train", "dev"):
        (tmp_path / part).mkdir()
        (tmp_path / f"{part}_sent_emo.csv").rename(tmp_path / part / f"{part}_sent_emo.csv")
    parsed = parse("meld", tmp_path / "train")
    sentence = f"dev_sent_emo.csv not found: the val split is empty (it is in a folder above: give {str(tmp_path)!r} as"
    assert any(note.startswith(sentence) for note in parsed.notes) and len(parsed.samples) == 1


def test_folders_of_meld_clips_have_other_names_in_copies_and_unknown_ones_are_said(tmp_path: Path) -> None:
    root = meld_release.release(tmp_path)
    media(root, "test_splits/dia0_utt0.mp4", "my clips/dia0_utt0.mp4", "photos/a.mp4")
    parsed = parse("meld", root)
    assert next(s for s in parsed.samples if s.split == "test").video_path == "test_splits/dia0_utt0.mp4"
    assert [note for note in parsed.notes if "not used" in note] == [
        "clips in my clips/ not used: expected train_splits, dev_splits_complete, output_repeated_splits_test"
    ]


def test_ready_made_mosei_clips_that_no_row_names_are_orphans(tmp_path: Path) -> None:
    root = mosei(tmp_path)
    media(root, "Videos/Segmented/Combined/abcDEF_0.MP4", "Videos/Segmented/Combined/other_00.mp4")
    parsed = parse("mosei", root)
    assert {s.dialogue: s.video_status for s in parsed.samples}["abcDEF"] == "ok"
    (note,) = [note for note in parsed.notes if note.startswith("ready-made clips")]
    assert "other_00.mp4, likeliest the missing other_0" in note

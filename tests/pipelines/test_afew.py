"""AFEW: the folder is the label, names repeat across parts, the official validation is what is reported."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.afew import film_time
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.errors import DataError
from tests.helpers.afew_release import release
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("afew")


def parse(root: Path) -> Parsed:
    return parse_corpus("afew", ENTRY, root)


def test_equal_names_in_two_parts_do_not_collide(tmp_path: Path) -> None:
    found = {s.sample_id: (s.split, s.label, s.native["split"]) for s in parse(release(tmp_path)).samples}
    assert found == {
        "afew/train/001703120": ("train", "Angry", "Train"),
        "afew/val/001703120": ("test", "Fear", "Val"),
    }


@pytest.mark.parametrize("names", [("Train_AFEW", "Val_AFEW"), ("Train", "Val")])
def test_both_folder_namings(tmp_path: Path, names: tuple[str, str]) -> None:
    release(tmp_path, *(f"{name}/Happy/000100000.avi" for name in names))
    assert len(parse(tmp_path).samples) == 2


def test_only_the_seven_folders_count(tmp_path: Path) -> None:
    release(tmp_path)
    for other in (
        "AlignedFaces_LBPTOP_Points/001.avi",
        "Angry/desktop.ini",
        "Angry/._000000001.avi",
        "angry2/000100000.avi",
    ):
        path = tmp_path / "Train_AFEW" / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    parsed = parse(tmp_path)
    assert len(parsed.samples) == 2
    assert [(e.code, e.file) for e in parsed.left_out] == [("unknown_folder", "Train_AFEW/angry2/000100000.avi")]


def test_folders_without_a_clip_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.avi clip in the emotion folders"):
        parse(release(tmp_path, "Train_AFEW/Angry/000100000.jpg"))


def test_a_clip_without_nine_digits_is_left_out_by_name_and_digits_that_are_no_time_are_kept(tmp_path: Path) -> None:
    release(tmp_path, "Train_AFEW/Sad/000100000.avi", "Train_AFEW/Sad/holiday.avi", "Train_AFEW/Sad/009900000.avi")
    parsed = parse(tmp_path)
    assert [s.start for s in parsed.samples] == [60.0, None]
    assert [Path(e.file).name for e in parsed.errors] == ["holiday.avi"]


def test_names_keep_their_leading_zeros_and_are_times() -> None:
    assert film_time("013736360") == 1 * 3600 + 37 * 60 + 36.36
    assert film_time("13736360") is None


def test_a_test_part_has_no_labels_and_no_split(tmp_path: Path) -> None:
    release(tmp_path)
    release(tmp_path, "Test_vid_Distribute/000200000.avi")
    sample = next(s for s in parse(tmp_path).samples if s.split == "none")
    assert (sample.sample_id, sample.label) == ("afew/test/000200000", None)


def test_there_is_no_transcript_and_the_status_says_so(tmp_path: Path) -> None:
    assert {(s.text, s.text_status, s.text_source) for s in parse(release(tmp_path)).samples} == {
        (None, "no_text", "none")
    }


def test_xml_is_read_when_it_parses_and_never_required(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "Train_AFEW" / "Train_6.xml").write_text(
        '<A><C Name="001703120" NameOfActor="X"><Length>5</Length></C></A>'
    )
    (root / "Val_AFEW" / "Val_6.xml").write_text("<A><C Name=")
    parsed = parse(root)
    assert parsed.samples[0].native["xml"] == {"Length": "5", "Name": "001703120", "NameOfActor": "X"}
    assert any("Val_6.xml is not readable XML" in note for note in parsed.notes)


def test_validation_keeps_film_neighbourhoods_together(tmp_path: Path) -> None:
    names = [f"00{minute:02d}{second:02d}000" for minute in range(30) for second in (1, 20, 40)]
    release(tmp_path, *(f"Train_AFEW/Happy/{name}.avi" for name in names))
    splits: dict[float, set[str]] = {}
    for sample in parse(tmp_path).samples:
        splits.setdefault(sample.start // 60, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    assert sum(found == {"val"} for found in splits.values()) == 3


def test_an_empty_root_names_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Train_AFEW/ and Val_AFEW/"):
        parse(tmp_path)


@settings(max_examples=40)
@given(text=st.text(max_size=80))
def test_any_xml_is_survived(tmp_path: Path, text: str) -> None:
    root = release(tmp_path)
    (root / "Train_AFEW" / "Train_6.xml").write_text(text, encoding="utf-8")
    assert len(parse(root).samples) == 2

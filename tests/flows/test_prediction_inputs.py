"""Files, folders and sentences that are named to be predicted."""

import os
from pathlib import Path

import pytest

from merloco.flows.experiments.prediction_inputs import PredictionInput, find_inputs
from merloco.pipelines.errors import UsageError


def names(tmp_path: Path, found: list[PredictionInput]) -> list[str]:
    return [str(Path(one.name).relative_to(tmp_path)) for one in found]


def test_a_folder_gives_media_and_text_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    for name in ("b.MKV", "a.txt", ".x.mp4", "sub/z.Wav", "sub/c.TXT", "sub/.git/y.mp4", "read.me", "sub/no_ending"):
        (tmp_path / name).write_text("said")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    found = find_inputs([tmp_path], None)
    assert names(tmp_path, found.inputs) == ["a.txt", "b.MKV", "sub/c.TXT", "sub/z.Wav"]
    assert [one.text for one in found.inputs] == ["said", None, "said", None]
    assert [Path(name).name for name in found.skipped] == ["read.me", "no_ending"] and found.problems == []


def test_a_named_file_is_media_whatever_its_ending(tmp_path: Path) -> None:
    (tmp_path / "clip.unknown").write_bytes(b"x")
    (one,) = find_inputs([tmp_path / "clip.unknown"], "Hello").inputs
    assert (one.path, one.text) == (tmp_path / "clip.unknown", "Hello")


def test_a_sentence_belongs_to_one_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    assert find_inputs([tmp_path / "a.mp4"], "Hello").inputs[0].text == "Hello"
    with pytest.raises(UsageError, match="--text is the transcript of one file, not of 2"):
        find_inputs([tmp_path], "Hello")
    assert len(find_inputs([tmp_path], "  ").inputs) == 2


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "name files"), ("", "--text is blank"), ("\u200b ", "--text is blank")]
)
def test_nothing_is_wrong_usage(text: str | None, reason: str) -> None:
    with pytest.raises(UsageError, match=f"nothing to predict: {reason}"):
        find_inputs([], text)


def test_a_sentence_from_a_latin_1_shell_keeps_its_letters() -> None:
    assert find_inputs([], os.fsdecode("café".encode("latin-1"))).inputs == [PredictionInput("--text", None, "café")]


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    Path(os.fsdecode(path)).touch()
    (one,) = find_inputs([tmp_path], None).inputs
    assert one.name.endswith(r"caf\xe9.mp4") and one.path is not None and one.path.is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_a_text_that_may_not_be_read_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("said")
    (tmp_path / "a.txt").chmod(0)
    assert find_inputs([tmp_path], None).problems == [f"{tmp_path / 'a.txt'}: Permission denied"]

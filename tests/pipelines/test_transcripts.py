"""What was heard: lines that are whole or absent, and that belong to a content and not to a file name."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from merloco.pipelines.errors import BrokenFileError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.samples.schema import Sample, from_table, to_table
from merloco.pipelines.samples.table import read_samples, samples_path
from merloco.pipelines.samples.transcripts import (
    Transcript,
    append_transcripts,
    compare_media,
    drop_transcripts,
    file_state,
    join_transcripts,
    read_transcripts,
    transcripts_path,
)
from tests.helpers.kill_server import KillServer


def sample(name: str, **fields: object) -> Sample:
    settings = {"audio_path": f"{name}.wav", "text_source": "none", "text_status": "no_text", **fields}
    return Sample(f"c/train/{name}", "c", "train", **settings)


def heard(name: str, text: str, root: Path | None = None, **fields: object) -> Transcript:
    """A line as `transcribe` writes it; with a root, of the file that lies there."""
    line = Transcript(f"c/train/{name}", None, None, text or None, not text, "tiny", "r1")
    if root is not None:
        size, modified = file_state(root / f"{name}.wav") or (None, None)
        line = replace(line, bytes=size, modified=modified, sha256=sha256_file(root / f"{name}.wav"))
    return replace(line, **fields)


def append(store: str, name: str, size: int) -> None:
    """Add a line with a long text (called in a child of the kill server)."""
    append_transcripts(Path(store), "c", [heard(name, "a" * size)])


def test_what_was_heard_stands_in_the_samples_with_its_origin(tmp_path: Path) -> None:
    samples = [sample("a"), sample("b"), sample("c"), sample("d", text="from the release", text_source="transcript")]
    write_parquet(samples_path(tmp_path, "c"), to_table(samples))
    append_transcripts(tmp_path, "c", [heard("a", "hello"), heard("b", ""), heard("d", "something else")])
    a, b, c, d = from_table(read_samples(tmp_path, "c"))
    assert (a.text, a.text_source, a.text_status) == ("hello", "asr", "ok")
    assert a.native["asr"] == {"model": "tiny", "revision": "r1", "no_speech": False}
    assert (b.text, b.text_source, b.text_status) == (None, "asr", "no_text")
    assert c == samples[2] and d == samples[3]


def test_a_line_about_another_interval_says_nothing(tmp_path: Path) -> None:
    table = to_table([sample("a", audio_start=1.0, audio_end=2.0)])
    append_transcripts(tmp_path, "c", [heard("a", "whole file"), heard("a", "other", start=1.0, end=2.5)])
    assert join_transcripts(tmp_path, "c", table)["text"].to_pylist() == [None]
    append_transcripts(tmp_path, "c", [heard("a", "this", start=1.0, end=2.0)])
    assert join_transcripts(tmp_path, "c", table)["text"].to_pylist() == ["this"]


def test_an_unfinished_line_does_not_exist_and_the_next_batch_takes_its_place(tmp_path: Path) -> None:
    first, second = heard("a", "hello"), heard("b", "wörld")
    append_transcripts(tmp_path, "c", [first])
    path = transcripts_path(tmp_path, "c")
    with path.open("ab") as handle:
        handle.write(b'{"sample_id": "c/train/b", "text": "wo')
    before = path.read_bytes()
    assert read_transcripts(tmp_path, "c") == [first] and path.read_bytes() == before
    append_transcripts(tmp_path, "c", [second])
    assert read_transcripts(tmp_path, "c") == [first, second]


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    append_transcripts(tmp_path, "c", [heard("a", "hello")])
    with transcripts_path(tmp_path, "c").open("ab") as handle:
        handle.write(b"nonsense\n")
    with pytest.raises(BrokenFileError, match=r"c\.jsonl:2: not a transcript"):
        read_transcripts(tmp_path, "c")


def test_a_full_disk_costs_the_batch_in_hand_and_no_line(kill_server: KillServer, tmp_path: Path) -> None:
    call = {"call": "tests.pipelines.test_transcripts:append"}
    assert kill_server(**call, args=[str(tmp_path), "a", 100], limit=2000)["code"] == 0
    before = transcripts_path(tmp_path, "c").read_bytes()
    done = kill_server(**call, args=[str(tmp_path), "b", 5000], limit=2000)
    assert done["code"] == 70 and "no room left to write" in done["output"]
    assert transcripts_path(tmp_path, "c").read_bytes() == before
    assert kill_server(**call, args=[str(tmp_path), "c", 100], limit=2000)["code"] == 0
    assert [line.sample_id for line in read_transcripts(tmp_path, "c")] == ["c/train/a", "c/train/c"]


def test_lines_of_some_samples_can_be_taken_out(tmp_path: Path) -> None:
    append_transcripts(tmp_path, "c", [heard("a", "one"), heard("b", "two"), heard("a", "three")])
    assert drop_transcripts(tmp_path, "c", {"c/train/a"}) == 2
    assert read_transcripts(tmp_path, "c") == [heard("b", "two")]
    assert drop_transcripts(tmp_path, "c", {"c/train/a"}) == 0


def test_a_content_keeps_its_text_wherever_its_file_goes(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.wav", [sample("a")]
    path.write_bytes(b"first sound")
    lines = [heard("a", "hello", tmp_path)]
    assert compare_media(lines, samples, tmp_path) == []
    os.utime(path, ns=(1, 1))  # copied: another time, the same content
    (copied,) = compare_media(lines, samples, tmp_path)
    assert (copied.text, copied.modified) == ("hello", 1)
    path.write_bytes(b"second sound")
    (changed,) = compare_media([*lines, copied], samples, tmp_path)
    assert (changed.text, changed.model, changed.sha256) == (None, None, sha256_file(path))
    path.write_bytes(b"first sound")
    os.utime(path, ns=(7, 7))
    (back,) = compare_media([*lines, copied, changed], samples, tmp_path)
    assert (back.text, back.modified) == ("hello", 7)
    path.unlink()  # a disk that is not mounted is no other content
    assert compare_media([*lines, copied, changed, back], samples, tmp_path) == []


def test_a_file_is_hashed_only_where_its_size_or_time_is_another(tmp_path: Path) -> None:
    asked: list[Path] = []

    def hashing(path: Path) -> str:
        asked.append(path)
        return sha256_file(path)

    (tmp_path / "a.wav").write_bytes(b"sound")
    (tmp_path / "b.wav").write_bytes(b"sound")
    lines = [heard("a", "hello", tmp_path), heard("b", "hello", tmp_path)]
    os.utime(tmp_path / "b.wav", ns=(1, 1))
    compare_media(lines, [sample("a"), sample("b"), sample("never heard")], tmp_path, hashing)
    assert asked == [tmp_path / "b.wav"]

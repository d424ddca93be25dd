"""Files are whole or absent, and what a killed writer left is swept without touching a living writer's files."""

import os
from pathlib import Path

import pytest

from merloco.pipelines.files.atomic import atomic_path, remove_temporary_files, temporary_name
from merloco.pipelines.files.hashing import canonical_json


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"


def test_sweep_removes_files_of_dead_writers_only(tmp_path: Path) -> None:
    living = tmp_path / temporary_name("x")
    dead = tmp_path / temporary_name("x").replace(f"-{os.getpid()}-", "-4194305-")
    elsewhere = tmp_path / ".tmp-otherhost-4194305-0-x"
    for path in (living, dead, elsewhere):
        path.write_text("half")
    assert remove_temporary_files(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere])


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": [1.0, "é"]}) == canonical_json({"a": [1.0, "é"], "b": 1})

"""What to predict: media files, text files and folders of them, a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merloco.pipelines.errors import UsageError
from merloco.pipelines.files.text import decode_text, is_blank
from merloco.pipelines.files.walk import walk_once
from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS

MEDIA = frozenset((*VIDEO_ENDINGS, *AUDIO_ENDINGS))
"""Endings by which a folder's media are known; a file that is named is taken for media whatever its ending."""
TEXT = ".txt"


@dataclass(frozen=True, slots=True)
class PredictionInput:
    """One thing to predict: a media file, a sentence, or a file with its transcript."""

    name: str
    path: Path | None = None
    text: str | None = None


@dataclass(slots=True)
class FoundInputs:
    """What the arguments of a prediction name."""

    inputs: list[PredictionInput] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A sentence for each argument that names nothing to predict."""
    skipped: list[str] = field(default_factory=list)
    """Files of folders that are neither media nor text."""


def find_inputs(arguments: Sequence[Path], text: str | None) -> FoundInputs:
    """Find what arguments name: files as they are, folders with everything below them in the order of names.

    Args:
        arguments: Files and folders.
        text: A sentence, or the transcript of the one file; a blank one is none.

    Raises:
        UsageError: No argument and no sentence, or a sentence for several files.
    """
    sentence = None if text is None else decode_text(os.fsencode(text))
    if not arguments and sentence is None:
        blank = "" if text is None else "--text is blank: "
        raise UsageError(f"nothing to predict: {blank}name files, or give a sentence with --text")
    found = FoundInputs()
    for path in arguments:
        if path.is_dir():
            _add_folder(path, found)
        elif path.is_file():
            _add_file(path, found)
        else:
            found.problems.append(f"{shown(path)}: no such file")
    if sentence is None:
        return found
    if len(found.inputs) + len(found.problems) > 1:
        raise UsageError(f"--text is the transcript of one file, not of {len(found.inputs) + len(found.problems)}")
    found.inputs = [PredictionInput(i.name, i.path, sentence) for i in found.inputs]
    if not arguments:
        found.inputs = [PredictionInput("--text", text=sentence)]
    return found


def _add_folder(folder: Path, found: FoundInputs) -> None:
    before = len(found.inputs) + len(found.problems)
    for path in _walk(folder):
        if path.suffix.lower() in (TEXT, *MEDIA):
            _add_file(path, found)
        else:
            found.skipped.append(shown(path))
    if len(found.inputs) + len(found.problems) == before:
        found.problems.append(f"{shown(folder)}: no media and no {TEXT} file in this folder")


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder but for hidden ones; linked folders are followed, each once."""
    for parent, folders, files in walk_once(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _add_file(path: Path, found: FoundInputs) -> None:
    if path.suffix.lower() != TEXT:
        found.inputs.append(PredictionInput(shown(path), path))
        return
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        found.problems.append(f"{shown(path)}: {error.strerror}")
        return
    found.inputs.append(PredictionInput(shown(path), text=text))


def shown(path: Path) -> str:
    """A path as text; bytes of its name that are none are escaped."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def spoken(text: str | None) -> str | None:
    """A text, or None where there is nothing to read."""
    return None if text is None or is_blank(text) else text

"""IEMOCAP's transcriptions: `<utterance> [241.6700-243.4048]: You knew there was nothing.`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.corpora.iemocap.labels import NUMBER, UTTERANCE, Remarks, lines_of

# The text is what follows the first `]:`; it may hold colons and brackets of its own.
_TURN = re.compile(rf"(\S+)\s*\[\s*{NUMBER}\s*-\s*{NUMBER}\s*\]:(.*)", re.ASCII)
_TAG = re.compile(r"\[[A-Za-z][A-Za-z _-]*\]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One transcribed turn."""

    text: str
    """As released, with tags such as [LAUGHTER]."""
    start: float
    """Seconds from the start of the dialogue."""
    end: float


def spoken(text: str) -> str:
    """The text without its bracket tags: what a text encoder should read."""
    return " ".join(_TAG.sub(" ", text).split())


def read_transcription(file: Path, where: str, parsed: Parsed, remarks: Remarks) -> dict[str, Turn]:
    """Read one `transcriptions/<dialogue>.txt`.

    Args:
        file: The file.
        where: Its path relative to the corpus root, for messages.
        parsed: Gets an `overlap_turn` per turn in which both actors speak (it has no label anywhere), and a
            `bad_transcript` per line that cannot be read.
        remarks: Gets the lines without an utterance, which the release has (a bare speaker tag).

    Returns:
        Utterance -> turn, in the order of the file.
    """
    turns: dict[str, Turn] = {}
    try:
        lines = lines_of(file)
    except OSError as error:
        parsed.errors.append(RowError("bad_transcript", where, 0, f"not readable: {error.strerror}"))
        return turns
    for number, line in lines:
        if not line:
            continue
        if "_" not in line.split(maxsplit=1)[0] and "]:" not in line:
            remarks.setdefault("transcript lines name no utterance: skipped", []).append(f"{where}:{number}")
            continue
        match = _turn(line, file.stem)
        if isinstance(match, str):
            parsed.errors.append(RowError("bad_transcript", where, number, match))
            continue
        name, turn = match
        if "X" in name.rsplit("_", 1)[1]:
            problem = f"{name} is a turn of both actors, without a label"
            parsed.errors.append(RowError("overlap_turn", where, number, problem))
        elif name in turns:
            parsed.errors.append(RowError("bad_transcript", where, number, f"{name} occurs twice: the first is kept"))
        else:
            turns[name] = turn
    return turns


def _turn(line: str, dialogue: str) -> tuple[str, Turn] | str:
    match = _TURN.fullmatch(line)
    if match is None:
        return f"{line[:60]!r}; expected utterance [start-end]: text"
    name, start, end, text = match.groups()
    parts = UTTERANCE.fullmatch(name)
    if parts is None or parts[1] != dialogue:
        return f"utterance {name[:60]!r}; expected {dialogue}_<F or M><three digits>"
    return name, Turn(text.strip(), float(start), float(end))

"""IEMOCAP's EmoEvaluation files: consensus label, every vote, every attribute rating.

::

    % [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

    [140.2250 - 145.6000]<TAB>Ses01F_impro05_F019<TAB>ang<TAB>[1.5000, 4.0000, 4.5000]
    C-E1:<TAB>Anger; Frustration;<TAB>()                      category vote of external evaluator 1
    C-F1:<TAB>Anger;<TAB>()                                   self-evaluation of the female actor
    A-E4:<TAB>val 1; act 4; dom  5;<TAB>(threatening, belligerent)

A blank line ends a block. What follows it must be a summary line: votes are never given to another utterance because
the line above them is damaged.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merloco.pipelines.corpora.base import Parsed, RowError, duplicate

CODES = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")
VOTES = ("Neutral", "Frustration", "Excited", "Happiness", "Anger", "Sadness", "Surprise", "Fear", "Disgust", "Other")

Remarks = dict[str, list[str]]
"""Sentence for the audit -> the places it holds for; the notes count them and name the first."""

_DIALOGUE = r"Ses0[1-5][FM]_(?:impro|script)\d\d[a-z]?(?:_\d[a-z]?)?"
DIALOGUE = re.compile(_DIALOGUE, re.ASCII)
UTTERANCE = re.compile(rf"({_DIALOGUE})_([FM])([X\d]{{2}}\d)", re.ASCII)
"""Dialogue, speaker, number; turns in which both actors speak have an X among the digits of the number."""
NUMBER = r"(\d{1,5}(?:\.\d+)?)"
_SUMMARY = re.compile(rf"\[{NUMBER} - {NUMBER}\]\t(\w+)\t(\w+)\t\[{NUMBER}, {NUMBER}, {NUMBER}\]", re.ASCII)
_VOTE = re.compile(r"([CA])-([EFM]\d*):(.*)", re.ASCII)
_ATTRIBUTE = re.compile(r"(val|act|dom)\s*(\d+(?:\.\d+)?)?", re.ASCII)
_LINE_END = re.compile(r"\r*\n|\r")


@dataclass(slots=True)
class EmoEvaluation:
    """One block of an EmoEvaluation file."""

    utterance: str
    label: str
    """Three-letter consensus code; `xxx` where the evaluators did not agree."""
    start: float
    """Seconds from the start of the dialogue."""
    end: float
    valence: float
    """Mean rating of the evaluators, 1 to 5; likewise activation and dominance."""
    activation: float
    dominance: float
    votes: dict[str, list[str]] = field(default_factory=dict)
    """Voter (`E<n>` evaluator, `F<n>` or `M<n>` the actor) -> categories named, in the order given."""
    attributes: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Voter -> `val`, `act`, `dom`; null where the release leaves the number out."""
    comments: dict[str, str] = field(default_factory=dict)
    """`C-<voter>` or `A-<voter>` -> free text; voters without a comment are left out."""

    def native(self) -> dict[str, Any]:
        """The annotation fields that have no column of their own."""
        names = ("votes", "comments", "attributes", "valence", "activation", "dominance")
        return {name: getattr(self, name) for name in names}


def lines_of(file: Path) -> list[tuple[int, str]]:
    r"""Numbered, stripped lines of an annotation file.

    The files are latin-1: comments hold odd bytes. `\r\r\n`, from a file converted twice, is one line end.
    """
    text = file.read_bytes().removeprefix(codecs.BOM_UTF8).decode("latin-1")
    return [(number, line.strip()) for number, line in enumerate(_LINE_END.split(text), start=1)]


def read_evaluations(file: Path, where: str, parsed: Parsed, remarks: Remarks) -> list[EmoEvaluation]:
    """Read one `EmoEvaluation/<dialogue>.txt`, called `where` in messages.

    Args:
        file: The file.
        where: Its path relative to the corpus root.
        parsed: Gets a `bad_row` per utterance and a `bad_vote` per vote that cannot be read, an `overlap_turn` per
            utterance of both actors, and a `duplicate_row` per second block of an utterance.
        remarks: Gets the votes with another word than the ten categories; they are kept as released.

    Returns:
        The readable blocks in the order of the file, which is not that of time.
    """
    evaluations: dict[str, EmoEvaluation] = {}
    first: dict[str, int] = {}
    block: EmoEvaluation | None = None
    inside = False  # in a block, which may be one whose summary line cannot be read
    try:
        lines = lines_of(file)
    except OSError as error:
        parsed.errors.append(RowError("bad_file", where, 0, f"not readable: {error.strerror}"))
        return []
    for number, line in lines:
        if not line:
            block, inside = None, False
        elif line.startswith("[") or not inside:
            if number == 1 and not line.startswith("["):
                continue  # the header
            row, inside = _summary(line, number, where, file.stem), True
            if isinstance(row, EmoEvaluation) and row.utterance in evaluations:
                row = duplicate(where, number, row.utterance, (where, first[row.utterance]))
            if isinstance(row, RowError):
                parsed.errors.append(row)
                block = None
            else:
                block = evaluations[row.utterance] = row
                first[row.utterance] = number
        elif block is not None:
            problem = _add_vote(block, line)
            if problem is not None:
                parsed.errors.append(RowError("bad_vote", where, number, f"{block.utterance}: {problem}"))
    remark = "votes name another word than the ten categories: kept as released"
    for evaluation in evaluations.values():
        for voter, words in evaluation.votes.items():
            if not words or not set(words) <= set(VOTES):
                remarks.setdefault(remark, []).append(f"{'; '.join(words)!r} by {voter} of {evaluation.utterance}")
    return list(evaluations.values())


def _summary(line: str, number: int, where: str, dialogue: str) -> EmoEvaluation | RowError:
    match = _SUMMARY.fullmatch(line)
    if match is None:
        expected = "[start - end]<TAB>utterance<TAB>label<TAB>[V, A, D]"
        return RowError("bad_row", where, number, f"{line[:60]!r}; expected {expected}")
    start, end, utterance, label, *ratings = match.groups()
    parts = UTTERANCE.fullmatch(utterance)
    if parts is None or parts[1] != dialogue:
        message = f"utterance {utterance!r}; expected {dialogue}_<F or M><three digits>"
        return RowError("bad_row", where, number, message)
    if "X" in parts[3]:
        return RowError("overlap_turn", where, number, f"{utterance} is a turn of both actors")
    if label not in CODES:
        return RowError(
            "bad_row", where, number, f"{utterance} has label {label!r}; expected one of {', '.join(CODES)}"
        )
    if float(end) <= float(start):
        return RowError("bad_row", where, number, f"{utterance} ends at {end} s; expected after its start at {start} s")
    valence, activation, dominance = map(float, ratings)
    return EmoEvaluation(utterance, label, float(start), float(end), valence, activation, dominance)


def _add_vote(block: EmoEvaluation, line: str) -> str | None:
    """Add a vote line to its block; a sentence if it cannot be read."""
    match = _VOTE.fullmatch(line)
    if match is None:
        return (
            f"{line[:60]!r}; expected a vote such as C-E1:<TAB>Anger;<TAB>() or A-E1:<TAB>val 2; act 4; dom 4;<TAB>()"
        )
    kind, voter, rest = match.groups()
    if voter in (block.votes if kind == "C" else block.attributes):
        return f"{kind}-{voter} occurs twice: the first is kept"
    values, _, comment = rest.partition("(")
    parts = [part.strip() for part in values.split(";") if part.strip()]
    if kind == "C":
        block.votes[voter] = parts
    else:
        ratings = _attributes(parts)
        if ratings is None:
            return f"{values.strip()[:60]!r}; expected val <number>; act <number>; dom <number>"
        block.attributes[voter] = ratings
    comment = comment.strip().removesuffix(")").strip()
    if comment:
        block.comments[f"{kind}-{voter}"] = comment
    return None


def _attributes(parts: list[str]) -> dict[str, float | None] | None:
    """Ratings by name; the release leaves some numbers out, which are null."""
    ratings: dict[str, float | None] = dict.fromkeys(("val", "act", "dom"))
    matches = [_ATTRIBUTE.fullmatch(part) for part in parts]
    for match in matches:
        if match is None:
            return None
        if match[2] is not None:
            ratings[match[1]] = float(match[2]) if "." in match[2] else int(match[2])
    return ratings if matches else None

"""Cells of annotation tables as values; what a spreadsheet made of a number, a time or a name is read where certain.

What a cell says in another form than the release's is counted in `Rewritten`, for one note per kind in the audit.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

# Three zeros may be thousands: `1,000` is no certain number.
WHOLE = re.compile(r"(\d{1,9})(?:[.,](?:0{1,2}|0{4,}))?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+", re.ASCII)
_CLOCK = re.compile(
    r"(?:(?P<days>\d{1,3}) days? )?(?:(?P<hours>\d{1,2}):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{2})"
    r"(?:(?P<mark>[.,])(?P<fraction>\d{1,9}))?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?",
    re.ASCII,
)
SECONDS_OF_DAY = 86400.0
LOST_ZEROS = 0.02
"""Share of short fractions up to which they are taken for ones that lost zeros: a tenth of decimal ones ends in a zero,
which some programs leave out."""


@dataclass(slots=True)
class Rewritten:
    """Cells that were read although they stand in another form than the release's."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        """Count a cell under the words of its note."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.examples.setdefault(kind, example)

    def notes(self) -> list[str]:
        """One phrase per kind, with the first cell of it."""
        return [f"{kind}: {n} (first: {self.examples[kind]})" for kind, n in self.counts.items()]


def whole_number(text: str) -> int | None:
    """A whole number; a spreadsheet's `1.0` and blanks around it are read, anything else is none."""
    match = WHOLE.fullmatch(text.strip())
    return int(match[1]) if match else None


def decimal(text: str | None, comma: bool = False) -> float | None:
    """A finite number, or null where the cell is none; `comma` also reads `0,333`."""
    if text is None or "_" in text:
        return None
    if comma and _DECIMAL_COMMA.fullmatch(text.strip()):
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def clock_seconds(text: str, decimal_fraction: bool = False) -> float | None:
    """Seconds of a time `H:MM:SS,mmm`; null where it is none, or not for certain.

    Three rows of MELD have two digits behind the comma; the times around them fit when a zero was lost in front (`,28`
    is 28 ms). More than three digits are a decimal fraction, as scripts write it (`0 days 00:16:16.059000`).

    Args:
        text: The cell. `16:16` has no answer: it may be hours and minutes or minutes and seconds.
        decimal_fraction: Three digits and fewer are a decimal fraction as well, as spreadsheets write it (`16:16.1`).
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None or (match["hours"] is None and (match["fraction"] is None or match["half"] or match["days"])):
        return None
    hours, minutes, seconds = int(match["hours"] or 0), int(match["minutes"]), int(match["seconds"])
    if seconds > 59 or (match["hours"] is not None and minutes > 59):
        return None
    if match["half"]:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + 12 * (match["half"] in "Pp")
    fraction = match["fraction"] or "0"
    part = int(fraction) / 1000 if len(fraction) <= 3 and not decimal_fraction else int(fraction) / 10 ** len(fraction)
    return int(match["days"] or 0) * SECONDS_OF_DAY + hours * 3600 + minutes * 60 + seconds + part


def time_reader(cells: Iterable[str]) -> tuple[Callable[[str], float | None], str | None]:
    """How the times of a table read, by all of its cells at once.

    Returns:
        A function from cell to seconds, null where a cell is no time; and how the times stand there, where that is
        another form than `H:MM:SS,mmm`.
    """
    texts = [text for cell in cells if (text := cell.strip())]
    if any(":" in text for text in texts):
        short, dotted = _share_of_short(texts, ",") > 0.5, _share_of_short(texts, ".") > LOST_ZEROS
        plain = next((text for text in texts if ":" in text and not _RELEASED.fullmatch(text)), None)
        form = f"times such as {plain}" if plain else "a decimal fraction behind the comma" if short else None
        return (lambda text: clock_seconds(text, decimal_fraction=short if "," in text else dotted)), form
    numbers = [value for text in texts if (value := decimal(text, comma=True)) is not None]
    if numbers and all(0 <= value < 1 for value in numbers):
        return (lambda text: _scaled(text, SECONDS_OF_DAY)), "times as fractions of a day"
    return (lambda text: _scaled(text, 1.0)), "times as numbers, taken as seconds" if numbers else None


def _share_of_short(texts: list[str], mark: str) -> float:
    """Share of the times with a fraction behind a mark whose fraction has fewer than three digits."""
    digits = [len(match["fraction"]) for text in texts if mark in text and (match := _CLOCK.fullmatch(text))]
    return sum(n < 3 for n in digits) / max(len(digits), 1)


_RELEASED = re.compile(r"\d{1,2}:\d{2}:\d{2},\d{1,3}", re.ASCII)


def _scaled(text: str, factor: float) -> float | None:
    value = decimal(text, comma=True)
    return None if value is None else round(value * factor, 3)


def known_label(text: str, known: Collection[str]) -> str:
    """A label in the spelling of the known ones where it is one of them but for case and blanks around it."""
    label = text.strip()
    if label in known:
        return label
    same = [name for name in known if name.casefold() == label.casefold()]
    return same[0] if len(same) == 1 else label


SPLIT_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr", "0"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "1"), "val"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}
"""What tables call the splits, in lower case."""


NO_SPLIT = ("", "none", "3", "nan", "null")
"""What tables say of what is in no split, in lower case; 3 is the code of a common one of CMU-MOSEI."""


def split_of(word: str) -> str | None:
    """The split that a word of a table means, in any case, with blanks around it or as `1.0`; null for another word."""
    text = word.strip().casefold()
    number = whole_number(text)
    return SPLIT_WORDS.get(text if number is None else str(number))


def unknown_split(word: str) -> str:
    """What to say of a word that means no split."""
    close = difflib.get_close_matches(word.strip().casefold(), SPLIT_WORDS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown split {word!r}: {hint}known: {', '.join(SPLIT_WORDS)}"

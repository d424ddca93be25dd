"""Text files of people: in whatever encoding their editor wrote."""

from __future__ import annotations

import codecs
import unicodedata

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
_EXAMINED = 4096
"""Bytes by which UTF-16 without a byte order mark is known."""
_LAYOUT = frozenset("\t\n\r\v\f\x1a\x85")
"""Control characters that texts have; the last but one ended files of MS-DOS."""


def decode_text(raw: bytes) -> str | None:
    """The text in some bytes, without blanks around it; None where they are no text, or hold nothing to read.

    The encoding is what a byte order mark says, UTF-16 where every second byte of Latin text is zero, else UTF-8; a
    line that is not UTF-8 is Windows-1252.
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            text = raw[len(mark) :].decode(encoding, errors="replace")
            break
    else:
        guess = _utf16(raw[:_EXAMINED])
        text = raw.decode(guess, errors="replace") if guess else _by_line(raw)
    if any(unicodedata.category(c) == "Cc" and c not in _LAYOUT for c in text):
        return None
    return None if is_blank(text) else text.strip()


def is_blank(text: str) -> bool:
    """Whether nothing of a text is to be seen: blanks, line ends, and signs without a width."""
    return not any(c.isprintable() and not c.isspace() for c in text)


def _utf16(head: bytes) -> str | None:
    pairs = len(head) // 2
    even, odd = head[: 2 * pairs : 2].count(0), head[1::2].count(0)
    if 2 * odd > pairs and not even:
        return "utf-16-le"
    return "utf-16-be" if 2 * even > pairs and not odd else None


def _by_line(raw: bytes) -> str:
    return "\n".join(_utf8_or_1252(line) for line in raw.split(b"\n"))


def _utf8_or_1252(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")

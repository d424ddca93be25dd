"""Text files of people, in whatever encoding their editor wrote: one odd byte does not change how the rest reads."""

from __future__ import annotations

import codecs
import unicodedata

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
EXAMINED = 4096
"""Bytes of a file by which UTF-16 without a byte order mark is known."""
_MIN_ZERO_SHARE = 0.4
"""Share of zero bytes on one side of the pairs: text of another script than Latin has fewer and is not certain."""
_LAYOUT = frozenset("\t\n\r\v\f\x1a\x85")
"""Control characters that texts have; the last but one ended files of MS-DOS."""


def decode_lines(raw: bytes) -> tuple[list[str], list[str]]:
    r"""Lines of a text without their ends (`\n`, `\r\n`, or `\r` where there is no other).

    The encoding is UTF-16 or UTF-32 where a byte order mark or the zero bytes say so, else UTF-8; a line that is not
    UTF-8 is Windows-1252. A byte order mark is not part of the text.

    Returns:
        The lines; then, for the audit, what is other than UTF-8.
    """
    encoding = wide_encoding(raw)
    if encoding is not None:
        text = raw.decode(encoding, errors="replace").removeprefix("\ufeff")
        return _split(text), [f"in {encoding.upper()}"]
    remarks = ["begins with a byte order mark"] if raw.startswith(codecs.BOM_UTF8) else []
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return _split(raw.decode("utf-8")), remarks
    except UnicodeDecodeError:
        pass
    parts = raw.split(b"\n") if b"\n" in raw else raw.split(b"\r")
    decoded = [_decode(part.rstrip(b"\r")) for part in parts]
    remarks.append(f"lines in Windows-1252: {sum(odd for _, odd in decoded)}")
    return [line for line, _ in decoded], remarks


def wide_encoding(raw: bytes) -> str | None:
    """The encoding of two or four bytes per character that a text certainly has, else null."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return encoding
    head = raw[: min(EXAMINED, len(raw) // 2 * 2)]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if not even and odd > _MIN_ZERO_SHARE * len(head) / 2:
        return "utf-16-le"
    if not odd and even > _MIN_ZERO_SHARE * len(head) / 2:
        return "utf-16-be"
    return None


def _split(text: str) -> list[str]:
    lines = text.split("\n") if "\n" in text else text.split("\r")
    return [line.rstrip("\r") for line in lines]


def _decode(line: bytes) -> tuple[str, bool]:
    """A line, and whether it is not UTF-8."""
    try:
        return line.decode("utf-8"), False
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace"), True


def decode_text(raw: bytes) -> str | None:
    """The text in some bytes, without blanks around it; None where they are no text, or hold nothing to read.

    See `decode_lines`.
    """
    text = "\n".join(decode_lines(raw)[0])
    if any(unicodedata.category(c) == "Cc" and c not in _LAYOUT for c in text):
        return None
    return None if is_blank(text) else text.strip()


def is_blank(text: str) -> bool:
    """Whether nothing of a text is to be seen: blanks, line ends, and signs without a width."""
    return not any(c.isprintable() and not c.isspace() for c in text)

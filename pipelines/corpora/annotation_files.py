"""Annotation files as lines, and files that are no annotations at all."""

from __future__ import annotations

import codecs
from pathlib import Path

from merloco.pipelines.files.text import EXAMINED, decode_lines, wide_encoding

_SIGNATURES = (
    (b"PK\x03\x04", "a spreadsheet or a ZIP archive: save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet: save it as CSV"),
    (b"\x1f\x8b", "gzip data: unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS instead of the file: run `git lfs pull`"),
    (b"<!doctype html", "a web page instead of the file: download it again"),
    (b"<html", "a web page instead of the file: download it again"),
)


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without their ends (`decode_lines`); raises `OSError` where it cannot be read."""
    return decode_lines(path.read_bytes())[0]


def foreign_content(raw: bytes) -> str | None:
    """What a file is whose first bytes say that it is no text of a table, and what to do; null where they do not."""
    if not raw.strip():
        return "empty"
    head = raw[:EXAMINED].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    zeros = "no text: it holds zero bytes" if b"\0" in head and wide_encoding(raw) is None else None
    return next((what for signature, what in _SIGNATURES if head.startswith(signature.lower())), zeros)

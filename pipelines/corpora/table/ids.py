"""Sample ids out of the names that people give: letters, digits, `_` and `-` stay, everything else is told apart."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

NO_PART = "all"
"""The part of an id where a corpus has neither dialogues nor speakers nor splits."""
HASH_DIGITS = 8
_USABLE = re.compile(r"[A-Za-z0-9_-]+")


def sample_id_of(corpus: str, parts: Iterable[str]) -> str:
    """The id of a sample: the corpus, then every part; `/` within a part begins another one."""
    return "/".join([corpus, *(_segment(name) for part in parts for name in part.split("/") if name.strip())])


def _segment(name: str) -> str:
    """A name as a part of an id.

    One that has other characters gets `_` in their place and a hash behind it, so that two names never become one.
    Unicode is composed first: file systems differ in how they write an umlaut.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if _USABLE.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{readable}-{digest}" if readable else digest

"""Errors that a user can mend: one sentence that says what is wrong, where, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

FIRST_NAMES = 3
"""Names that a sentence gives of many."""


class DataError(Exception):
    """A problem in the user's data or configuration. The command line prints it and exits with 1."""

    exit_code = 1


class UsageError(DataError):
    """A command was called in a way that cannot work. The command line prints it and exits with 2."""

    exit_code = 2


class BrokenFileError(DataError):
    """The content of a file is proven not to be what it should be; that it could not be read at all proves nothing."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Known names for a message, at most ten: ``did you mean 'meld'? known: afew, iemocap, meld, mosei``."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {listed or 'none'}"


def first_names(names: Sequence[str], shown: int = FIRST_NAMES) -> str:
    """How many, and the first of them: ``5 (a, b, c, ...)``."""
    return f"{len(names)} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"

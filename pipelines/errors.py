"""Errors that a user can mend: one sentence that says what is wrong, where, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(Exception):
    """A problem in the user's data or configuration. The command line prints it and exits with 1."""

    exit_code = 1


class UsageError(DataError):
    """A command was called in a way that cannot work. The command line prints it and exits with 2."""

    exit_code = 2


class BrokenFileError(DataError):
    """The content of a file is proven not to be what it should be; that it could not be read at all proves nothing."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which known names there are, the nearest one first if there is one.

    Args:
        name: What the user wrote.
        known: The names that would have been accepted.

    Returns:
        For example ``did you mean 'meld'? known: afew, iemocap, meld, mosei``; at most ten names are listed.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {listed or 'none'}"

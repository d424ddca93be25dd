"""Comma-separated lists of options."""

from __future__ import annotations

from merloco.pipelines.errors import UsageError


def split_list(value: str | None) -> list[str] | None:
    """`a,b` -> [a, b], each once; None stays None.

    Raises:
        UsageError: The list names nothing, for example because a shell variable was empty.
    """
    if value is None:
        return None
    parts = list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not parts:
        raise UsageError(f"{value!r} names nothing: expected a comma-separated list, or leave the option out for all")
    return parts

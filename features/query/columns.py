"""Names of columns, as DuckDB makes them unique."""

from __future__ import annotations

from collections.abc import Sequence


def unique_names(names: Sequence[str]) -> list[str]:
    """Names of a result's columns without a repetition: `a, a` become `a, a_1`.

    It is what DuckDB's `.df()` and `create table as` do: names are compared without case, the first keeps its own.

    Example:
        >>> unique_names(["a", "a", "A", "a_1"])
        ['a', 'a_1', 'A_2', 'a_1_1']
    """
    used: dict[str, int] = {}
    """Lower-case name -> how often it was asked for beyond the first time."""
    unique = []
    for name in names:
        candidate = name
        while candidate.lower() in used:
            used[name.lower()] += 1
            candidate = f"{name}_{used[name.lower()]}"
        used[candidate.lower()] = 0
        unique.append(candidate)
    return unique

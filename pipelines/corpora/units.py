"""Units of times that cannot be right: lengths of utterances by which milliseconds are told from seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

from merloco.pipelines.errors import DataError

UNITS = {
    "milliseconds": 1e3,
    "microseconds": 1e6,
    "units of 100 nanoseconds": 1e7,
    "minutes": 1 / 60,
    "hours": 1 / 3600,
    "fractions of a day": 1 / 86400,
    "seconds in the place of minutes": 60.0,
}
"""Unit -> how many of it a second has."""
MIN_ROWS = 3
"""Fewer rows than this show nothing."""
SAME_UNIT = 4.0
"""Factor by which typical lengths of two sets of utterances differ at most."""


def check_lengths(
    lengths: Mapping[str, float],
    end: str,
    start: str,
    typical: float,
    limits: tuple[float, float],
    where: str = "in the release",
) -> None:
    """Refuse times that cannot be right.

    Args:
        lengths: File and line, as `labels.csv:2` -> end minus start in seconds.
        end: Name of the column of ends.
        start: Name of the column of starts.
        typical: Median length in the release.
        limits: Least and greatest median length that a part of the release can have.
        where: Of what `typical` is the length, for the sentence.

    Raises:
        DataError: Most rows end before they start, or the median length is outside the limits.
    """
    if len(lengths) < MIN_ROWS:
        return
    backwards = [place for place, length in lengths.items() if length < 0]
    if 2 * len(backwards) > len(lengths):
        raise DataError(
            f"{backwards[0]}: {end} lies before {start} in {len(backwards):,} of {len(lengths):,} rows: "
            f"expected it after {start}; are the columns swapped?"
        )
    middle = median(lengths.values())
    if not limits[0] <= middle <= limits[1]:
        place, length = next(item for item in lengths.items() if not limits[0] <= item[1] <= limits[1])
        unit = guess_unit(middle / typical)
        raise DataError(
            f"{place}: {start} and {end} are {length:,g} s apart, and {middle:,g} s in the median of all rows: "
            f"expected seconds, about {typical:g} {where}{f'; they look like {unit}' if unit else ''}"
        )


def guess_unit(factor: float) -> str | None:
    """The unit of which a second has about so many; null where none is near."""
    if factor <= 0:
        return None
    name = min(UNITS, key=lambda unit: abs(math.log(factor / UNITS[unit])))
    return name if abs(math.log(factor / UNITS[name])) <= math.log(SAME_UNIT) else None

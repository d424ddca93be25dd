"""The settings that a search tries, drawn by seed: a larger budget tries the same ones first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from merloco.models.protocols import Point
from merloco.pipelines.catalog.entries import Range, Search, Training

MAX_DRAWS = 100
"""Draws per wanted point, after which a space of few points counts as exhausted."""
DIGITS = 3
"""Significant digits of a drawn number, so that it can be read and typed again."""


def draw_points(search: Search, number: int) -> list[Point]:
    """Draw different settings at random; fewer where the lists and ranges have no more.

    Args:
        search: Lists and ranges, and the seed.
        number: How many are wanted.

    Returns:
        Each the (name, value) of every setting, in the order of their names.
    """
    generator = np.random.default_rng(search.seed)
    space = dict(sorted(search.settings.items()))
    sizes = [_size(name, values) for name, values in space.items()]
    number = int(min(number, math.prod(sizes)))
    points: dict[Point, None] = {}
    for _ in range(MAX_DRAWS * number):
        if len(points) == number:
            break
        points.setdefault(_draw(space, generator))
    return list(points)


def _draw(space: Mapping[str, tuple[Any, ...] | Range], generator: np.random.Generator) -> Point:
    return tuple(
        (name, _between(name, drawn, generator) if isinstance(drawn, Range) else drawn[generator.integers(len(drawn))])
        for name, drawn in space.items()
    )


def _between(name: str, bounds: Range, generator: np.random.Generator) -> int | float:
    whole = _is_whole(name, bounds)
    # A whole number stands for what is rounded to it, so that both bounds are as likely as the others.
    low, high = (bounds.low - 0.5, bounds.high + 0.5) if whole else (bounds.low, bounds.high)
    share = generator.random()
    value = low * (high / low) ** share if bounds.log else low + (high - low) * share
    return min(max(round(value) if whole else float(f"{value:.{DIGITS}g}"), bounds.low), bounds.high)


def _is_whole(name: str, bounds: Range) -> bool:
    """Whether a setting is a whole number; the catalog has checked that both bounds are values of it."""
    return isinstance(getattr(Training.model_validate({name: bounds.low}), name), int)


def _size(name: str, values: tuple[Any, ...] | Range) -> int | float:
    if not isinstance(values, Range):
        return len(values)
    return int(values.high - values.low) + 1 if _is_whole(name, values) else math.inf

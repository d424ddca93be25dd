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
ROUND = 10
"""Settings that are trained together before a sampler that learns from them suggests the next."""
DIGITS = 3
"""Significant digits of a drawn number, so that it can be read and typed again."""


def next_points(search: Search, tried: Mapping[Point, float | None], number: int) -> list[Point]:
    """Settings to try after others: drawn at random, or where Optuna expects the best.

    Args:
        search: Lists, ranges, seed and sampler.
        tried: Settings that were tried, in order -> their validation score; None where they gave none.
        number: How many are wanted; fewer come where there are no more.
    """
    if search.sampler == "random" or len(tried) < ROUND:
        points = draw_points(search, len(tried) + number)
        return [point for point in points if point not in tried][:number]
    return _suggest(search, tried, number)


def _suggest(search: Search, tried: Mapping[Point, float | None], number: int) -> list[Point]:
    """Settings that Optuna's tree-structured Parzen estimator suggests for a history; the same for the same one."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(name, values) for name, values in sorted(search.settings.items())}
    sampler = optuna.samplers.TPESampler(seed=search.seed + len(tried), n_startup_trials=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for point, score in tried.items():
        if score is not None:
            known = {name: _encoded(search.settings[name], value) for name, value in point}
            study.add_trial(optuna.trial.create_trial(params=known, distributions=space, value=score))
    points: dict[Point, None] = {}
    for _ in range(MAX_DRAWS):
        if len(points) == number:
            break
        asked = study.ask(space).params
        point = tuple((name, _decoded(name, search.settings[name], asked[name])) for name in space)
        if point not in tried:
            points.setdefault(point)
    return list(points)


def _distribution(name: str, values: tuple[Any, ...] | Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))  # by position: a value may be of any type
    if _is_whole(name, values):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _encoded(values: tuple[Any, ...] | Range, value: Any) -> Any:
    return value if isinstance(values, Range) else values.index(value)


def _decoded(name: str, values: tuple[Any, ...] | Range, asked: Any) -> Any:
    return _rounded(asked, values, _is_whole(name, values)) if isinstance(values, Range) else values[asked]


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
    return _rounded(value, bounds, whole)


def _rounded(value: float, bounds: Range, whole: bool) -> int | float:
    return min(max(round(value) if whole else float(f"{value:.{DIGITS}g}"), bounds.low), bounds.high)


def _is_whole(name: str, bounds: Range) -> bool:
    """Whether a setting is a whole number; the catalog has checked that both bounds are values of it."""
    return isinstance(getattr(Training.model_validate({name: bounds.low}), name), int)


def _size(name: str, values: tuple[Any, ...] | Range) -> int | float:
    if not isinstance(values, Range):
        return len(values)
    return int(values.high - values.low) + 1 if _is_whole(name, values) else math.inf

"""The number per sample that sentiment models are trained on: the release's, or one that stands in for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SENTIMENTS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}
VALENCE_SCALE = (1.0, 5.0)
VALENCE_MARGIN = 0.5
"""How far means of votes lie beyond their scale in releases; a column that goes farther has another scale."""
POLARITY = {
    **dict.fromkeys(("happy", "excited"), 1.0),
    **dict.fromkeys(("neutral", "surprise"), 0.0),
    **dict.fromkeys(("sad", "fear", "disgust", "angry", "frustrated"), -1.0),
}
"""What stands in where a release has neither: the sign that its class has as a sentiment."""


def regression_labels(
    natives: Sequence[Mapping[str, Any]], emotions: Sequence[str | None]
) -> tuple[str, list[float | None]]:
    """One number per sample of one corpus, and what it is.

    The first that any sample has: `sentiment` as released (words as -1, 0 and 1), `valence` from 1 to 5 as -1 to 1,
    the polarity of the class.

    Args:
        natives: Native annotation fields of every sample; the case of their names does not matter.
        emotions: The single class, or null.
    """
    sentiments = [_sentiment(_field(native, "sentiment")) for native in natives]
    if any(value is not None for value in sentiments):
        return "sentiment", sentiments
    valences = [_number(_field(native, "valence")) for native in natives]
    known = [value for value in valences if value is not None]
    low, high = VALENCE_SCALE
    if known and low - VALENCE_MARGIN <= min(known) and max(known) <= high + VALENCE_MARGIN:
        middle, half = (low + high) / 2, (high - low) / 2
        return "valence", [None if v is None else (min(max(v, low), high) - middle) / half for v in valences]
    return "polarity of the class", [None if emotion is None else POLARITY.get(emotion) for emotion in emotions]


def _field(native: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in native.items() if key.lower() == name), None)


def _sentiment(value: Any) -> float | None:
    word = value.strip().lower() if isinstance(value, str) else value
    return SENTIMENTS[word] if isinstance(word, str) and word in SENTIMENTS else _number(word)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

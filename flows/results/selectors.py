"""What `loss=plain,modalities=audio,text` means: selectors over the settings of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merloco.pipelines.errors import UsageError

SHORT = {"features": "feature_set", "seeds": "seed"}
"""Names of options on the command line that differ from the setting's."""
EXAMPLE = "expected an experiment, a run, or settings such as loss=plain or modalities=audio,text"


def parse_name(name: str) -> tuple[str | None, dict[str, list[str]]]:
    """`loco,loss=plain,modalities=audio,text` -> `loco`, {loss: [plain], modalities: [audio, text]}.

    Raises:
        UsageError: It is empty, or a part of it is.
    """
    own: str | None = None
    selectors: dict[str, list[str]] = {}
    for part in (part.strip() for part in name.split(",")):
        key, separator, value = (text.strip() for text in part.partition("="))
        if not key or (separator and not value):
            raise UsageError(f"{name!r} names no system: {EXAMPLE}")
        if separator:
            selectors.setdefault(SHORT.get(key, key), []).append(value)
        elif selectors:
            selectors[next(reversed(selectors))].append(part)
        elif own is not None:
            raise UsageError(f"{name!r} names two systems: give them as two words, {own} and {part}")
        else:
            own = part
    return own, selectors


def matches(value: Any, wanted: Sequence[str]) -> bool:
    """Whether a value is what the command line says: one of several, of a list all."""
    if isinstance(value, (list, tuple)):
        return {str(item) for item in value} == {text for text in wanted if text != "none"}
    return any(_same(value, text) for text in wanted)


def _same(value: Any, text: str) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return value_text(value) == text


def value_text(value: Any) -> str:
    """A value as a selector is written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within a setting get a name with a dot."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        flat |= flatten_settings(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def differing_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Setting -> its distinct values, for the settings in which some mappings differ."""
    differing = {}
    for key in dict.fromkeys(key for one in settings for key in one):
        values = list(dict.fromkeys(value_text(one.get(key)) for one in settings))
        if len(values) > 1:
            differing[key] = values
    return differing

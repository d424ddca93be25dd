"""Patterns of file names: `Actor_{speaker}/{modality}-{label}-{speaker}.wav`.

`{field}` is one or more characters up to the next literal, never a `/`; `{field:letters}` and `{field:digits}` are what
they say, `{field:2}` is two characters. A field that stands twice has the same value both times. A pattern that begins
with `**/` fits at any depth below the root; one without an ending takes any media file. Case counts in fields only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS

ANYWHERE = "**/"
MODALITY = "modality"
"""Field that tells files of one utterance apart: it is no part of the utterance's name."""
_FIELD = re.compile(r"\{([^{}]*)\}")
_SPEC = re.compile(r"([A-Za-z_]\w*)(?::(letters|digits|[1-9]\d?))?", re.ASCII)
_KINDS = {None: "[^/]+?", "letters": r"[^\W\d_]+", "digits": "[0-9]+"}
_AROUND = "-_. "
"""What separates a field from its neighbours in a name."""


class Match(NamedTuple):
    """What a path says by a pattern."""

    fields: dict[str, str]
    name: tuple[str, ...]
    """The parts of the path that have fields, without the ending and the field `modality`."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that can be matched."""

    text: str
    fields: tuple[str, ...]
    _regex: re.Pattern[str]
    _varying: tuple[bool, ...]
    """Whether each part of the path has a field, from the last one."""

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            ValueError: It is none; the sentence says what is wrong with it.
        """
        anywhere = text.startswith(ANYWHERE)
        below = text.removeprefix(ANYWHERE)
        if not below or below.startswith("/") or "\\" in below or ".." in below.split("/") or "*" in below:
            raise ValueError(
                f"pattern {text!r}: expected a path below the root, with '/' between folders and '**/' in front at most"
            )
        fields: dict[str, None] = {}
        parts, position, adjacent = [], 0, False
        for found in _FIELD.finditer(below):
            literal = _literal(below[position : found.start()], text)
            spec = _SPEC.fullmatch(found[1])
            if spec is None:
                raise ValueError(
                    f"pattern {text!r}: {found[0]}: expected a name, or name:letters, name:digits or name:2"
                )
            name, kind = spec[1], spec[2]
            if adjacent and not literal:
                raise ValueError(
                    f"pattern {text!r}: nothing stands between {found[0]} and the field before it: say how the first "
                    "one ends, as :letters, :digits or a number of characters"
                )
            parts.append(re.escape(literal))
            expression = _KINDS.get(kind, f"[^/]{{{kind}}}")
            # The value of a field keeps its case: only literals are found in any.
            parts.append(f"(?-i:(?P={name}))" if name in fields else f"(?-i:(?P<{name}>{expression}))")
            fields[name] = None
            position, adjacent = found.end(), kind is None
        parts.append(re.escape(_literal(below[position:], text)))
        if not fields:
            raise ValueError(f"pattern {text!r} has no field: expected names in braces, such as {{label}}")
        if not below.lower().endswith((*VIDEO_ENDINGS, *AUDIO_ENDINGS)):
            parts.append("(?:" + "|".join(map(re.escape, (*VIDEO_ENDINGS, *AUDIO_ENDINGS))) + ")")
        regex = re.compile(("(?:.*/)?" if anywhere else "") + "".join(parts), re.IGNORECASE)
        return cls(text, tuple(fields), regex, tuple("{" in part for part in reversed(below.split("/"))))

    def match(self, path: str) -> Match | None:
        """Match a path relative to the root; null where it does not fit."""
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        stem = path[: path.rindex(".")]
        if MODALITY in self.fields:
            first, last = found.span(MODALITY)
            while last < len(stem) and stem[last] in _AROUND:
                last += 1
            stem = stem[:first] + stem[last:]
        parts = stem.split("/")[-len(self._varying) :]
        kept = [part.strip(_AROUND) for part, varies in zip(parts, reversed(self._varying), strict=True) if varies]
        return Match(found.groupdict(), tuple(part for part in kept if part))


def _literal(literal: str, text: str) -> str:
    if "{" in literal or "}" in literal:
        raise ValueError(f"pattern {text!r}: a brace without its other one")
    return literal

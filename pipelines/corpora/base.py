"""Corpus parsers: one module per corpus, registered by name.

A parser reads a release folder and returns samples and row errors. It never raises for a bad row: a mangled line
costs that line, and its file and number stay in the audit.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.samples.schema import Sample

BUILTIN = tuple(f"merloco.pipelines.corpora.{name}" for name in ("iemocap.parser", "meld", "mosei.parser", "afew"))
LINE_ONLY = frozenset({"bad_vote", "bad_transcript"})
"""Codes of damaged lines that cost a vote or a text; the row itself is a sample all the same."""


@dataclass(frozen=True, slots=True)
class RowError:
    """One annotation row that did not become a sample, or one damaged line beside a row, and why."""

    code: str
    """Named reason, for example `bad_row`, `overlap_turn`, `no_interval`; `LINE_ONLY` codes cost no row."""
    file: str
    """Path relative to the corpus root."""
    line: int
    """Line number from 1; 0 where the file as a whole is meant."""
    message: str
    """What was found and what was expected."""


def duplicate(file: str, line: int, name: str, first: tuple[str, int]) -> RowError:
    """The error of another row of what `name` says; the `first`, by file and line (0: a whole file), stays."""
    where = f"{first[0]}:{first[1]}" if first[1] else first[0]
    return RowError("duplicate_row", file, line, f"{name} is also in {where}: that one is kept; expected it once")


@dataclass(slots=True)
class Parsed:
    """What a parser found: every usable row as a sample, every other row and every damaged line as an error."""

    samples: list[Sample] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the audit, for example files without an annotation row."""

    @property
    def left_out(self) -> list[RowError]:
        """Rows that did not become a sample."""
        return [error for error in self.errors if error.code not in LINE_ONLY]

    @property
    def damaged(self) -> list[RowError]:
        """Lines that cost a vote or a text, but no row."""
        return [error for error in self.errors if error.code in LINE_ONLY]

    @property
    def found(self) -> int:
        """Annotation rows seen: samples plus rows left out."""
        return len(self.samples) + len(self.left_out)


Parser = Callable[[CorpusEntry, Path], Parsed]
_PARSERS: dict[str, Parser] = {}


def register_parser(name: str) -> Callable[[Parser], Parser]:
    """Register a function `(entry, root) -> Parsed` as the parser that catalog entries call by `name`."""

    def decorate(parser: Parser) -> Parser:
        _PARSERS[name] = parser
        return parser

    return decorate


def parse_corpus(name: str, entry: CorpusEntry, root: Path) -> Parsed:
    """Parse one corpus release; a root that holds annotations but no media is accepted.

    Raises:
        DataError: The root is missing, holds no annotation at all, or cannot be read.
        UsageError: No parser of that name is registered.
    """
    for module in BUILTIN:
        importlib.import_module(module)
    if entry.parser not in _PARSERS:
        raise UsageError(f"corpus {name!r} asks for parser {entry.parser!r}: {suggest(entry.parser, _PARSERS)}")
    if not root.is_dir():
        raise DataError(f"corpus {name!r}: root {str(root)!r} is not a folder; expected the unpacked release there")
    try:
        return _PARSERS[entry.parser](entry, root)
    except OSError as error:
        raise DataError(f"corpus {name!r}: {error.filename or str(root)!r} cannot be read: {error.strerror}") from None

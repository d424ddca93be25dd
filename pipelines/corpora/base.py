"""Corpus parsers: one module per corpus, registered by name.

A parser reads a release folder and returns samples and row errors. It never raises for a bad row: a mangled line
costs that line, and its file and number stay in the audit.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ValidationError

from merloco.pipelines.catalog.entries import CorpusEntry, Entry
from merloco.pipelines.catalog.problems import first_problem
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.plugins import find_plugged, installed
from merloco.pipelines.samples.schema import Sample

BUILTIN = {
    "iemocap": "merloco.pipelines.corpora.iemocap.parser",
    "meld": "merloco.pipelines.corpora.meld",
    "mosei": "merloco.pipelines.corpora.mosei.parser",
    "afew": "merloco.pipelines.corpora.afew",
    "table": "merloco.pipelines.corpora.table.parser",
}
"""Parser -> the module that registers it."""
ENTRY_POINTS = "merloco.corpora"
"""Group of entry points by which an installed package brings parsers: `name = "package.module:parse"`."""
LINE_ONLY = frozenset({"bad_vote", "bad_transcript", "bad_time", "bad_path", "no_label"})
"""Codes of damaged lines that cost a vote, a text, a time, media or a label; the row is a sample all the same."""
NEAR_TOTAL = 0.99
"""Share of a release's rows that is not worth a note."""


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
    return RowError(
        "duplicate_row", file, line, f"{name} is also in {_place(first)}: that one is kept; expected it once"
    )


def disagreement(
    file: str, line: int, name: str, first: tuple[str, int], what: str, there: object, here: object
) -> str:
    """The sentence on two rows of what `name` says that differ: which one is right, only their owner knows."""
    where = f"{_place((file, line))}: {name} is also in {_place(first)}"
    return f"{where} with another {what}, {there!r:.60} there and {here!r:.60} here: expected one row, or equal ones"


def _place(place: tuple[str, int]) -> str:
    return f"{place[0]}:{place[1]}" if place[1] else place[0]


@dataclass(slots=True)
class Parsed:
    """What a parser found: every usable row as a sample, every other row and every damaged line as an error."""

    samples: list[Sample] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the audit, for example files without an annotation row."""
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Sample id -> file and line of its row, where rows have lines: for messages on labels that no map knows."""
    total: str = ""
    """How many of the release's rows there are, where that is far from all."""
    varying: tuple[str, ...] = ("label", "split")
    """Columns of the samples table that the corpus annotates: one that is null or the same everywhere is a finding."""

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

    def add_reading(self, file: str, remarks: list[str]) -> None:
        """Note how a table was read that stands in another form than the release's."""
        if remarks:
            self.notes.append(f"{file}: {'; '.join(remarks)}")


def compare_total(parsed: Parsed, release: Mapping[str, int], what: str) -> None:
    """Say how many of a release's rows there are, where that is far from all: scores do not compare.

    Args:
        parsed: The rows that were found.
        release: Part -> rows of the release.
        what: What the rows are.
    """
    total = sum(release.values())
    if not NEAR_TOTAL * total <= parsed.found <= total / NEAR_TOTAL:
        parsed.total = f"{parsed.found:,} of the release's {total:,} {what}"


class NoOptions(Entry):
    """The options of a parser that has none."""


Parse = Callable[[CorpusEntry, Path, Any], Parsed]
"""`parse(entry, root, options)`; the options are an instance of the model that the parser declares."""
P = TypeVar("P", bound=Parse)


class Parser(NamedTuple):
    """A registered parser."""

    parse: Parse
    options: type[BaseModel]
    """What the catalog's `options` of its corpora may hold."""


_PARSERS: dict[str, Parser] = {}


def register_parser(name: str, options: type[BaseModel] | None = None) -> Callable[[P], P]:
    """Register a function `(entry, root, options) -> Parsed` as the parser that catalog entries call by `name`.

    Args:
        name: What a catalog writes under `parser`.
        options: The model of what it writes under `options`; None takes the annotation of the third parameter.

    Raises:
        UsageError: Another module has registered a parser of that name, or the function takes other arguments.
    """

    def decorate(parse: P) -> P:
        other = _PARSERS[name].parse.__module__ if name in _PARSERS else BUILTIN.get(name, parse.__module__)
        if other != parse.__module__:
            raise UsageError(f"parser {name!r} is {other}'s already: register it under another name")
        _PARSERS[name] = Parser(parse, options or _declared_options(parse))
        return parse

    return decorate


def _declared_options(parse: Parse) -> type[BaseModel]:
    parameters = inspect.signature(parse).parameters
    try:
        inspect.signature(parse).bind(None, None, None)
        model = get_type_hints(parse).get(list(parameters)[2])
    except (TypeError, NameError, IndexError) as error:
        where = f"{parse.__module__}:{getattr(parse, '__qualname__', parse)}"
        raise UsageError(f"parser {where}: expected a function (entry, root, options): {error}") from None
    return model if isinstance(model, type) and issubclass(model, BaseModel) else NoOptions


def find_parser(name: str) -> Parser:
    """Look a parser up by its name, or by a dotted path `module:function`; only the module that has it is imported.

    Raises:
        DataError: The function is not where the dotted path or an entry point says.
        UsageError: No such parser; the sentence names the nearest one.
    """
    if name in BUILTIN:
        importlib.import_module(BUILTIN[name])
    if name not in _PARSERS:
        found = find_plugged(name, ENTRY_POINTS)
        if found is None:
            raise UsageError(f"unknown parser {name!r}: {suggest(name, parser_names())}")
        _register_found(name, found)
    return _PARSERS[name]


def _register_found(name: str, parse: Parse) -> None:
    """Register a function under the name by which a catalog asks for it, with the options it was registered with."""
    known = next((parser for parser in _PARSERS.values() if parser.parse is parse), None)
    register_parser(name, known.options if known else None)(parse)


def parser_names() -> list[str]:
    """Names of all parsers: built in, registered by plugins, and brought by installed packages."""
    return sorted({*BUILTIN, *_PARSERS, *installed(ENTRY_POINTS)})


def read_options(entry: CorpusEntry) -> BaseModel:
    """The options of a corpus as its parser takes them, defaults filled in.

    Raises:
        DataError: An option is wrong; a catalog that was loaded has none such.
        UsageError: No parser of that name is registered.
    """
    model = find_parser(entry.parser).options
    try:
        return model.model_validate(entry.options)
    except ValidationError as error:
        raise DataError(f"parser {entry.parser!r}: {first_problem(error, model, ('options',))[1]}") from None


def parse_corpus(name: str, entry: CorpusEntry, root: Path) -> Parsed:
    """Parse one corpus release; a root that holds annotations but no media is accepted.

    Raises:
        DataError: The root is missing, holds no annotation at all, or cannot be read; or an option is wrong.
        UsageError: No parser of that name is registered.
    """
    options = read_options(entry)
    if not root.is_dir():
        raise DataError(f"corpus {name!r}: root {str(root)!r} is not a folder; expected the unpacked release there")
    try:
        return find_parser(entry.parser).parse(entry.named(name), root, options)
    except OSError as error:
        raise DataError(f"corpus {name!r}: {error.filename or str(root)!r} cannot be read: {error.strerror}") from None

"""Options of corpora: each parser declares its own, and a catalog's are checked against them when it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.problems import Location, first_problem, known_keys
from merloco.pipelines.corpora.base import BUILTIN, find_parser
from merloco.pipelines.errors import DataError, suggest


def option_problems(catalog: Catalog) -> Iterator[tuple[Location, str]]:
    """Corpora whose options their parser does not take: where, and the sentence.

    A built-in parser is looked up only for options that are there: to load four takes longer than a query.
    """
    for name, entry in catalog.corpora.items():
        if not entry.options and entry.parser in BUILTIN:
            continue
        place = ("corpora", name, "options")
        try:
            model = find_parser(entry.parser).options
        except DataError as error:
            yield ("corpora", name, "parser"), f"corpora.{name}.parser: {error}"
            continue
        problem = model_problem(model, entry.options, place, f"parser {entry.parser}")
        if problem:
            yield problem


def model_problem(
    model: type[BaseModel], values: dict[str, Any], place: Location, taker: str
) -> tuple[Location, str] | None:
    """The first problem of some options: where it is, and the sentence; None if they are what their model takes.

    Args:
        model: What is taken; a plugin's may be any pydantic model, also one that ignores keys it does not know.
        values: The options.
        place: Where in the catalog they stand.
        taker: Who takes them, for the sentence.
    """
    known = known_keys(model)
    unknown = [key for key in values if key not in known and key not in model.model_fields]
    if unknown and model.model_config.get("extra") != "allow":
        where = (*place, unknown[0])
        if not known:
            return where, f"unknown key {'.'.join(map(str, where))!r}: the {taker} has no options"
        return where, f"unknown key {'.'.join(map(str, where))!r} of the {taker}: {suggest(unknown[0], known)}"
    try:
        model.model_validate(values)
    except ValidationError as error:
        return first_problem(error, model, place)
    return None


def misplaced_option(raw: dict[str, Any], location: Location) -> str | None:
    """What to say of a key beside `options` that belongs into them; None if it does not.

    Args:
        raw: The content of the catalog file.
        location: Where an unknown key is.
    """
    if len(location) != 3 or location[0] != "corpora" or location[2] in CorpusEntry.model_fields:
        return None
    _, name, key = location
    parser = raw["corpora"][name].get("parser")
    try:
        known = known_keys(find_parser(parser).options) if isinstance(parser, str) else []
    except DataError:
        return None
    if key not in known:
        return None
    return f"key 'corpora.{name}.{key}' is an option of the parser {parser}: expected it in corpora.{name}.options"

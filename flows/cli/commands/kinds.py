"""The command kinds: parsers and encoders that a catalog can name, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from merloco.flows.cli.console import show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption

COLUMNS = ("what", "name", "from", "about", "option", "type", "default", "meaning")


def kinds(catalog: CatalogOption = CATALOG, output: FormatOption = "table") -> None:
    """List parsers and encoders: where they come from, and every option with its type, default and meaning.

    Plugins of the catalog, dotted paths that it names and what installed packages bring are among them.
    Example: merloco kinds --format csv
    """
    import pyarrow as pa

    from merloco.features.catalog import load_catalog, own_or_builtin

    load_catalog(own_or_builtin(catalog))
    rows = list(_rows())
    show(pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in COLUMNS}), output)


def _rows() -> Iterator[dict[str, str | None]]:
    """A row per option, and one of a kind that has none."""
    from merloco.features.encoders import ENTRY_POINTS, encoder_kinds, find_encoder, parameter_model
    from merloco.models.encoders.base import BUILTIN as ENCODERS
    from merloco.models.errors import ModelError
    from merloco.pipelines.corpora import base
    from merloco.pipelines.errors import DataError

    for name in base.parser_names():
        row: dict[str, str | None] = {"what": "parser", "name": name}
        try:
            parser = base.find_parser(name)
        except DataError as error:  # an installed package that is broken hides no other kind
            yield row | {"from": base.ENTRY_POINTS, "about": str(error)}
            continue
        row |= {"from": _source(name, parser.parse, base.BUILTIN, base.ENTRY_POINTS), "about": _about(parser.parse)}
        yield from _with_options(row, parser.options)
    for kind in encoder_kinds():
        row = {"what": "encoder", "name": kind}
        try:
            encoder = find_encoder(kind)
        except ModelError as error:
            yield row | {"from": ENTRY_POINTS, "about": str(error)}
            continue
        row |= {"from": _source(kind, encoder.factory, ENCODERS, ENTRY_POINTS), "about": _about(encoder.factory)}
        yield from _with_options(row, parameter_model(encoder.parameters))


def _source(name: str, thing: Any, builtin: dict[str, str], group: str) -> str:
    from merloco.pipelines.plugins import installed

    if name in builtin:
        return "built in"
    return f"entry point {installed(group)[name].value}" if name in installed(group) else f"plugin {thing.__module__}"


def _about(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _with_options(row: dict[str, str | None], model: type[BaseModel]) -> Iterator[dict[str, str | None]]:
    for name, field in model.model_fields.items():
        yield row | {
            "option": field.alias or name,
            "type": inspect.formatannotation(field.annotation),
            "default": "required" if field.is_required() else repr(field.get_default(call_default_factory=True)),
            "meaning": " ".join((field.description or "").split()) or None,
        }
    if not model.model_fields:
        yield row

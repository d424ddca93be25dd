"""Encoders of a catalog: looked up by kind, dotted path or entry point; parameters checked as declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, create_model

from merloco.models.encoders.base import BUILTIN, ModelError, Registered, register_encoder, registered, registered_kinds
from merloco.pipelines.catalog.entries import EncoderEntry, Entry
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.options import model_problem
from merloco.pipelines.catalog.problems import Location
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.plugins import find_plugged, installed

ENTRY_POINTS = "merloco.encoders"
"""Group of entry points by which an installed package brings encoders: `kind = "package.module:Class"`."""


def find_encoder(kind: str) -> Registered:
    """Look an encoder up by its kind, by a dotted path `module:Class`, or among those of installed packages.

    Raises:
        ModelError: No such encoder, or it is not where the path or the entry point says.
    """
    if kind not in registered_kinds():
        try:
            found = find_plugged(kind, ENTRY_POINTS)
        except DataError as error:
            raise ModelError(f"encoder kind {kind!r}: {error}") from None
        if found is None:
            raise ModelError(f"unknown encoder kind {kind!r}: {suggest(kind, encoder_kinds())}")
        register_encoder(kind)(found)
    return registered(kind)


def encoder_kinds() -> list[str]:
    """All kinds: built in, registered by plugins, and brought by installed packages."""
    return sorted({*registered_kinds(), *installed(ENTRY_POINTS)})


def encoder_problems(catalog: Catalog) -> Iterator[tuple[Location, str]]:
    """Encoders of a catalog that are not there, or do not take their parameters: where, and the sentence."""
    for name, entry in catalog.encoders.items():
        if entry.parameters or entry.kind not in BUILTIN:  # what needs no look is not imported
            yield from _problems(name, entry)


def _problems(name: str, entry: EncoderEntry) -> Iterator[tuple[Location, str]]:
    place = ("encoders", name)
    try:
        encoder = find_encoder(entry.kind)
    except ModelError as error:
        yield (*place, "kind"), f"encoders.{name}.kind: {error}"
        return
    modality = getattr(encoder.factory, "modality", entry.modality)
    if modality != entry.modality:
        yield (*place, "modality"), f"encoders.{name}.modality: {entry.kind} is of {modality}: expected that"
    model = parameter_model(encoder.parameters)
    problem = model_problem(model, entry.parameters, (*place, "parameters"), f"encoder {entry.kind}")
    if problem:
        yield problem


def parameter_model(declared: Mapping[str, Any] | type[Any]) -> type[BaseModel]:
    """Declared parameters as a model: a default says the type, and one that is None takes anything."""
    if not isinstance(declared, Mapping):
        return declared
    fields: dict[str, Any] = {
        name: (Any if default is None or isinstance(default, (tuple, list, dict)) else type(default), default)
        for name, default in declared.items()
    }
    return create_model("Parameters", __base__=Entry, **fields)

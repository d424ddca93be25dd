"""Fusion networks that training settings name: looked up by name, dotted path or entry point, options checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from merloco.features.encoders import parameter_model
from merloco.models.errors import ModelError
from merloco.models.fusion.networks.base import (
    GATED,
    SHARED,
    RegisteredFusion,
    register_fusion,
    registered_fusion,
    registered_fusions,
)
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.options import model_problem
from merloco.pipelines.catalog.problems import Location
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.plugins import find_plugged, installed

ENTRY_POINTS = "merloco.fusions"
"""Group of entry points by which an installed package brings networks: `name = "package.module:Class"`."""


def find_fusion(name: str) -> RegisteredFusion:
    """Look a network up by its name, by a dotted path `module:Class`, or among those of installed packages.

    Raises:
        ModelError: No such network, or it is not where the path or the entry point says.
    """
    if name not in registered_fusions():
        try:
            found = find_plugged(name, ENTRY_POINTS)
        except DataError as error:
            raise ModelError(f"fusion {name!r}: {error}") from None
        if found is None:
            raise ModelError(f"unknown fusion {name!r}: {suggest(name, fusion_names())}")
        register_fusion(name)(found)
    return registered_fusion(name)


def fusion_names() -> list[str]:
    """All networks: built in, registered by plugins, and brought by installed packages."""
    return sorted({*registered_fusions(), *installed(ENTRY_POINTS)})


def options_model(fusion: RegisteredFusion) -> type[BaseModel]:
    """What `fusion_options` may hold."""
    declared = fusion.options
    if not isinstance(declared, Mapping):
        return declared
    return parameter_model({name: value for name, value in declared.items() if name not in SHARED})


def settings_problem(settings: Training, place: Location = ()) -> tuple[Location, str] | None:
    """What is wrong with the network of some training settings: where, and the sentence; None if nothing is.

    Args:
        settings: The settings.
        place: Where in the catalog they stand.
    """
    name, options = settings.fusion, settings.fusion_options
    if name == GATED and not options:  # what needs no look is not imported
        return None
    where = (*place, "fusion_options")
    try:
        fusion = find_fusion(name)
    except ModelError as error:
        return (*place, "fusion"), f"{'.'.join(map(str, (*place, 'fusion')))}: {error}"
    for shared in (option for option in options if option in SHARED):
        path = ".".join(map(str, (*where, shared)))
        return (*where, shared), f"{path}: expected the setting {shared!r} beside fusion_options"
    return model_problem(options_model(fusion), options, where, f"fusion {name}")


def fusion_problems(catalog: Catalog) -> Iterator[tuple[Location, str]]:
    """Networks of a catalog that are not there, or do not take their options: where, and the sentence."""
    for name, settings in catalog.training.items():
        problem = settings_problem(settings, ("training", name))
        if problem:
            yield problem
    for name, experiment in catalog.experiments.items():
        base = catalog.training.get(experiment.feature_sets[0], Training()).model_dump()
        problem = settings_problem(
            Training.model_validate({**base, **experiment.training}), ("experiments", name, "training")
        )
        if problem:
            yield problem

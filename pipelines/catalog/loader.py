"""catalog.yaml -> frozen models. Unknown keys fail with the nearest known key; environment variables give roots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merloco.pipelines.catalog.consistency import contradictions
from merloco.pipelines.catalog.kept import is_kept
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.options import misplaced_option, option_problems
from merloco.pipelines.catalog.plugin_modules import PluginError, load_plugins
from merloco.pipelines.catalog.problems import Location, first_problem
from merloco.pipelines.catalog.registered import add_registered_encoders
from merloco.pipelines.catalog.source import read_source
from merloco.pipelines.errors import DataError

Check = Callable[[Catalog], Iterable[tuple[Location, str]]]
"""Gives what is wrong with a catalog: where, and the sentence."""


def load_catalog(path: str | Path, store: str | Path | None = None, checks: Sequence[Check] = ()) -> Catalog:
    """Read and check a catalog file, and add the encoders that its store brings along (`catalog.registered`).

    Args:
        path: The YAML file. `${NAME}` and `${NAME:-default}` are taken from the environment, as text.
        store: The store folder in use; None is the catalog's own.
        checks: Further checks, of what this package does not know.

    Raises:
        DataError: The file is missing, is not YAML, has an unknown key or a wrong value, or entries that contradict
            each other.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"catalog {str(path)!r} not found: run merloco in the workspace, name the file with --catalog, "
            "or make one with `merloco init`"
        )
    kept = store is not None and is_kept(path, Path(store))
    source = read_source(path, list(Catalog.model_fields), expand=not kept)
    raw = source.raw
    written = _copy(raw)
    try:
        load_plugins(raw)
    except PluginError as error:
        if not kept:  # a store answers where the modules of its maker are not
            raise DataError(f"{source.place(error.location)}: {error}") from None
    named = raw.get("store", Catalog.model_fields["store"].default)
    if store or isinstance(named, str):  # another store name is an error, which the check below finds
        raw = add_registered_encoders(raw, Path(store or named))
    try:
        catalog = Catalog.model_validate(raw)
    except ValidationError as error:
        location, sentence = first_problem(error, Catalog)
        sentence = misplaced_option(raw, location) or sentence
        raise DataError(f"{source.place(location)}: {sentence}") from None
    for check in (contradictions, *(() if kept else (option_problems, *checks))):
        for location, sentence in check(catalog):
            raise DataError(f"{source.place(location)}: {sentence}")
    return catalog.read_from(path, written)


def _copy(value: Any) -> Any:
    """A copy of plain values that a later change of these leaves as it is."""
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value

"""catalog.yaml -> frozen models. Unknown keys fail with the nearest known key; environment variables give roots."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merloco.pipelines.catalog.consistency import contradictions
from merloco.pipelines.catalog.document import read_document
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.options import misplaced_option, option_problems
from merloco.pipelines.catalog.problems import Location, first_problem
from merloco.pipelines.catalog.registered import add_registered_encoders
from merloco.pipelines.errors import DataError
from merloco.pipelines.plugins import import_plugin, make_importable

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


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
            f"catalog {str(path)!r} not found: run merloco in the workspace, or name the file with --catalog"
        )
    document = read_document(path)
    if not isinstance(document.value, dict):
        raise DataError(f"{path}: expected a mapping with the keys {', '.join(Catalog.model_fields)}")
    raw = _expand(document.value)
    for location, sentence in _plugin_problems(raw, path.absolute().parent):
        raise DataError(f"{path}:{document.line(location)}: {sentence}")
    named = raw.get("store", Catalog.model_fields["store"].default)
    if store or isinstance(named, str):  # another store name is an error, which the check below finds
        raw = add_registered_encoders(raw, Path(store or named))
    try:
        catalog = Catalog.model_validate(raw)
    except ValidationError as error:
        location, sentence = first_problem(error, Catalog)
        sentence = misplaced_option(raw, location) or sentence
        raise DataError(f"{path}:{document.line(location)}: {sentence}") from None
    for location, sentence in chain.from_iterable(
        check(catalog) for check in (contradictions, option_problems, *checks)
    ):
        raise DataError(f"{path}:{document.line(location)}: {sentence}")
    return catalog


def _plugin_problems(raw: dict[str, Any], folder: Path) -> Iterator[tuple[Location, str]]:
    """Import the plugins; what cannot be imported: where, and the sentence."""
    plugins = raw.get("plugins")
    sections = (("corpora", "parser"), ("encoders", "kind"))
    entries = [(raw.get(section), key) for section, key in sections]
    paths = [
        str(entry.get(key))
        for section, key in entries
        for entry in (section.values() if isinstance(section, dict) else ())
        if isinstance(entry, dict)
    ]
    if plugins or any(":" in path for path in paths):
        make_importable(folder)
    for i, name in enumerate(plugins if isinstance(plugins, tuple) else ()):
        try:
            if isinstance(name, str):  # another type is the check's to say
                import_plugin(name, folder)
        except DataError as error:
            yield ("plugins", i), f"plugins: {error}"


def _expand(value: Any) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or (m[2] or ""), value)
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_expand(item) for item in value)
    return value

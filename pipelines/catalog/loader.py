"""catalog.yaml -> frozen models. Unknown keys fail with the nearest known key; environment variables give roots."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merloco.pipelines.catalog.consistency import contradictions
from merloco.pipelines.catalog.document import read_document
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.options import misplaced_option, option_problems
from merloco.pipelines.catalog.problems import first_problem
from merloco.pipelines.catalog.registered import add_registered_encoders
from merloco.pipelines.errors import DataError

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def load_catalog(path: str | Path, store: str | Path | None = None) -> Catalog:
    """Read and check a catalog file, and add the encoders that its store brings along (`catalog.registered`).

    Args:
        path: The YAML file. `${NAME}` and `${NAME:-default}` are taken from the environment, as text.
        store: The store folder in use; None is the catalog's own.

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
    named = raw.get("store", Catalog.model_fields["store"].default)
    if store or isinstance(named, str):  # another store name is an error, which the check below finds
        raw = add_registered_encoders(raw, Path(store or named))
    try:
        catalog = Catalog.model_validate(raw)
    except ValidationError as error:
        location, sentence = first_problem(error, Catalog)
        sentence = misplaced_option(raw, location) or sentence
        raise DataError(f"{path}:{document.line(location)}: {sentence}") from None
    for location, sentence in chain(contradictions(catalog), option_problems(catalog)):
        raise DataError(f"{path}:{document.line(location)}: {sentence}")
    return catalog


def _expand(value: Any) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or (m[2] or ""), value)
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_expand(item) for item in value)
    return value

"""A catalog as commands load it: which one, and checked with its encoders and fusion networks."""

from __future__ import annotations

import os
from pathlib import Path

from merloco.features.encoders import encoder_problems
from merloco.features.fusions import fusion_problems
from merloco.pipelines.catalog import loader
from merloco.pipelines.catalog.kept import differences, kept_path
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.source import BUILTIN
from merloco.pipelines.errors import DataError


def default_catalog() -> str:
    """The catalog that commands and scripts use where none is named: `MERLOCO_CATALOG`, or the one in this folder."""
    return os.environ.get("MERLOCO_CATALOG", "catalog.yaml")


def own_or_builtin(path: str) -> str:
    """The catalog for what needs none of one's own: merloco's where the default one is not there."""
    return path if path != default_catalog() or Path(path).is_file() else str(BUILTIN)


def load_catalog(path: str | Path, store: str | Path | None = None) -> Catalog:
    """Read and check a catalog file (`merloco.pipelines.catalog.loader.load_catalog`), with encoders and networks.

    Where the default one is not there, the catalog counts that the store keeps.

    Raises:
        DataError: There is neither, or the catalog is wrong.
    """
    if str(path) == default_catalog() and not Path(path).is_file() and store is not None:
        path = kept_path(Path(store))
        if not path.is_file():
            raise DataError(
                f"no {default_catalog()} in this folder, and the store {str(store)!r} keeps none (one that is older "
                "does not): name the catalog that it was built with by --catalog"
            )
    return loader.load_catalog(path, store, checks=[encoder_problems, fusion_problems])


def kept_differences(catalog: Catalog, store: Path) -> list[str]:
    """What a catalog says otherwise than the one that the store was last built with."""
    try:
        kept = loader.load_catalog(kept_path(store), store)
    except DataError:  # none is kept, or a newer merloco's
        return []
    return differences(catalog, kept)

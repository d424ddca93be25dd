"""A catalog as commands load it: what the file says is checked, encoders and their parameters included."""

from __future__ import annotations

from pathlib import Path

from merloco.features.encoders import encoder_problems
from merloco.pipelines.catalog import loader
from merloco.pipelines.catalog.model import Catalog


def load_catalog(path: str | Path, store: str | Path | None = None) -> Catalog:
    """Read and check a catalog file (see `merloco.pipelines.catalog.loader.load_catalog`), encoders included."""
    return loader.load_catalog(path, store, checks=[encoder_problems])

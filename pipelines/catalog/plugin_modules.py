"""The plugins of a catalog are imported when it is loaded, those of dotted paths when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.problems import Location
from merloco.pipelines.errors import DataError
from merloco.pipelines.plugins import import_plugin, make_importable


class PluginError(DataError):
    """A plugin cannot be imported."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location
        """Where in the catalog it is named."""


def load_plugins(raw: dict[str, Any]) -> None:
    """Import the plugins of a catalog's content, which is not yet checked.

    Raises:
        PluginError: One cannot be imported; the others are.
    """
    folders = [Path(folder) for folder in _texts(raw.get("plugin_folders"))]
    for folder in folders:
        make_importable(folder)
    problem = None
    for i, name in enumerate(_texts(raw.get("plugins"))):
        try:
            import_plugin(name, folders)
        except DataError as error:
            problem = problem or PluginError(("plugins", i), f"plugins: {error}")
    if problem:
        raise problem


def _texts(value: Any) -> list[str]:
    """The texts of a list; what else stands there is the check's to say."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, tuple) else []

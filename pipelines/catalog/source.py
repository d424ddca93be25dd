"""The content of a catalog: its file, those that it extends, and where in them a value stands."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.document import Document, read_document
from merloco.pipelines.catalog.problems import Location
from merloco.pipelines.errors import DataError

BUILTIN = Path(__file__).with_name("builtin.yaml")
"""The catalog that comes with merloco."""
BUILTIN_NAME = "merloco"
"""What `extends` calls it."""
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Source:
    """What a catalog says after `extends`, with variables filled in, and the files that say it, the named one first."""

    raw: dict[str, Any]
    documents: tuple[tuple[Path, Document], ...]

    def place(self, location: Location) -> str:
        """`file:line` of a value, or of the innermost one around it; of two files that have it the first counts."""
        found = [(*document.place(location), path) for path, document in self.documents]
        _, line, path = max(found, key=lambda item: item[0])  # the first of equals
        return f"{path}:{line}"


def read_source(path: Path, keys: list[str], expand: bool = True) -> Source:
    """Read a catalog file and those that it extends.

    Args:
        path: The YAML file.
        keys: What a catalog may have at its top, for the sentence on a file that has nothing of it.
        expand: Fill in variables of the environment.

    Raises:
        DataError: A file is missing, is not YAML or no mapping, or extends itself.
    """
    documents: list[tuple[Path, Document]] = []
    raw = _read(path, keys, documents, expand)
    return Source(raw, tuple(documents))


def _read(path: Path, keys: list[str], documents: list[tuple[Path, Document]], expand: bool) -> dict[str, Any]:
    document = read_document(path)
    documents.append((path, document))
    if not isinstance(document.value, dict):
        raise DataError(f"{path}: expected a mapping with the keys {', '.join(keys)}")
    raw: dict[str, Any] = _expand(document.value) if expand else document.value
    if raw.get("plugins") or _dotted_paths(raw):
        folders = raw.get("plugin_folders")
        raw["plugin_folders"] = (*(folders if isinstance(folders, tuple) else ()), str(path.absolute().parent))
    if "extends" not in raw:
        return raw
    where = f"{path}:{document.place(('extends',))[1]}: extends"
    name = raw.pop("extends")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: expected {BUILTIN_NAME}, or a file")
    base = BUILTIN if name == BUILTIN_NAME else path.parent / name
    if not base.is_file():
        raise DataError(f"{where}: {str(base)!r} not found: expected {BUILTIN_NAME}, or a file beside this one")
    if any(base.samefile(read) for read, _ in documents):
        raise DataError(f"{where}: {name!r} comes back to a file that is read already: expected no circle")
    return _merge(_read(base, keys, documents, expand), raw)


def _dotted_paths(raw: dict[str, Any]) -> bool:
    """Whether a file names a parser or an encoder as `module:attribute`."""
    sections = ((raw.get("corpora"), "parser"), (raw.get("encoders"), "kind"))
    return any(
        isinstance(entry, dict) and ":" in str(entry.get(key))
        for section, key in sections
        for entry in (section.values() if isinstance(section, dict) else ())
    )


_UNITED = ("plugins", "plugin_folders")
"""Lists of which a file adds to the extended one's."""


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Mappings by key; every other value replaces the extended file's, and null removes it."""
    merged = dict(base)
    for key, value in own.items():
        if value is None and key in merged:
            del merged[key]
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        elif key in _UNITED and isinstance(value, tuple) and isinstance(merged.get(key), tuple):
            merged[key] = tuple(dict.fromkeys((*merged[key], *value)))
        else:
            merged[key] = value
    return merged


def _expand(value: Any) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or (m[2] or ""), value)
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_expand(item) for item in value)
    return value

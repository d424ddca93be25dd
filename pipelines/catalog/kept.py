"""The catalog that a store keeps of its last build: with it the store can be opened from anywhere.

It is the whole of it: what was extended is in it, variables are filled in, paths are absolute. Encoders that the store
brings along are not in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.document import document_text
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.files.atomic import atomic_path

KEPT_FILE = "catalog.yaml"
_HEAD = "# The catalog that this store was last built with, written by merloco: change the one that you build with.\n"
_PATHS = ("detector_checkpoint", "config", "tokenizer")
"""Parameters of encoders that are files."""
_LEFT_ALONE = ("root", "about", "checkpoint")
"""Keys that change where something is or how it is described, not what it means."""


def kept_path(store: Path) -> Path:
    """Where a store keeps its catalog."""
    return store / KEPT_FILE


def is_kept(path: Path, store: Path) -> bool:
    """Whether a catalog is the one that a store keeps."""
    return path.absolute() == kept_path(store).absolute()


def keep_catalog(catalog: Catalog, store: Path) -> None:
    """Keep a catalog that was read from a file, where it is another one than the store has."""
    path = kept_path(store)
    if catalog.file is None or is_kept(catalog.file, store):
        return
    text = _HEAD + document_text(_anywhere(catalog.written))
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _anywhere(written: dict[str, Any]) -> dict[str, Any]:
    """The content with paths that mean the same in every folder, and without the store's own."""
    content = {key: value for key, value in written.items() if key != "store"}
    for section, keys in (("corpora", ("root",)), ("encoders", ("checkpoint",))):
        content[section] = {name: _absolute(entry, keys) for name, entry in content[section].items()}
    for entry in content["encoders"].values():
        if "parameters" in entry:
            entry["parameters"] = _absolute(entry["parameters"], _PATHS)
    return content


def _absolute(entry: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {
        key: os.path.abspath(value) if key in keys and isinstance(value, str) and value else value
        for key, value in entry.items()
    }


def differences(catalog: Catalog, kept: Catalog) -> list[str]:
    """What a catalog says otherwise than the one that a store keeps, where both say something: `views.prosody.step`."""
    found = [] if catalog.label_order == kept.label_order else ["label_order"]
    for section in ("corpora", "encoders", "views", "feature_sets", "training"):
        ours, theirs = getattr(catalog, section), getattr(kept, section)
        for name in [name for name in ours if name in theirs]:
            fields = [key for key in type(ours[name]).model_fields if key not in _LEFT_ALONE]
            found += [f"{section}.{name}.{key}" for key in fields if _differ(ours[name], theirs[name], key)]
    return found


def _differ(one: Any, other: Any, key: str) -> bool:
    if key == "parameters":
        one, other = ({k: v for k, v in e.parameters.items() if k not in _PATHS} for e in (one, other))
        return bool(one != other)
    return bool(getattr(one, key) != getattr(other, key))

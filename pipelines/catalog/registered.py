"""Encoders that a store brings along: what fine-tuning made, as additions to the catalog.

    <store>/encoders/<name>/weights/        the checkpoint, as the encoder's class reads it
    <store>/encoders/<name>/encoder.json    written last: the entries it adds to the catalog, and how it came about

Paths in encoder.json are relative to its folder, so that a store can be moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from merloco.pipelines.catalog.entries import EncoderEntry, ViewEntry
from merloco.pipelines.errors import DataError, nearest
from merloco.pipelines.files.formats import write_json

FRAGMENT = "encoder.json"
PATH_PARAMETERS = ("detector_checkpoint",)
"""Parameters of encoders that are files, beside `checkpoint`."""


class Fragment(BaseModel):
    """What one fine-tuned encoder adds: an encoder and a view of its folder's name, and its place in a feature set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderEntry
    view: ViewEntry
    feature_set: str
    """The set that it belongs to."""
    like: str
    """The feature set of the catalog from which that one differs in fine-tuned views alone."""
    about: dict[str, Any]
    """How it came about: base, corpus, settings, learning curve."""


def encoder_folder(store: Path, name: str) -> Path:
    """Where a fine-tuned encoder lies."""
    return store / "encoders" / name


def write_fragment(store: Path, name: str, fragment: Fragment) -> Path:
    """Make an encoder known: the last step of its making."""
    path = encoder_folder(store, name) / FRAGMENT
    write_json(path, fragment.model_dump(mode="json", exclude_defaults=True))
    return path


def read_fragment(path: Path) -> Fragment:
    """Read one fragment.

    Raises:
        DataError: It is not one.
    """
    try:
        fragment = Fragment.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not UTF-8 text"}
        where = ".".join(str(part) for part in problem["loc"])
        raise DataError(f"{path}: not a fine-tuned encoder: {where or 'file'}: {problem['msg']}") from None
    named = [fragment.encoder.checkpoint, *(fragment.encoder.parameters.get(name) for name in PATH_PARAMETERS)]
    for file in filter(None, named):
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(f"{path}: {file!r}: expected a path inside the folder")
    return fragment


def read_fragments(store: Path) -> dict[str, Fragment]:
    """Name -> fragment of every finished encoder of a store, sorted by name."""
    return {path.parent.name: read_fragment(path) for path in sorted((store / "encoders").glob(f"*/{FRAGMENT}"))}


def add_fragments(raw: dict[str, Any], store: Path) -> dict[str, Any]:
    """Add a store's encoders, views and feature sets to the content of a catalog file.

    Args:
        raw: The catalog's content, not yet checked; not changed.
        store: The store folder.

    Raises:
        DataError: A fragment is broken, or does not go with the catalog: a name is taken, or a feature set or corpus
            that it builds on is not there.
    """
    found = read_fragments(store)
    sections = ("encoders", "views", "feature_sets", "training")
    if not found or not all(isinstance(raw.get(name, {}), dict) for name in sections):
        return raw  # a malformed section is the catalog's own error, reported by its check
    merged = {**raw, **{name: dict(raw.get(name) or {}) for name in sections}}
    for name, fragment in _in_order(found, set(merged["feature_sets"])):
        path = encoder_folder(store, name) / FRAGMENT
        _check(raw, merged, name, fragment, path)
        merged["encoders"][name] = _with_paths(fragment.encoder, path.parent)
        merged["views"][name] = fragment.view.model_dump(exclude_defaults=True)
        own = merged["feature_sets"].get(fragment.feature_set, merged["feature_sets"][fragment.like])
        merged["feature_sets"][fragment.feature_set] = {**own, fragment.encoder.modality: name}
        if fragment.like in merged["training"]:
            merged["training"][fragment.feature_set] = merged["training"][fragment.like]
    return merged


def _in_order(found: dict[str, Fragment], sets: set[str]) -> list[tuple[str, Fragment]]:
    """Fragments by name, but after those that make the feature set which they build on."""
    ordered: list[tuple[str, Fragment]] = []
    pending = list(found.items())
    while pending:
        ready = [item for item in pending if item[1].like in sets] or pending  # what is left misses its feature set
        ordered += ready
        sets |= {fragment.feature_set for _, fragment in ready}
        pending = [item for item in pending if item not in ready]
    return ordered


def _check(raw: dict[str, Any], merged: dict[str, Any], name: str, fragment: Fragment, path: Path) -> None:
    taken = [
        f"{what} {item!r}"
        for what, section, item in (
            ("encoder", "encoders", name),
            ("view", "views", name),
            ("feature set", "feature_sets", fragment.feature_set),
        )
        if item in (raw.get(section) or {})
    ]
    if taken:
        raise DataError(f"{path}: the catalog has its own {' and '.join(taken)}: rename it there, or move this folder")
    if fragment.like not in merged["feature_sets"]:
        sets = nearest(fragment.like, merged["feature_sets"])
        raise DataError(f"{path}: the catalog has no feature set {fragment.like!r} to build on: {sets}")
    unknown = [corpus for corpus in fragment.encoder.trained_on if corpus not in (raw.get("corpora") or {})]
    if unknown:
        raise DataError(f"{path}: trained on {unknown[0]!r}, which the catalog does not know")
    base = merged["feature_sets"][fragment.like].get(fragment.encoder.modality)
    other = merged["feature_sets"].get(fragment.feature_set, {}).get(fragment.encoder.modality, base)
    if other != base:
        raise DataError(
            f"{path}: feature set {fragment.feature_set!r} has {other!r} for {fragment.encoder.modality} already: "
            "change `feature_set` in one of them"
        )


def _with_paths(entry: EncoderEntry, folder: Path) -> dict[str, Any]:
    """The entry as a catalog would write it, its files found from the working folder."""
    written = entry.model_dump(mode="json", exclude_defaults=True)
    if entry.checkpoint:
        written["checkpoint"] = str(folder / entry.checkpoint)
    files = {name: str(folder / entry.parameters[name]) for name in PATH_PARAMETERS if entry.parameters.get(name)}
    if files:
        written["parameters"] = {**entry.parameters, **files}
    return written

"""Encoders that a store brings along: what fine-tuning made, as additions to the catalog.

    <store>/encoders/<name>/weights/        the checkpoint, as the encoder's class reads it
    <store>/encoders/<name>/encoder.json    written last: the entries it adds to the catalog, and how it came about

Paths in encoder.json are relative to its folder, so that a store can be moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from merloco.pipelines.catalog.entries import EncoderEntry, Entry, ViewEntry
from merloco.pipelines.errors import DataError, suggest
from merloco.pipelines.files.formats import write_json

ENCODER_FILE = "encoder.json"
PATH_PARAMETERS = ("detector_checkpoint",)
"""Parameters of encoders that are files, beside `checkpoint`."""


class RegisteredEncoder(Entry):
    """What one fine-tuned encoder adds: an encoder and a view of its folder's name, and its place in a feature set."""

    encoder: EncoderEntry
    view: ViewEntry
    feature_set: str
    base_feature_set: str = Field(alias="like")
    """The feature set of the catalog from which `feature_set` differs in fine-tuned views alone."""
    description: dict[str, Any] = Field(alias="about")
    """How it came about: base, corpus, settings, learning curve."""


def encoder_folder(store: Path, name: str) -> Path:
    """Where a fine-tuned encoder lies."""
    return store / "encoders" / name


def write_registered_encoder(store: Path, name: str, encoder: RegisteredEncoder) -> Path:
    """Make an encoder known: the last step of its making."""
    path = encoder_folder(store, name) / ENCODER_FILE
    write_json(path, encoder.model_dump(mode="json", exclude_defaults=True, by_alias=True))
    return path


def read_registered_encoder(path: Path) -> RegisteredEncoder:
    """Read one `encoder.json`; raises `DataError` where it is none."""
    try:
        registered = RegisteredEncoder.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not UTF-8 text"}
        where = ".".join(str(part) for part in problem["loc"])
        raise DataError(f"{path}: not a fine-tuned encoder: {where or 'file'}: {problem['msg']}") from None
    entry = registered.encoder
    for file in filter(None, (entry.checkpoint, *(entry.parameters.get(name) for name in PATH_PARAMETERS))):
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise DataError(f"{path}: {file!r}: expected a path inside the folder")
    return registered


def registered_encoders(store: Path) -> dict[str, RegisteredEncoder]:
    """Name -> entries of every finished encoder of a store, sorted by name."""
    paths = sorted((store / "encoders").glob(f"*/{ENCODER_FILE}"))
    return {path.parent.name: read_registered_encoder(path) for path in paths}


def add_registered_encoders(raw: dict[str, Any], store: Path) -> dict[str, Any]:
    """The content of a catalog file (not yet checked, not changed) with a store's encoders, views and feature sets.

    Raises:
        DataError: An encoder.json is broken, or does not go with the catalog: a name is taken, or a feature set or
            corpus that it builds on is not there.
    """
    encoders = registered_encoders(store)
    sections = ("encoders", "views", "feature_sets", "training")
    if not encoders or not all(isinstance(raw.get(name, {}), dict) for name in sections):
        return raw  # a malformed section is the catalog's own error, reported by its check
    merged = {**raw, **{name: dict(raw.get(name) or {}) for name in sections}}
    feature_sets, training = merged["feature_sets"], merged["training"]
    for name, registered in _in_order(encoders, set(feature_sets)):
        path = encoder_folder(store, name) / ENCODER_FILE
        _check(raw, feature_sets, name, registered, path)
        own, base = registered.feature_set, registered.base_feature_set
        merged["encoders"][name] = _with_paths(registered.encoder, path.parent)
        merged["views"][name] = registered.view.model_dump(exclude_defaults=True)
        feature_sets[own] = {**feature_sets.get(own, feature_sets[base]), registered.encoder.modality: name}
        if base in training:
            training[own] = training[base]
    return merged


def _in_order(encoders: dict[str, RegisteredEncoder], sets: set[str]) -> list[tuple[str, RegisteredEncoder]]:
    """Encoders by name, but after those that make the feature set which they build on."""
    ordered: list[tuple[str, RegisteredEncoder]] = []
    pending = list(encoders.items())
    while pending:
        ready = [item for item in pending if item[1].base_feature_set in sets] or pending  # the rest misses its set
        ordered += ready
        sets |= {registered.feature_set for _, registered in ready}
        pending = [item for item in pending if item not in ready]
    return ordered


def _check(
    raw: dict[str, Any], feature_sets: dict[str, Any], name: str, registered: RegisteredEncoder, path: Path
) -> None:
    own, base, entry = registered.feature_set, registered.base_feature_set, registered.encoder
    names = (("encoder", "encoders", name), ("view", "views", name), ("feature set", "feature_sets", own))
    existing = [f"{what} {item!r}" for what, section, item in names if item in (raw.get(section) or {})]
    if existing:
        raise DataError(
            f"{path}: the catalog has its own {' and '.join(existing)}: rename it there, or move this folder"
        )
    if base not in feature_sets:
        known = suggest(base, feature_sets)
        raise DataError(f"{path}: the catalog has no feature set {base!r} to build on: {known}")
    unknown = [corpus for corpus in entry.trained_on if corpus not in (raw.get("corpora") or {})]
    if unknown:
        raise DataError(f"{path}: trained on {unknown[0]!r}, which the catalog does not know")
    base_view = feature_sets[base].get(entry.modality)
    view = feature_sets.get(own, {}).get(entry.modality, base_view)
    if view != base_view:
        raise DataError(
            f"{path}: feature set {own!r} has {view!r} for {entry.modality} already: "
            "change `feature_set` in one of them"
        )


def _with_paths(entry: EncoderEntry, folder: Path) -> dict[str, Any]:
    """The entry as a catalog would write it, its files found from the working folder."""
    written = entry.model_dump(exclude_defaults=True)
    if entry.checkpoint:
        written["checkpoint"] = str(folder / entry.checkpoint)
    files = {name: str(folder / entry.parameters[name]) for name in PATH_PARAMETERS if entry.parameters.get(name)}
    if files:
        written["parameters"] = {**entry.parameters, **files}
    return written

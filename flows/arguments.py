"""What the texts of options and flow parameters mean: lists, devices, roots of corpora, maps, training settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.document import read_value
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.catalog.loader import Catalog
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.samples.audit import read_audit


def split_list(value: str | None) -> list[str] | None:
    """`a,b` -> [a, b], each once; None stays None.

    Raises:
        UsageError: The list names nothing, for example because a shell variable was empty.
    """
    if value is None:
        return None
    parts = list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not parts:
        raise UsageError(f"{value!r} names nothing: expected a comma-separated list, or leave the option out for all")
    return parts


def find_device(name: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        UsageError: No such device here.
    """
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if torch.backends.mps.is_available():
        known.append("mps")
    if name not in known:
        raise UsageError(f"no device {name!r} here: {suggest(name, known)}")
    return name


def device_list(value: str) -> list[str]:
    """The devices of this machine that `--device` names: `cuda` is every GPU, `auto` every GPU or else the CPU.

    Raises:
        UsageError: A device is unknown, or this machine does not have it.
    """
    names = split_list(value) or []
    if set(names) == {"cpu"}:
        return ["cpu"]
    import torch

    there = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if names == ["auto"]:
        return there or ["cpu"]
    if names == ["cuda"] and there:
        return there
    for name in names:
        if name not in there:
            raise UsageError(
                f"--device {value!r}: this machine has no {name!r}: expected auto or {', '.join(['cpu', *there])}"
            )
    return names


def parse_roots(values: list[str] | None, catalog: Catalog) -> dict[str, str]:
    """`CORPUS=FOLDER` options as a mapping; folders become absolute, so that they mean the same from everywhere.

    Raises:
        UsageError: An option is not written so, or the catalog has no such corpus.
    """
    roots = {}
    for name, folder in _pairs("--root", values, "CORPUS=FOLDER", "meld=data/MELD.Raw"):
        catalog.corpus(name)
        roots[name] = os.path.abspath(folder)
    return roots


def parse_maps(values: list[str] | None, catalog: Catalog) -> dict[str, str]:
    """`CORPUS=MAP` options as a mapping.

    Raises:
        UsageError: An option is not written so, or the catalog has no such corpus or map.
    """
    maps = {}
    for name, label_map in _pairs("--map", values, "CORPUS=MAP", "iemocap=six"):
        known = catalog.corpus(name).maps
        if label_map not in known:
            raise UsageError(f"--map {name}={label_map}: unknown map: {suggest(label_map, known)}")
        maps[name] = label_map
    return maps


def parse_settings(values: list[str] | None, **named: Any) -> dict[str, Any]:
    """`KEY=VALUE` options as training settings; values are written as in a catalog.

    Args:
        values: What `--set` says; `fusion_options.hidden=64` sets one option of the network.
        **named: Settings that have options of their own; None where they are not given.

    Raises:
        UsageError: An option is not written so, or a setting is given twice.
    """
    settings = {name: value for name, value in named.items() if value is not None}
    for key, text in _pairs("--set", values, "KEY=VALUE", "weight_decay=0.1"):
        name, _, option = key.partition(".")
        if name not in Training.model_fields:
            raise UsageError(f"--set {key}={text}: unknown training setting: {suggest(name, Training.model_fields)}")
        try:
            value = read_value(text)
        except DataError as error:
            raise UsageError(f"--set {key}={text}: {error}") from None
        into = settings.setdefault(name, {}) if option else settings
        if (option or name) in into:
            raise UsageError(f"--set {key}={text}: {key} is given twice")
        into[option or name] = value
    return settings


def _pairs(option: str, values: list[str] | None, form: str, example: str) -> Iterator[tuple[str, str]]:
    for value in values or ():
        name, separator, content = value.partition("=")
        if not separator or not name or not content:
            raise UsageError(f"{option} {value!r}: expected {form}, for example {option} {example}")
        yield name, content


def existing_roots(values: list[str] | None, catalog: Catalog) -> dict[str, str]:
    """The same for commands that need the releases; an ingest says what is not there corpus by corpus.

    Raises:
        UsageError: See `parse_roots`.
        DataError: A root is not a folder.
    """
    roots = parse_roots(values, catalog)
    for name, folder in roots.items():
        require_root(name, Path(folder))
    return roots


def require_root(name: str, root: Path) -> None:
    """Raise `DataError` unless the root of a corpus is a folder: a disk may be unmounted, a release moved."""
    if not root.is_dir():
        raise DataError(
            f"corpus {name!r}: root {str(root)!r} is not a folder: mount it, or give --root {name}=FOLDER where the "
            "release lies now"
        )


def corpus_root(catalog: Catalog, name: str, roots: Mapping[str, str], store: Path | None = None) -> Path:
    """Where a corpus lies: the command line, the catalog (environment), then where it was ingested from.

    Args:
        catalog: The catalog.
        name: The corpus.
        roots: Corpus -> folder, as the command line says.
        store: Root of the store that holds its samples; None where it is about to be ingested.

    Returns:
        An absolute path; of an ingested corpus, a folder that is there.

    Raises:
        DataError: None of them says, or the root of an ingested corpus is not a folder.
    """
    entry = catalog.corpus(name)
    found = roots.get(name) or entry.root
    if not found and store is not None:
        found = read_audit(store, name).root
    if not found:
        raise DataError(
            f"corpus {name!r} has no root: set {name.upper()}_ROOT to the unpacked release, "
            f"or give --root {name}=FOLDER"
        )
    root = Path(os.path.abspath(found))
    if store is not None:
        require_root(name, root)
    return root

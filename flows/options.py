"""Options that commands share, and what they turn into."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from features.store import FeatureStore, default_catalog
from flows.console import Format
from pipelines.catalog import Catalog, load_catalog
from pipelines.errors import DataError, UsageError, nearest
from pipelines.schema import MODALITIES

CatalogOption = Annotated[
    str, typer.Option("--catalog", envvar="MERLOCO_CATALOG", help="Catalog file.", show_default="catalog.yaml")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Feature store folder.", show_default="from the catalog")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How tables are printed.")]
CorporaOption = Annotated[
    str | None, typer.Option("--corpora", help="Comma-separated corpora.", show_default="all that are ingested")
]
FeaturesOption = Annotated[str, typer.Option("--features", help="Feature set of the catalog.")]
ModalitiesOption = Annotated[
    str | None, typer.Option("--modalities", help="Comma-separated: audio, video, text.", show_default="all")
]
RootOption = Annotated[
    list[str] | None, typer.Option("--root", help="CORPUS=FOLDER, repeatable.", show_default="from the catalog")
]

DevicesOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda (every GPU), or a list: cuda:0,cuda:1. A shard at a time each.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ... or auto.")]

CATALOG = default_catalog()


def open_store(catalog: str, store: str | None, create: bool = False) -> FeatureStore:
    """Open the store that the options name."""
    return FeatureStore.open(store, load_catalog(catalog, store), create=create)


def next_command(*words: str, catalog: str, store: str | None) -> str:
    """A command that can be pasted into the same shell: it means the catalog and the store of this one.

    Args:
        words: The command without `merloco` and without these two options.
        catalog: As the option says; the default one is not repeated.
        store: As the option says; None is not repeated.
    """
    places = [*(["--store", store] if store else []), *(["--catalog", catalog] if catalog != CATALOG else [])]
    return shlex.join(["merloco", *words, *places])


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


def modality_list(value: str | None) -> list[str] | None:
    """Check the names of modalities; the field's order whatever the user's."""
    names = split_list(value)
    for name in names or ():
        if name not in MODALITIES:
            raise UsageError(f"unknown modality {name!r}: {nearest(name, MODALITIES)}")
    return None if names is None else [m for m in MODALITIES if m in names]


def parse_roots(values: list[str] | None, catalog: Catalog) -> dict[str, str]:
    """`CORPUS=FOLDER` options as a mapping; folders become absolute, so that they mean the same from everywhere.

    Raises:
        UsageError: An option is not written so, or the catalog has no such corpus.
    """
    roots = {}
    for value in values or ():
        name, separator, folder = value.partition("=")
        if not separator or not name or not folder:
            raise UsageError(f"--root {value!r}: expected CORPUS=FOLDER, for example --root meld=data/MELD.Raw")
        catalog.corpus(name)
        roots[name] = os.path.abspath(folder)
    return roots


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
        raise UsageError(f"no device {name!r} here: {nearest(name, known)}")
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

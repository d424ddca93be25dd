"""Options that commands share, and what they turn into."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from merloco.features.catalog import default_catalog, kept_differences, load_catalog
from merloco.features.store import FeatureStore
from merloco.flows.cli.console import Format, note
from merloco.pipelines.errors import DataError, first_names

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
    str | None,
    typer.Option(
        "--modalities",
        help="Comma-separated: audio, video, text; also views, where a modality has several.",
        show_default="all",
    ),
]
RootOption = Annotated[
    list[str] | None, typer.Option("--root", help="CORPUS=FOLDER, repeatable.", show_default="from the catalog")
]

DevicesOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda (every GPU), or a list: cuda:0,cuda:1. A shard at a time each.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ... or auto.")]

FlowOption = Annotated[bool, typer.Option("--flow/--no-flow", help="Run as a Prefect flow, or directly.")]
CorporaArgument = Annotated[
    list[str] | None, typer.Argument(help="Corpora.", show_default="all that are ingested", metavar="CORPORA")
]
MediaOption = Annotated[bool, typer.Option("--media", help="Open the media files too; minutes for a whole corpus.")]

CATALOG = default_catalog()


def open_store(catalog: str, store: str | None, create: bool = False) -> FeatureStore:
    """Open the store that the options name."""
    loaded = load_catalog(catalog, store)
    differing = kept_differences(loaded, Path(store or loaded.store))
    opened = FeatureStore.open(store, loaded, create=create)
    if differing:
        note(f"{loaded.file} counts, and differs from what the store was last built with: {first_names(differing)}")
    return opened


def next_command(*words: str, catalog: str, store: str | None) -> str:
    """A command that can be pasted into the same shell: it means the catalog and the store of this one.

    Args:
        words: The command without `merloco` and without these two options.
        catalog: As the option says; the default one is not repeated.
        store: As the option says; None is not repeated.
    """
    places = [*(["--store", store] if store else []), *(["--catalog", catalog] if catalog != CATALOG else [])]
    return shlex.join(["merloco", *words, *places])


def ingested_names(names: list[str]) -> list[str]:
    """The names as they are; raises `DataError` where there is none."""
    if not names:
        raise DataError("the store holds no samples: run `merloco ingest` first")
    return names

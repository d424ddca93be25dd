"""FeatureStore: one folder with samples, feature views and runs; it knows what is there and what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from merloco.features.catalog import default_catalog, load_catalog
from merloco.features.progress import RowProgress
from merloco.features.shards.commit import Commit, commits, read_commit, verify_files
from merloco.features.shards.format import MISSING, RETRYABLE, Shard, lost_media, plan_shards
from merloco.features.views import FeatureView, resolve_view
from merloco.pipelines.catalog.kept import keep_catalog
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.errors import DataError, UsageError
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.samples.schema import MODALITIES
from merloco.pipelines.samples.table import ingested, not_ingested, read_samples
from merloco.pipelines.samples.tombstones import read_tombstones

if TYPE_CHECKING:
    import duckdb

STORE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard of one view, and whether it has to be extracted."""

    view: FeatureView
    shard: Shard
    state: str
    """`done`, `missing`, `stale` (the samples changed since), `damaged` (a file is not the one that was committed),
    `lost` (done, but media that the ingest saw were not there) or `failed` (done, with rows worth a retry)."""
    commit: Commit | None


TO_DO = frozenset({"missing", "stale", "damaged", "lost"})
"""States of shards that an extraction makes without being asked to."""


class FeatureStore:
    """A feature store folder together with the catalog that gives its names a meaning."""

    root: Path
    catalog: Catalog

    def __init__(self, root: Path, catalog: Catalog) -> None:
        self.root = root
        self.catalog = catalog
        self._views: dict[str, FeatureView] = {}

    @classmethod
    def open(
        cls, root: str | Path | None = None, catalog: Catalog | str | Path | None = None, create: bool = False
    ) -> Self:
        """Open a store.

        Args:
            root: The store folder; None takes the catalog's.
            catalog: The catalog, or its file; None reads `default_catalog()`, else what the store keeps of the last one
                that it was built with.
            create: Make the store if it is not there.

        Raises:
            DataError: There is no store, or it was written with another label schema or store format.
        """
        if not isinstance(catalog, Catalog):
            catalog = load_catalog(catalog or default_catalog(), root)
        root = Path(root or catalog.store)
        path = root / "store.json"
        if not path.is_file():
            if not create:
                raise DataError(
                    f"no feature store at {str(root)!r}: run `merloco ingest` first, or name one with --store"
                )
            write_json(path, {"format": STORE_FORMAT, "label_order": list(catalog.label_order)})
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            order, version = description["label_order"], description["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not a store description ({error}): expected the keys format and label_order"
            ) from None
        if version != STORE_FORMAT:
            raise DataError(f"store {str(root)!r} has format {version}; this merloco reads format {STORE_FORMAT}")
        if order != list(catalog.label_order):
            raise DataError(
                f"store {str(root)!r} was made with the label order {', '.join(order)}; the catalog has "
                f"{', '.join(catalog.label_order)}: use another --store, or restore the catalog's label_order"
            )
        store = cls(root, catalog)
        if create:
            store.keep_catalog()
        return store

    def keep_catalog(self) -> None:
        """Keep the catalog in the store, so that it opens from any folder: what commands that build do first."""
        if os.access(self.root, os.W_OK):  # a build that finds everything done needs no more than to read
            with storage_errors(self.root):
                keep_catalog(self.catalog, self.root)

    def corpora(self, names: Iterable[str] | None = None) -> list[str]:
        """The ingested corpora, or the named ones after a check that they are in the catalog and ingested."""
        present = ingested(self.root)
        if names is None:
            return [name for name in self.catalog.corpora if name in present]
        names = list(names)
        for name in names:
            self.catalog.corpus(name)
            if name not in present:
                raise not_ingested(self.root, name)
        return names

    def samples(self, corpora: Iterable[str] | None = None) -> pa.Table:
        """Samples of some or all corpora, sorted by id within each corpus."""
        names = self.corpora(corpora)
        if not names:
            raise DataError(f"store {str(self.root)!r} holds no samples: run `merloco ingest` first")
        return pa.concat_tables(read_samples(self.root, name) for name in names)

    def view(self, name: str) -> FeatureView:
        """The feature view of a catalog name, resolved once (resolving hashes the encoder's weights)."""
        if name not in self._views:
            self._views[name] = resolve_view(self.catalog, name)
        return self._views[name]

    def folder(self, view: FeatureView) -> Path:
        """`store/views/<view>/<fingerprint>`."""
        return self.root / "views" / view.name / view.fingerprint

    def modality(self, folder: Path) -> str | None:
        """What a `views/<view>/<fingerprint>` reads: by its description, else by the catalog; None if neither says."""
        modality = None
        with suppress(OSError, ValueError, KeyError, TypeError):
            modality = json.loads((folder / "view.json").read_text(encoding="utf-8"))["definition"]["modality"]
        if modality in MODALITIES:
            return str(modality)
        name = folder.parent.name
        return self.catalog.modality(name) if name in self.catalog.views else None

    def views(self, feature_set: str, modalities: Sequence[str] | None = None) -> dict[str, FeatureView]:
        """Modality -> view of a feature set; where a modality has several views, the name of each -> the view.

        Args:
            feature_set: Its name.
            modalities: Those that are wanted; a view among several can be named by itself.

        Raises:
            UsageError: The feature set has no modality or view of a name.
        """
        entry = self.catalog.feature_set(feature_set)
        try:
            chosen = entry.views if modalities is None else entry.select(modalities)
        except UsageError as error:
            raise UsageError(f"feature set {feature_set!r}: {error}") from None
        return {name: self.view(view) for name, view in chosen.items()}

    def plan(
        self,
        views: Iterable[FeatureView],
        corpora: Iterable[str] | None = None,
        verify: RowProgress | None = None,
    ) -> list[PlannedShard]:
        """Every shard that the samples table asks for, with its state; a pure function of samples and store.

        With `verify`, which is called with 1 after every shard, the files' hashes are compared with their records, not
        only their sizes.
        """
        planned = []
        tables = {name: read_samples(self.root, name) for name in self.corpora(corpora)}

        @cache
        def corpus_shards(name: str, modality: str) -> list[Shard]:
            return self._plan_shards(name, tables[name], modality)

        for view in views:
            for name in tables:
                for shard in corpus_shards(name, view.modality):
                    commit = read_commit(self.folder(view), shard.name)
                    state = _state(self.folder(view), view.modality, shard, commit, verify is not None)
                    planned.append(PlannedShard(view, shard, state, commit))
                    if verify:
                        verify(1)
        return planned

    def planned_shards(self, modality: str) -> dict[str, Shard]:
        """Name -> shard, for every shard that the samples tables ask for."""
        shards = (self._plan_shards(name, read_samples(self.root, name), modality) for name in self.corpora())
        return {shard.name: shard for corpus_shards in shards for shard in corpus_shards}

    def _plan_shards(self, corpus: str, samples: pa.Table, modality: str) -> list[Shard]:
        return plan_shards(corpus, samples, modality, read_tombstones(self.root, corpus).samples)

    def committed(self, view: FeatureView, corpora: Iterable[str] | None = None) -> list[Commit]:
        """Commit records of a view, of some or all corpora."""
        wanted = None if corpora is None else set(corpora)
        return [c for c in commits(self.folder(view)) if wanted is None or c.corpus in wanted]

    def write_view_manifest(self, view: FeatureView) -> None:
        """Write `view.json` beside the shards: the definition that the fingerprint stands for."""
        path = self.folder(view) / "view.json"
        if not path.is_file():
            write_json(path, {"view": view.name, "fingerprint": view.fingerprint, "definition": view.definition})

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        """Run a query over samples, labels, feature views, shards, failures, runs, metrics and predictions.

        Args:
            query: The query; `?` or `$name` stand for parameters.
            params: Their values, a list or a mapping.

        Raises:
            DataError: The query is malformed or names something that is not there.
        """
        from merloco.features.query.sql import run_query

        return run_query(self, query, params)


def _state(folder: Path, modality: str, shard: Shard, commit: Commit | None, verify: bool) -> str:
    if commit is None:
        return "missing"
    if commit.inputs != shard.inputs:
        return "stale"
    if verify_files(folder, commit, verify):
        return "damaged"
    if lost_media(shard.samples, modality, commit.statuses.get(MISSING, 0)):
        return "lost"
    return "failed" if RETRYABLE & set(commit.statuses) else "done"

"""Ingest of one corpus: the body of an ingest task."""

from __future__ import annotations

from pathlib import Path

from merloco.features.catalog import load_catalog
from merloco.features.store import FeatureStore
from merloco.pipelines.samples.audit import Audit
from merloco.pipelines.samples.ingest import ingest_corpus


def ingest_one(catalog_path: str, store: str, name: str, root: str) -> Audit:
    """Ingest one corpus: the body of an ingest task."""
    catalog = load_catalog(catalog_path, store)
    opened = FeatureStore.open(store, catalog, create=True)
    return ingest_corpus(name, catalog.corpus(name), Path(root), opened.root)

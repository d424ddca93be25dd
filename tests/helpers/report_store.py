"""Stores to report on."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.store_files import CATALOG, extract_all, meld_samples

NASTY = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)> &amp; <b>bold</b>"


TRUTH = ("neutral", "happy", "sad", "angry")


def store_with_nasty_texts(root: Path, n: int = 100) -> FeatureStore:
    """A store whose every text is markup that would do harm, with the features of a text view."""
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    samples = [s if s.text is None else replace(s, text=f"{NASTY} {i}") for i, s in enumerate(meld_samples(n))]
    write_parquet(samples_path(root, "meld"), to_table(samples))
    extract_all(store)
    return store


def predicted(seed: int, right: float = 0.6, n: int = 100, corpus: str = "meld") -> dict[str, tuple[str, str]]:
    generator = np.random.default_rng(seed)
    rows = {}
    for i in range(n):
        truth = TRUTH[i % 4]
        said = truth if generator.random() < right else TRUTH[(i + 1) % 4]
        rows[f"{corpus}/train/dia{i // 5}_utt{i % 5}"] = truth, said
    return rows

"""Small corpora for tests of statistics, checks and label maps: samples tables with given counts, a store, media."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import merloco as run_merloco
from tests.helpers.store_files import CATALOG

MELD = Path(os.environ.get("MERLOCO_MELD") or CATALOG.parent.parent / "shared" / "meld")
needs_meld = pytest.mark.skipif(
    not (MELD / "train_sent_emo.csv").is_file(), reason="the MELD annotation files are absent: set MERLOCO_MELD"
)


def counted(corpus: str, counts: Mapping[str, Mapping[str, int]], **fields: object) -> list[Sample]:
    """Split -> native label -> number of samples; ids, dialogues and speakers are distinct per split."""
    return [
        Sample(
            f"{corpus}/{split}/{label}_{i}",
            corpus,
            split,
            label=label,
            **{"dialogue": f"{split}/{label}_{i}", **fields},
        )
        for split, labels in counts.items()
        for label, n in labels.items()
        for i in range(n)
    ]


def store_of(root: Path, *samples: Sample) -> FeatureStore:
    """A store with the shipped catalog and a samples table per corpus."""
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    for corpus in sorted({sample.corpus for sample in samples}):
        table = to_table(sample for sample in samples if sample.corpus == corpus)
        write_parquet(samples_path(root, corpus), table)
    return store


def meld_store(root: Path) -> FeatureStore:
    """The real MELD annotations, ingested without media."""
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    ingest_corpus("meld", store.catalog.corpus("meld"), MELD, root)
    return store


def merloco(capsys: pytest.CaptureFixture, store: FeatureStore | Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command on a store with the shipped catalog; exit code, standard output, standard error."""
    root = store.root if isinstance(store, FeatureStore) else store
    return run_merloco(capsys, *arguments, "--store", str(root), "--catalog", str(CATALOG))


def write_tone(path: Path, seconds: float, hertz: float = 220.0) -> Path:
    """A real wav file: a tone of 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * hertz * np.arange(round(16000 * seconds)) / 16000), 16000)
    return path

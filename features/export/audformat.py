"""`merloco export --to audformat`: the annotation of one corpus as an audformat database, one table per split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from merloco.features.cards.corpus import TERMS
from merloco.features.export.parquet import refuse_existing, rows_per_split
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_folder
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.tombstones import drop_rows, locked_tombstones

SPLIT_TYPES = {"train": "train", "val": "dev", "test": "test", "none": "other"}
"""Ours -> audformat's."""


def audformat_table(store: FeatureStore, corpus: str) -> pa.Table:
    """The samples that have a file: its path under the corpus root, the interval in it, and the annotation.

    Returns:
        file, start, end (duration; null to the end of the file), split, sample_id, emotion, speaker, dialogue, text.

    Raises:
        DataError: The corpus has no samples, or none has a file.
    """
    samples = store.samples([corpus])
    has_audio = samples["audio_path"].is_valid()

    def of_medium(field: str) -> pa.ChunkedArray:
        return pc.if_else(has_audio, samples[f"audio_{field}"], samples[f"video_{field}"])

    columns: dict[str, Any] = {
        "file": of_medium("path"),
        "start": _duration(pc.fill_null(of_medium("start"), 0.0)),
        "end": _duration(of_medium("end")),
        "split": samples["split"],
        "sample_id": samples["sample_id"],
        "emotion": apply_map(samples, corpus, store.catalog.corpus(corpus).active_map)["emotion"],
        **{name: samples[name] for name in ("speaker", "dialogue", "text")},
    }
    table = pa.table(columns)
    table = table.filter(table["file"].is_valid())
    if not table.num_rows:
        raise DataError(f"no sample of corpus {corpus!r} has a media file: `merloco ingest {corpus}` finds them")
    return table


def _duration(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.round(pc.multiply(seconds, 1e9)).cast(pa.int64()).cast(pa.duration("ns"))


def write_audformat(store: FeatureStore, corpus: str, folder: Path) -> dict[str, int]:
    """Write `db.yaml` and a table `emotion.<split>` per split; returns rows per split.

    The folder appears whole or not at all, without what was deleted since.

    Raises:
        DataError: See `audformat_table`.
    """
    refuse_existing(folder)
    table = audformat_table(store, corpus)
    with locked_tombstones(store.root) as deleted, atomic_folder(folder) as temporary:
        table = drop_rows(table, deleted.ids_in(table))
        counts = rows_per_split(table)
        header = _header(store, corpus, table, list(counts))
        text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
        (temporary / "db.yaml").write_text(text, encoding="utf-8")
        for split in counts:
            rows = table.filter(pc.equal(table["split"], split)).drop_columns("split")
            write_parquet(temporary / f"db.emotion.{SPLIT_TYPES[split]}.parquet", rows)
    return counts


def _header(store: FeatureStore, corpus: str, table: pa.Table, splits: list[str]) -> dict[str, Any]:
    columns = ("sample_id", "emotion", "speaker", "dialogue", "text")
    schemes: dict[str, Any] = {name: {"dtype": "str"} for name in columns}
    schemes["emotion"]["labels"] = list(store.catalog.corpus(corpus).active_map.classes)
    if speakers := pc.unique(table["speaker"]).drop_null().to_pylist():
        schemes["speaker"]["labels"] = sorted(speakers)
    kinds = [SPLIT_TYPES[split] for split in splits]
    return {
        "name": corpus,
        "source": "",
        "usage": "restricted",
        "languages": [],
        "description": f"Annotation of {corpus} under the label map {store.catalog.corpus(corpus).map!r}; files lie "
        f"under the corpus root. {TERMS}",
        "schemes": schemes,
        "splits": {kind: {"type": kind} for kind in kinds},
        "tables": {
            f"emotion.{kind}": {
                "type": "segmented",
                "split_id": kind,
                "columns": {name: {"scheme_id": name} for name in columns},
            }
            for kind in kinds
        },
    }

"""`merloco export audformat`: the annotation of one corpus as an audformat database, one table per split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from merloco.features.cards.corpus import TERMS
from merloco.features.export.parquet import SplitFiles, count_splits, in_order
from merloco.features.export.rows import refuse_existing
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_folder
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.tombstones import locked_tombstones

SPLIT_TYPES = {"train": "train", "val": "dev", "test": "test", "none": "other"}
"""Ours -> audformat's."""
INDEX = ("file", "start", "end")
SCHEMES = {
    "sample_id": "str",
    "emotion": "str",
    "speaker": "str",
    "dialogue": "str",
    "text": "str",
    "duration": "time",
}
"""Column -> audformat's name of its type; each column has a scheme of its own name."""
INTENSITY = "intensity."
"""Begins the columns of a corpus with several emotions at once: one per native name, as released."""


def audformat_table(store: FeatureStore, corpus: str) -> tuple[pa.Table, Counter[str]]:
    """The samples that have a file: its path under the corpus root, the interval in it, and the annotation.

    Returns:
        file, start, end (duration; null to the end of the file), split, the columns of `SCHEMES`, and those of
        intensities; and how many samples are not in it, by reason: an audformat table has a row per interval of a file.

    Raises:
        DataError: The corpus has no samples, or none has a file.
    """
    samples = store.samples([corpus])
    has_audio = samples["audio_path"].is_valid()

    def of_medium(field: str) -> pa.ChunkedArray:
        return pc.if_else(has_audio, samples[f"audio_{field}"], samples[f"video_{field}"])

    columns: dict[str, Any] = {
        "file": of_medium("path"),
        "start": _nanoseconds(pc.fill_null(of_medium("start"), 0.0)),
        "end": _nanoseconds(of_medium("end")),
        "split": samples["split"],
        "sample_id": samples["sample_id"],
        "emotion": apply_map(samples, corpus, store.catalog.corpus(corpus).active_map)["emotion"],
        **{name: samples[name] for name in ("speaker", "dialogue", "text")},
        "duration": _nanoseconds(samples["duration"]).cast(pa.duration("ns")),
        **_intensities(samples["intensities"]),
    }
    table = pa.table(columns)
    with_file = table.filter(table["file"].is_valid())
    if not with_file.num_rows:
        raise DataError(f"no sample of corpus {corpus!r} has a media file: `merloco ingest {corpus}` finds them")
    distinct = _first_of_each_interval(with_file)
    left_out = Counter(
        {
            "no media file": table.num_rows - with_file.num_rows,
            "the same interval as another sample": with_file.num_rows - distinct.num_rows,
        }
    )
    for name in ("start", "end"):
        place = distinct.schema.get_field_index(name)
        distinct = distinct.set_column(place, name, distinct[name].cast(pa.duration("ns")))
    return distinct, +left_out


def _nanoseconds(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.round(pc.multiply(seconds, 1e9)).cast(pa.int64())


def _intensities(column: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """A column of floats for every name that has an intensity anywhere; none for a corpus of single labels."""
    names = {name for chunk in column.chunks for name in pc.unique(chunk.keys).to_pylist()}
    return {f"{INTENSITY}{name}": pc.map_lookup(column, name, "first") for name in sorted(names)}


def _first_of_each_interval(table: pa.Table) -> pa.Table:
    numbered = table.select(INDEX).append_column("row", pa.array(range(table.num_rows), pa.int64()))
    first = numbered.group_by(INDEX, use_threads=False).aggregate([("row", "min")])["row_min"]
    return table.take(first.sort())


def write_audformat(store: FeatureStore, corpus: str, folder: Path) -> tuple[dict[str, int], Counter[str]]:
    """Write `db.yaml` and a table `emotion.<split>` per split.

    The folder appears whole or not at all. A deletion waits until it is written.

    Returns:
        Rows per split, and how many samples are not in it by reason.

    Raises:
        DataError: See `audformat_table`.
    """
    refuse_existing(folder)
    counts: Counter[str] = Counter()
    with locked_tombstones(store.root), atomic_folder(folder) as temporary:
        table, left_out = audformat_table(store, corpus)
        count_splits(counts, table)
        splits = in_order(counts)
        header = _header(store, corpus, table, [SPLIT_TYPES[split] for split in splits])
        (temporary / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False, allow_unicode=True), "utf-8")
        paths = {split: temporary / f"db.emotion.{kind}.parquet" for split, kind in SPLIT_TYPES.items()}
        with SplitFiles(paths, table.drop_columns("split").schema) as files:
            files.write(table)
    return splits, left_out


def _header(store: FeatureStore, corpus: str, table: pa.Table, kinds: list[str]) -> dict[str, Any]:
    intensities = [name for name in table.column_names if name.startswith(INTENSITY)]
    schemes: dict[str, Any] = {name: {"dtype": kind} for name, kind in SCHEMES.items()}
    schemes |= {name: {"dtype": "float"} for name in intensities}
    schemes["emotion"]["labels"] = list(store.catalog.corpus(corpus).active_map.classes)
    if speakers := pc.unique(table["speaker"]).drop_null().to_pylist():
        schemes["speaker"]["labels"] = sorted(speakers)
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
                "columns": {name: {"scheme_id": name} for name in schemes},
            }
            for kind in kinds
        },
    }

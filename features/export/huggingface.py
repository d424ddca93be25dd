"""`merloco export hf`: a folder that `datasets.load_dataset` reads, with a data card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from merloco.features.cards.corpus import ACCESS, TERMS
from merloco.features.export.citations import CITATIONS
from merloco.features.export.parquet import SplitFiles, count_splits, in_order
from merloco.features.export.rows import ExportRows, Selection, export_classes, refuse_existing
from merloco.features.progress import RowProgress
from merloco.features.store import FeatureStore
from merloco.pipelines.files.atomic import atomic_folder
from merloco.pipelines.samples.tombstones import locked_tombstones

HF_SPLITS = {"train": "train", "val": "validation", "test": "test", "none": "none"}
NO_CLASS = -1
"""What `ClassLabel` has for a row without a label."""


def write_hf(
    store: FeatureStore, selection: Selection, folder: Path, progress: RowProgress | None = None
) -> dict[str, int]:
    """Write `ExportRows` as one Parquet file per split, and a card; returns rows per split.

    `emotion` becomes a `ClassLabel` of the classes, and `val` is called `validation`, as everywhere on the hub. The
    folder appears whole or not at all. A deletion waits until it is written.

    Raises:
        DataError: See `ExportRows`.
    """
    refuse_existing(folder)
    counts: Counter[str] = Counter()
    with locked_tombstones(store.root), atomic_folder(folder) as temporary:
        rows = ExportRows(store, selection)
        (temporary / "data").mkdir()
        paths = {split: temporary / "data" / f"{name}.parquet" for split, name in HF_SPLITS.items()}
        with SplitFiles(paths, _schema(rows)) as files:
            for table in rows.tables(progress):
                count_splits(counts, table)
                files.write(_with_places(table, rows.classes))
        named = {HF_SPLITS[split]: n for split, n in in_order(counts).items()}
        text = f"---\n{_head(named)}---\n{card(store, selection)}"
        (temporary / "README.md").write_text(text, encoding="utf-8")
    return named


def _schema(rows: ExportRows) -> pa.Schema:
    """Columns of the files, and the note by which the library knows the names of the classes."""
    features = {"emotion": {"names": list(rows.classes), "_type": "ClassLabel"}}
    place = rows.schema.get_field_index("emotion")
    schema = rows.schema.set(place, pa.field("emotion", pa.int64()))
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _with_places(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """`emotion` as places in `classes`."""
    places = pc.fill_null(pc.index_in(table["emotion"], pa.array(classes, pa.string())), NO_CLASS).cast(pa.int64())
    return table.set_column(table.schema.get_field_index("emotion"), "emotion", places)


def _head(splits: Iterable[str]) -> str:
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in splits]
    head = {
        "license": "other",
        "license_name": "terms-of-the-corpora",
        "tags": ["emotion-recognition", "multimodal", "merloco"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(head, sort_keys=False)


def card(store: FeatureStore, selection: Selection) -> str:
    """What a peer has to know of an export: views with their fingerprints, classes, label maps, licence, citation."""
    corpora = selection.corpora
    views = store.views(selection.feature_set, selection.modalities).values()
    classes = ", ".join(export_classes(store, corpora))
    entries = {name: store.catalog.corpus(name) for name in corpora}
    maps = {name: f"`{entry.map}` {entry.active_map.about}" for name, entry in entries.items()}
    known = {name: entry.parser for name, entry in entries.items()}
    lines = [
        f"# Features of {', '.join(corpora)}",
        "",
        f"Feature set `{selection.feature_set}` of a merloco store, one column per view. Where a view has no vector",
        "the column holds zeros, `<view>_present` is false, and `<view>_status` says why.",
        *(["`<view>_segments` is the sequence that it was pooled from, or empty."] if selection.segments else []),
        "",
        *(f"- `{view.name}` ({view.modality}), fingerprint `{view.fingerprint}`" for view in views),
        "",
        f"Classes of `emotion`, `target` and `mask`, in order: {classes}. A row without a single class has -1",
        "as `emotion`; one without a usable annotation has a `mask` that is false everywhere.",
        "Label maps:",
        "",
        *(f"- {name}: {text}".rstrip() for name, text in maps.items()),
        "",
        "## Licence",
        "",
        f"The licences of the corpora hold for features and texts made from them. {TERMS}",
        "",
        *(f"- {name}: {ACCESS[parser]}" for name, parser in known.items() if parser in ACCESS),
        "",
        "## Citation",
        "",
        *(f"```bibtex\n{CITATIONS[parser]}\n```\n" for parser in dict.fromkeys(known.values()) if parser in CITATIONS),
        *(f"Cite {n} as its release asks.\n" for n, parser in known.items() if parser not in CITATIONS),
    ]
    return "\n".join(lines)

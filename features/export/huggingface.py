"""`merloco export --to hf`: a folder that `datasets.load_dataset` reads, with a data card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from merloco.features.cards.corpus import ACCESS, TERMS
from merloco.features.export.citations import CITATIONS
from merloco.features.export.parquet import export_classes, refuse_existing, rows_per_split
from merloco.features.store import FeatureStore
from merloco.pipelines.files.atomic import atomic_folder
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.tombstones import drop_rows, locked_tombstones

HF_SPLITS = {"train": "train", "val": "validation", "test": "test", "none": "none"}
NO_CLASS = -1
"""What `ClassLabel` has for a row without a label."""


def write_hf(store: FeatureStore, table: pa.Table, about: str, classes: Sequence[str], folder: Path) -> dict[str, int]:
    """Write `export_table` as one Parquet file per split, and a card with the text `about`.

    `emotion` becomes a `ClassLabel` of `classes`, and `val` is called `validation`, as everywhere on the hub. The
    folder appears whole or not at all, without what was deleted since. Returns rows per split.
    """
    refuse_existing(folder)
    table = _with_class_label(table, classes)
    with locked_tombstones(store.root) as deleted, atomic_folder(folder) as temporary:
        table = drop_rows(table, deleted.ids_in(table))
        counts = {HF_SPLITS[split]: n for split, n in rows_per_split(table).items()}
        for split, name in HF_SPLITS.items():
            if name in counts:
                write_parquet(temporary / "data" / f"{name}.parquet", table.filter(pc.equal(table["split"], split)))
        (temporary / "README.md").write_text(f"---\n{_head(counts)}---\n{about}", encoding="utf-8")
    return counts


def _with_class_label(table: pa.Table, classes: Sequence[str]) -> pa.Table:
    """`emotion` as places in `classes`, and the note in the schema by which the library knows their names."""
    places = pc.fill_null(pc.index_in(table["emotion"], pa.array(classes, pa.string())), NO_CLASS).cast(pa.int64())
    table = table.set_column(table.schema.get_field_index("emotion"), "emotion", places)
    features = {"emotion": {"names": list(classes), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _head(splits: Iterable[str]) -> str:
    files = [{"split": name, "path": f"data/{name}.parquet"} for name in splits]
    head = {
        "license": "other",
        "license_name": "terms-of-the-corpora",
        "tags": ["emotion-recognition", "multimodal", "merloco"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(head, sort_keys=False)


def card(store: FeatureStore, feature_set: str, corpora: Sequence[str], modalities: Sequence[str] | None = None) -> str:
    """What a peer has to know of an export: views with their fingerprints, classes, label maps, licence, citation."""
    views = store.views(feature_set, modalities).values()
    classes = ", ".join(export_classes(store, corpora))
    entries = {name: store.catalog.corpus(name) for name in corpora}
    maps = {name: f"`{entry.map}` {entry.active_map.about}" for name, entry in entries.items()}
    known = {name: entry.parser for name, entry in entries.items()}
    lines = [
        f"# Pooled features of {', '.join(corpora)}",
        "",
        f"Feature set `{feature_set}` of a merloco store, one column per view. Where a view has no vector the column",
        "holds zeros, `<view>_present` is false, and `<view>_status` says why.",
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

"""The rows of the SQL view `runs`: what each run is, with a column of its own for every training setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.features.runs import CONFIG_KEYS, read_config, run_folders, run_tags
from merloco.pipelines.catalog.entries import Training

FIXED_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("experiment", pa.string()),
        ("protocol", pa.string()),
        ("train", pa.list_(pa.string())),
        ("test", pa.list_(pa.string())),
        ("feature_set", pa.string()),
        ("seed", pa.int64()),
        ("config", pa.string()),
        ("collapsed", pa.list_(pa.string())),
        ("name", pa.string()),
        ("trained_at", pa.timestamp("us")),
        ("tags", pa.list_(pa.string())),
        ("task", pa.string()),
        ("modalities", pa.list_(pa.string())),
        ("nullified", pa.list_(pa.string())),
        ("label_maps", pa.map_(pa.string(), pa.string())),
        ("validation", pa.float64()),
        ("fold", pa.string()),
    ]
)
"""Columns of every store; those of the training settings come after them."""


def runs_table(store: Path) -> pa.Table:
    """One row per run, in the columns of `FIXED_SCHEMA` and one for every training setting.

    `trained_at` is in UTC. A setting that a run of an older version does not have is null.
    """
    rows, settings = [], []
    for folder in run_folders(store):
        record = read_config(folder)
        config, environment = record["config"], record["environment"]
        maps = config.get("label_maps", {})
        rows.append(
            {
                **{key: config[key] for key in CONFIG_KEYS},
                "run": record["run"],
                "config": json.dumps(config, sort_keys=True, allow_nan=False),
                "collapsed": environment.get("collapsed"),
                "name": readable_name(config),
                "trained_at": trained_at(record),
                "tags": run_tags(folder),
                "task": config.get("task"),
                "modalities": config.get("modalities"),
                "nullified": config.get("nullify"),
                "label_maps": [(corpus, entry.get("map")) for corpus, entry in maps.items()],
                "validation": environment.get("validation"),
                "fold": config.get("fold", {}).get("name"),
            }
        )
        settings.append(config.get("training", {}))
    table = pa.Table.from_pylist(rows, schema=FIXED_SCHEMA)
    for key in dict.fromkeys([*Training.model_fields, *(name for values in settings for name in values)]):
        column = key if key not in FIXED_SCHEMA.names else f"training_{key}"
        table = table.append_column(column, _setting([values.get(key) for values in settings], key))
    return table


def _setting(values: Sequence[Any], key: str) -> pa.Array:
    """Values of a setting in the type that they share; a mapping is a struct, whose keys SQL can name."""
    field = Training.model_fields.get(key)
    # Of no run, or of null alone, the type is that of the default.
    shared = [*map(_plain, values), None if field is None else _plain(field.get_default(call_default_factory=True))]
    try:
        column = pa.array(shared)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # text in one run and a number in another
        column = pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in shared])
    return column.cast(pa.string() if pa.types.is_null(column.type) else column.type).slice(0, len(values))


def _plain(value: Any) -> Any:
    """A value for Arrow: what has no value in it says nothing of its type, and DuckDB has no struct without keys."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()} or None
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return items if any(item is not None for item in items) else None
    return value


def trained_at(record: Mapping[str, Any]) -> datetime:
    """When a run was trained, in UTC."""
    return datetime.fromisoformat(record["trained_at"]).astimezone(UTC).replace(tzinfo=None)


def readable_name(config: Mapping[str, Any]) -> str:
    """What a run is, for people: training corpora, modalities, features and network; not test part and seed."""
    parts = ["+".join(config["train"]), "+".join(config.get("modalities", ())), config["feature_set"]]
    parts.append(config.get("training", {}).get("fusion") or "")
    parts += [f"without {modality}" for modality in config.get("nullify", ())]
    return ", ".join(part for part in parts if part)

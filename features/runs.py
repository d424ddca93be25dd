"""Runs in the store: a folder per run that holds config, metrics, predictions and weights, whole or absent."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.files.atomic import TEMPORARY, sync_folder, sync_tree, temporary_name
from merloco.pipelines.files.formats import json_text
from merloco.pipelines.files.hashing import canonical_json, sha256_text
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.samples.tombstones import Tombstones, drop_rows, locked_tombstones


def _strings(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]


METRICS_SCHEMA = pa.schema(
    [
        *_strings("run", "split", "corpus", "metric", "class"),
        *[("value", pa.float64()), ("n", pa.int64()), ("low", pa.float64()), ("high", pa.float64())],
        *_strings("resampled"),
    ]
)
"""Scores of a run, and their 95 % intervals where there are predictions to resample."""
EPOCHS_SCHEMA = pa.schema(
    [("run", pa.string()), ("epoch", pa.int32()), ("loss", pa.float64()), ("val_uar", pa.float64())]
)
"""The learning curve of a run: training loss and validation UAR per epoch."""
PREDICTIONS_SCHEMA = pa.schema(
    [
        *_strings("run", "sample_id", "corpus", "truth", "prediction"),
        ("probabilities", pa.map_(pa.string(), pa.float32())),
        ("contributions", pa.map_(pa.string(), pa.float32())),
        *_strings("cluster"),
    ]
)
CONFIG_KEYS = ("experiment", "protocol", "train", "test", "feature_set", "seed")
NAMES = frozenset({"experiment", "protocol", "feature_set", "fold"})
"""Keys of a config that say what a run is for, not what comes out of it."""
CORPORA = ("train", "test", "also", "selected_on_test")
"""Keys of a config that list corpora: rows come in the order of the samples, whatever the order of these."""
FIRST_SETTINGS = frozenset(
    (
        *("gated_dim", "gate", "dropout", "learning_rate", "weight_decay", "batch_size", "epochs", "patience", "loss"),
        *("optimizer", "schedule", "standardize"),
    )
)
"""Training settings that have always been in a config; a later one at its default says what was so before it."""
SCORES = ("uar", "published_uar", "macro_f1", "weighted_f1", "accuracy", "wacc", "f1")
TAGS = "tags.json"
"""Names that somebody gave a run: a file of its own, because they come and go and a config stays as it is."""


def run_name(config: Mapping[str, Any]) -> str:
    """Name of a run: readable parts and a hash of everything that can change its result."""
    parts = [config["protocol"], *(f"test-{name}" for name in config["test"]), f"seed{config['seed']}"]
    if fold := config.get("fold"):
        parts.insert(-1, re.sub(r"[^A-Za-z0-9_-]+", "_", fold["name"])[:40])  # a speaker may be called anything
    return "-".join([*parts, sha256_text(canonical_json(_decisive(config)))[:8]])


def run_identity(config: Mapping[str, Any]) -> str:
    """What two runs of one result share, whatever experiments they are part of and in whatever order of corpora."""
    result_keys = {key: value for key, value in _decisive(config).items() if key not in NAMES}
    return sha256_text(canonical_json({**result_keys, **{key: sorted(config.get(key, ())) for key in CORPORA}}))


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without settings that came later and are at their default, so that older runs keep their names."""
    if "training" not in config:
        return dict(config)
    defaults = Training().model_dump()
    settings = config["training"].items()
    kept = {name: value for name, value in settings if name in FIRST_SETTINGS or value != defaults.get(name)}
    return {**config, "training": kept}


def run_path(store: Path, config: Mapping[str, Any]) -> Path:
    """Where the run of a config lies.

    Raises:
        UsageError: The experiment's name or the run's would lead out of the store.
    """
    for name in (config["experiment"], run_name(config)):
        if name.startswith(".") or not re.fullmatch(r"[^/\\\0\n]+", name):
            raise UsageError(f"{name!r} cannot be the name of a folder: expected letters, digits, '_', '-' and '.'")
    return store / "runs" / config["experiment"] / run_name(config)


def write_run(
    store: Path,
    config: Mapping[str, Any],
    metrics: pa.Table,
    epochs: pa.Table,
    predictions: pa.Table,
    weights: Mapping[str, np.ndarray],
    environment: Mapping[str, Any],
) -> Path:
    """Write a run folder under a temporary name and rename it; an older run of the same config is replaced.

    Args:
        store: Root of the store.
        config: What decides the result; must have the keys of `CONFIG_KEYS`.
        metrics: Rows of `METRICS_SCHEMA`; the column `run` of this and the other tables is filled here.
        epochs: Rows of `EPOCHS_SCHEMA`.
        predictions: Rows of `PREDICTIONS_SCHEMA`.
        weights: Arrays of the trained network; none for a run that scores another's network.
        environment: Versions and state of the code: recorded, but no part of the run's name.
    """
    from safetensors.numpy import save

    tables = {"metrics": (metrics, METRICS_SCHEMA), "epochs": (epochs, EPOCHS_SCHEMA)}
    with _new_run(store, config) as (
        path,
        folder,
        deleted,
    ):  # a training takes minutes, in which somebody may be deleted
        tables["predictions"] = drop_rows(predictions, deleted.samples), PREDICTIONS_SCHEMA
        for file, (table, schema) in tables.items():
            run = pa.array([path.name] * table.num_rows, pa.string())
            columns = [run if f.name == "run" else table[f.name].combine_chunks() for f in schema]
            pq.write_table(pa.table(columns, schema=schema), folder / f"{file}.parquet", compression="zstd")
        if weights:
            arrays = {key: np.ascontiguousarray(array) for key, array in weights.items()}
            # Its own `save_file` makes files that only their user can read.
            (folder / "weights.safetensors").write_bytes(save(arrays))
        _write_config(folder, path.name, config, environment, datetime.now(UTC).isoformat(timespec="seconds"))
    return path


def adopt_run(store: Path, source: Path, config: Mapping[str, Any]) -> Path:
    """Write a finished run once more, under the name that the config of another experiment gives it.

    The source has the same `run_identity`. The new weights are the same file where the file system can link.
    """
    with _new_run(store, config) as (path, folder, _):  # whom the source names, a deletion finds here too
        record = read_config(source)
        for file in sorted(source.iterdir()):
            if file.suffix == ".parquet":
                table = pq.read_table(file)
                place = table.column_names.index("run")
                column = pa.array([path.name] * table.num_rows, pa.string())
                table = table.set_column(place, table.schema.field(place), column)
                pq.write_table(table, folder / file.name, compression="zstd")
            elif file.name not in ("config.json", TAGS):
                try:
                    os.link(file, folder / file.name)
                except OSError:  # a file system without hard links
                    shutil.copyfile(file, folder / file.name)
        adopted = {"adopted_from": f"{source.parent.name}/{source.name}"}
        _write_config(folder, path.name, config, {**record["environment"], **adopted}, record["trained_at"])
    return path


@contextmanager
def _new_run(store: Path, config: Mapping[str, Any]) -> Iterator[tuple[Path, Path, Tombstones]]:
    """Yield a run's final path, the temporary folder that takes this name in the end, and the deletion list."""
    path = run_path(store, config)
    temporary = path.parent / temporary_name(path.name)
    with storage_errors(path.parent):
        temporary.mkdir(parents=True)
        try:
            with locked_tombstones(store) as deleted:
                yield path, temporary, deleted
                with suppress(FileNotFoundError):  # a run that is trained again keeps its tags
                    shutil.copyfile(path / TAGS, temporary / TAGS)
                _replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_config(
    folder: Path, name: str, config: Mapping[str, Any], environment: Mapping[str, Any], trained_at: str
) -> None:
    record = {"run": name, "trained_at": trained_at, "config": dict(config), "environment": dict(environment)}
    (folder / "config.json").write_text(json_text(record, sort_keys=False), encoding="utf-8")


def _replace_folder(new: Path, path: Path) -> None:
    """Give a finished folder its name; a run of the same config that is there already makes way for it."""
    old = path.parent / temporary_name(path.name)
    sync_tree(new)
    with suppress(FileNotFoundError):
        path.rename(old)  # whole under one name or the other, whenever this process is killed
    try:
        new.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another trainer of the same config was faster: its result is the same.
    finally:
        shutil.rmtree(old, ignore_errors=True)


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of a run folder: `run`, `trained_at`, `config`, `environment`; scores that are null are NaN here.

    `trained_at` is in UTC and ISO 8601; runs of older versions have the time of their file.

    Raises:
        DataError: There is none, or it is broken.
    """
    file = path / "config.json"
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if "trained_at" not in record:
            record["trained_at"] = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a run folder ({error})") from None
    environment = record.get("environment", {})
    environment["results"] = [_undefined_as_nan(row) for row in environment.get("results", [])]
    return record


def _undefined_as_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of results with NaN for the scores that JSON could only call null."""

    def restore(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: float("nan") if score is None else score for name, score in value.items()}
        return float("nan") if value is None and key in SCORES else value

    return {key: restore(key, value) for key, value in row.items()}


def run_tags(folder: Path) -> list[str]:
    """The tags of a run, sorted.

    Raises:
        DataError: The file that holds them is broken.
    """
    path = folder / TAGS
    try:
        tags = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DataError(f"{path}: no list of tags ({error}): remove it, and tag the run again") from None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(f"{path}: no list of tags: expected a JSON list of texts; remove it, and tag the run again")
    return sorted(tags)


def run_folders(store: Path) -> list[Path]:
    """All finished runs, sorted by experiment and name."""
    configs = (store / "runs").glob("*/*/config.json")
    return sorted(path.parent for path in configs if not path.parent.name.startswith(TEMPORARY))


def finished_runs(store: Path) -> dict[str, Path]:
    """`run_identity` -> folder of a finished run that has it."""
    return {run_identity(read_config(folder)["config"]): folder for folder in run_folders(store)}


def find_run(store: Path, name: str | None = None, trained: bool = False, default: Collection[str] = ()) -> Path:
    """The folder of a run.

    Args:
        store: Root of the store.
        name: `experiment/run`, a run's name, or the beginning of either if only one run begins so; None: the newest.
        trained: Only runs that have weights: a nullified twin is a score, not a network.
        default: Protocols whose newest run is meant where no name is given; all if empty.

    Raises:
        DataError: The store has no run.
        UsageError: No run, or more than one, has such a name.
    """
    candidates = [folder for folder in run_folders(store) if not trained or (folder / "weights.safetensors").is_file()]
    folders = {f"{folder.parent.name}/{folder.name}": folder for folder in candidates}
    if not folders:
        raise DataError(f"store {str(store)!r} holds no run: run `merloco train` or `merloco loco` first")
    if name is None:
        if default:
            candidates = [f for f in candidates if read_config(f)["config"].get("protocol") in default]
        if not candidates:
            raise DataError(
                f"store {str(store)!r} holds no run of the protocols {', '.join(default)}: name one of another with "
                f"--run ({suggest('', folders)}), or run `merloco train` or `merloco loco`"
            )
        return max(candidates, key=lambda folder: ((folder / "config.json").stat().st_mtime_ns, folder.name))
    exact = [full for full in folders if name in (full, full.partition("/")[2])]
    matches = exact or [full for full in folders if full.startswith(name) or full.partition("/")[2].startswith(name)]
    if not matches:
        raise UsageError(f"no run {name!r}: {suggest(name, folders)}")
    if len(matches) > 1:
        raise UsageError(f"{name!r} begins the names of {len(matches)} runs: expected one, {suggest(name, matches)}")
    return folders[matches[0]]

"""A finished run written once more, for another experiment that has the same one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from merloco.features.runs import read_config, replace_folder, run_path, write_config
from merloco.pipelines.files.atomic import temporary_name
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.samples.tombstones import locked_tombstones


def adopt_run(store: Path, source: Path, config: Mapping[str, Any]) -> Path:
    """Write a finished run once more, under the name that another experiment has for it.

    Args:
        store: Root of the store.
        source: Folder of a run with the same `run_identity`.
        config: The run's config in the other experiment.

    Returns:
        The new folder. Its weights are the same file where the file system can link.
    """
    path = run_path(store, config)
    temporary = path.parent / temporary_name(path.name)
    with storage_errors(path.parent):
        temporary.mkdir(parents=True)
        try:
            with locked_tombstones(store):  # whom the source names, a deletion finds here too
                record = read_config(source)
                for file in sorted(source.iterdir()):
                    if file.suffix == ".parquet":
                        _write_renamed(file, temporary / file.name, path.name)
                    elif file.name != "config.json":
                        _link(file, temporary / file.name)
                adopted = {"adopted_from": f"{source.parent.name}/{source.name}"}
                write_config(temporary, path.name, config, {**record["environment"], **adopted})
                replace_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return path


def _write_renamed(source: Path, target: Path, run: str) -> None:
    """Copy a table of a run, with another name in its column `run`."""
    table = pq.read_table(source)
    place = table.column_names.index("run")
    column = pa.array([run] * table.num_rows, pa.string())
    pq.write_table(table.set_column(place, table.schema.field(place), column), target, compression="zstd")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)

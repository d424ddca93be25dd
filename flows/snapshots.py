"""Snapshots of a training on disk: one safetensors file, whole or absent, with the record in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.finetune_run import Snapshot
from pipelines.errors import DataError
from pipelines.files import atomic_path, canonical_json


def write_snapshot(path: Path, snapshot: Snapshot, config: dict[str, Any]) -> None:
    """Write where a training stands; an older snapshot is replaced.

    Args:
        path: The file.
        snapshot: See `models.finetune_run.Snapshot`.
        config: What decides the result: a snapshot of another config is of no use.
    """
    from safetensors.torch import save_file

    record = {"config": config, "history": snapshot.history, "scaler": snapshot.scaler}
    with atomic_path(path) as temporary:
        save_file(snapshot.tensors, temporary, metadata={"record": json.dumps(record, allow_nan=False)})


def read_snapshot(path: Path, config: dict[str, Any]) -> Snapshot | None:
    """The snapshot of a training with this very config, or None.

    Raises:
        DataError: The file is not one.
    """
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            if canonical_json(record["config"]) != canonical_json(config):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # the reader raises whatever the damage leads to
        raise DataError(
            f"{path}: not a snapshot of a training ({error}): remove it and run the command again"
        ) from None
    return Snapshot(tensors, record["history"], record["scaler"])

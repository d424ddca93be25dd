"""Snapshots of a training on disk: one safetensors file, whole or absent, with the record in its header."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from merloco.models.finetune.loop import resumed
from merloco.models.finetune.run import Snapshot
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import atomic_path
from merloco.pipelines.files.hashing import canonical_json

STOPPING = ("epochs", "patience")
"""Settings that say when a training ends, not how an epoch goes."""


def write_snapshot(path: Path, snapshot: Snapshot, config: dict[str, Any]) -> None:
    """Write where a training stands; an older snapshot is replaced.

    Args:
        path: The file.
        snapshot: See `merloco.models.finetune.run.Snapshot`.
        config: What decides the result: a snapshot of another config is of no use.
    """
    from safetensors.torch import save_file

    record = {"config": config, "history": snapshot.history, "scaler": snapshot.scaler}
    with atomic_path(path) as temporary:
        save_file(snapshot.tensors, temporary, metadata={"record": json.dumps(record, allow_nan=False)})


def read_snapshot(path: Path, config: dict[str, Any], notice: Callable[[str], None] = print) -> Snapshot | None:
    """The snapshot of a training whose epochs went as this config says, or None.

    When it was to end plays no part: with other epochs or patience training goes on from where it is, unless the
    weights that it would end with are no longer there.

    Args:
        path: The file.
        config: What decides the result.
        notice: Called with a sentence where a snapshot is of no use and its epochs are trained again.

    Raises:
        DataError: The file is not one.
    """
    from safetensors import safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            history = _usable(record["history"], record["config"], config, notice)
            if history is None:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # the reader raises whatever the damage leads to
        raise DataError(
            f"{path}: not a snapshot of a training ({error}): remove it and run the command again"
        ) from None
    return Snapshot(tensors, history, record["scaler"])


def _usable(
    history: list[dict[str, float]], made: dict[str, Any], config: dict[str, Any], notice: Callable[[str], None]
) -> list[dict[str, float]] | None:
    """The epochs of a snapshot that a training with `config` has as well; None, and a notice, if it cannot use them."""
    differs = differences(made, config, ignored=STOPPING)
    if differs:
        why = f"it was made with other {' and '.join(differs)}"
    else:
        settings = config.get("settings", {})
        found = resumed(history, settings["epochs"], settings["patience"]) if settings else history
        if found is not None:
            return found
        why = f"the weights of its best epoch come after what --epochs {settings['epochs']} and --patience " + (
            f"{settings['patience']} ask for"
        )
    notice(f"a snapshot of {len(history) - 1} epochs is discarded, and training begins anew: {why}")
    return None


def differences(made: Mapping[str, Any], config: Mapping[str, Any], ignored: Sequence[str] = ()) -> list[str]:
    """What of a config differs from the one that something was made with, for a sentence; settings one by one.

    Args:
        made: The config that it was made with.
        config: The config that is asked for.
        ignored: Settings that may differ.
    """
    differs = [
        key for key in config if key != "settings" and canonical_json(made.get(key)) != canonical_json(config[key])
    ]
    before, now = made.get("settings", {}), config.get("settings", {})
    changed = [f"{k} {before.get(k)}, now {v}" for k, v in now.items() if k not in ignored and before.get(k) != v]
    return differs + ([f"settings ({'; '.join(changed)})"] if changed else [])

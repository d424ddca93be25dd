"""A run folder for tests of what is done to runs: real files, invented scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, write_run


def make_run(
    store: Path,
    sample_ids: Sequence[str],
    views: dict[str, str] | None = None,
    experiment: str = "loco",
    **config: object,
) -> Path:
    """A finished run that predicted some samples of MELD.

    Args:
        store: Root of the store.
        sample_ids: The samples that it predicted.
        views: Modality -> fingerprint.
        experiment: Its experiment.
        config: Other keys of the config.
    """
    settings = {
        "protocol": "loco",
        "train": ["meld"],
        "test": ["meld"],
        "feature_set": "light",
        "seed": 0,
        "modalities": ["text"],
        "trained_on": {"text": []},
        "task": "single",
        **config,
    }
    metric = {"split": "test", "corpus": "meld", "metric": "uar", "value": 0.5, "n": len(sample_ids)}
    predictions = [
        {
            "sample_id": sample_id,
            "corpus": "meld",
            "truth": "happy",
            "prediction": "sad",
            "probabilities": [("happy", 0.25), ("sad", 0.75)],
            "contributions": [("text", None)],
            "cluster": sample_id,
        }
        for sample_id in sample_ids
    ]
    return write_run(
        store,
        {"experiment": experiment, "views": views or {}, **settings},
        pa.Table.from_pylist([metric], METRICS_SCHEMA),
        pa.Table.from_pylist([{"epoch": 1, "loss": 1.0, "val_uar": 0.4}], EPOCHS_SCHEMA),
        pa.Table.from_pylist(predictions, PREDICTIONS_SCHEMA),
        {"w": np.ones(2, np.float32)},
        {"results": []},
    )

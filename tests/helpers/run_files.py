"""Finished runs for tests, written by the store's own writer with predictions that the test chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, run_folders, write_run
from merloco.flows.experiments.references import REFERENCE
from merloco.models.metrics.scores import score

CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
Predicted = Mapping[str, tuple[str, str]]
"""Sample id -> (truth, prediction)."""


def own_runs(root: Path) -> list[Path]:
    """Finished runs of a store without the baselines that stand beside them."""
    return [folder for folder in run_folders(root) if folder.parent.name != REFERENCE]


def make_run(
    root: Path,
    predicted: Mapping[str, Predicted],
    experiment: str = "mine",
    seed: int = 0,
    train: Sequence[str] = ("meld",),
    curve: Sequence[float] = (0.3, 0.5, 0.4),
    **config: object,
) -> Path:
    """Write a run that predicted `predicted` (corpus -> predictions) on test parts; its metrics follow from them."""
    described = {
        "experiment": experiment,
        "protocol": "train",
        "train": list(train),
        "test": list(predicted),
        "feature_set": "light",
        "modalities": ["text"],
        "seed": seed,
        "views": {"text": "0123456789abcdef"},
        "trained_on": {"text": []},
        "label_maps": {c: {"map": "seven", "about": "seven classes", "classes": CLASSES} for c in predicted},
        "training": {"loss": "balanced", "epochs": 3, "learning_rate": 0.001},
        **config,
    }
    rows, metrics, results = [], [], []
    for corpus, pairs in predicted.items():
        truth = np.array([CLASSES.index(t) for t, _ in pairs.values()])
        prediction = np.array([CLASSES.index(p) for _, p in pairs.values()])
        s = score(truth, prediction, CLASSES)
        base = {"run": None, "split": "test", "corpus": corpus, "class": None, "n": s.n}
        scores = {name: getattr(s, name) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")}
        metrics += [{**base, "metric": name, "value": value} for name, value in scores.items()]
        metrics += [
            {**base, "metric": "recall", "class": c, "value": v, "n": s.support[c]} for c, v in s.recall.items()
        ]
        results.append({"corpus": corpus, "split": "test", "n": s.n, "coverage": {"text": 1.0}, **scores})
        results[-1]["majority"] = dict.fromkeys(scores, 0.25)
        for sample_id, (t, p) in pairs.items():
            probabilities = [(c, 0.7 if c == p else 0.05) for c in CLASSES]
            row = {"run": None, "sample_id": sample_id, "corpus": corpus, "truth": t, "prediction": p}
            rows.append(
                {
                    **row,
                    "probabilities": probabilities,
                    "contributions": [("text", None)],
                    "cluster": sample_id.rpartition("_")[0] or sample_id,
                }
            )
    epochs = [{"run": None, "epoch": i + 1, "loss": 1 / (i + 1), "val_uar": v} for i, v in enumerate(curve)]
    environment = {"results": results, "versions": {"torch": "2"}, "git": {"commit": "c0ffee", "local_changes": False}}
    return write_run(
        root,
        described,
        pa.Table.from_pylist(metrics, schema=METRICS_SCHEMA),
        pa.Table.from_pylist(epochs, schema=EPOCHS_SCHEMA),
        pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA),
        {"w": np.ones(2, np.float32)},
        environment,
    )

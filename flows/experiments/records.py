"""A run as data: its metrics, learning curve and predictions as Arrow tables, and the state of the code."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.prediction import contributions
from merloco.models.fusion.spec import RunResult
from merloco.models.metrics.evaluation import Evaluation
from merloco.models.metrics.resampling import Interval


def result_row(e: Evaluation, nullified: str | None = None) -> dict[str, Any]:
    """What the printed tables need of one evaluation."""
    return {
        "corpus": e.corpus,
        "split": e.split,
        "nullified": nullified,
        "n": len(e.rows),
        "collapsed": e.collapsed,
        "coverage": e.coverage,
        **e.scores,
        "recall": e.recall,
        "support": e.support,
        "class_wacc": e.wacc,
        "majority": e.majority,
        "chance": e.chance,
        "interval": None if e.intervals is None else _bounds(e.intervals.metrics["uar"], e.intervals.resampled),
    }


def _bounds(interval: Interval | None, resampled: str) -> dict[str, Any]:
    return {} if interval is None else {"low": interval.low, "high": interval.high, "resampled": resampled}


def metrics_table(evaluations: Sequence[Evaluation]) -> pa.Table:
    """Rows of `METRICS_SCHEMA`: every score, and recall (and weighted accuracy) per class."""
    rows = []
    for e in evaluations:
        base = {"run": None, "split": e.split, "corpus": e.corpus, "class": None, "n": len(e.rows)}
        known = e.intervals
        for name, value in e.scores.items():
            bounds = {} if known is None else _bounds(known.metrics.get(name), known.resampled)
            rows.append({**base, "metric": name, "value": value, **bounds})
        for metric, values in (("recall", e.recall), ("wacc", e.wacc)):
            for name, value in values.items():
                bounds = {} if known is None else _bounds(known.recall.get(name), known.resampled)
                rows.append({**base, "metric": metric, "class": name, "value": value, "n": e.support[name], **bounds})
    return pa.Table.from_pylist(rows, schema=METRICS_SCHEMA)


def epochs_table(result: RunResult) -> pa.Table:
    """Rows of `EPOCHS_SCHEMA`."""
    rows = [{"run": None, **row, "epoch": int(row["epoch"])} for row in result.history]
    return pa.Table.from_pylist(rows, schema=EPOCHS_SCHEMA)


def predictions_table(
    dataset: Dataset, result: RunResult, evaluations: Sequence[Evaluation], nullify: Sequence[str] = ()
) -> pa.Table:
    """Rows of `PREDICTIONS_SCHEMA`: truth is the single label (null where a row has several or none)."""
    rows = []
    classes, modalities = dataset.classes, result.spec.config.modalities
    for e in evaluations:
        added = contributions(result, dataset, e.rows, e.probabilities, e.prediction, nullify)
        for i, row in enumerate(e.rows):
            label = dataset.label[row]
            rows.append(
                {
                    "run": None,
                    "sample_id": str(dataset.sample_id[row]),
                    "corpus": e.corpus,
                    "truth": None if label < 0 else classes[label],
                    "prediction": classes[e.prediction[i]],
                    "probabilities": list(zip(classes, e.probabilities[i].tolist(), strict=True)),
                    "contributions": [
                        (m, None if np.isnan(value) else float(value))
                        for m, value in zip(modalities, added[i], strict=True)
                    ],
                    "cluster": str(dataset.dialogue[row]),
                }
            )
    return pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA)


def environment(result: RunResult, results: Sequence[dict[str, Any]], widths: Mapping[str, int]) -> dict[str, Any]:
    """What is recorded beside a run's config: its results, how long it took, versions, the state of the code.

    Args:
        result: The trained run.
        results: Rows of `result_row`.
        widths: Modality or view -> width of its vectors.
    """
    return {
        "results": list(results),
        "widths": dict(widths),
        "collapsed": sorted({row["corpus"] for row in results if row["collapsed"] is not None}),
        "validation": max(row["val_uar"] for row in result.history),
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "seconds": round(result.seconds, 3),
        "versions": {tool: version(tool) for tool in ("merloco", "torch", "numpy")},
        "git": git_state(),
    }


@cache
def git_state() -> dict[str, Any]:
    """Commit of the workspace and whether it has local changes; empty outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.stdout.strip(), "local_changes": bool(changes.stdout.strip())}

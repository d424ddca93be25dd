"""Intervals of stored runs: from the predictions that they keep, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

from merloco.features.runs import PREDICTIONS_SCHEMA
from merloco.models.metrics.intervals import ScoreIntervals, score_intervals

COLUMNS = ["sample_id", "truth", "prediction", "cluster"]


def intervals_of(runs: Sequence[Path], corpus: str) -> ScoreIntervals | None:
    """Intervals of the mean scores of runs on the test rows of one corpus that all of them predicted.

    Args:
        runs: Folders of runs that differ in their seed only.
        corpus: The tested corpus.

    Returns:
        None where the runs keep no prediction of one label for it.
    """
    tables = [predictions_of(folder, corpus) for folder in runs]
    shared = set.intersection(*(set(ids) for ids, *_ in tables))
    if not shared:
        return None
    truth: np.ndarray = np.zeros(0)
    clusters: np.ndarray = np.zeros(0)
    predictions = []
    for ids, true, predicted, cluster in tables:
        selected = np.isin(ids, sorted(shared))
        truth, clusters = true[selected], cluster[selected]
        predictions.append(predicted[selected])
    return score_intervals(truth, np.stack(predictions), clusters)


def predictions_of(run: Path, corpus: str) -> tuple[np.ndarray, ...]:
    """Sample ids in order, and truth, prediction and cluster of each; a run of merloco 0.1.0 keeps no cluster."""
    rows = ds.dataset(str(run / "predictions.parquet"), schema=PREDICTIONS_SCHEMA)
    wanted = (ds.field("corpus") == corpus) & ds.field("truth").is_valid() & ds.field("prediction").is_valid()
    table = rows.to_table(columns=COLUMNS, filter=wanted).sort_by("sample_id")
    table = table.set_column(3, "cluster", pc.coalesce(table["cluster"], table["sample_id"]))
    return tuple(np.array(table[name].to_pylist(), dtype=str) for name in COLUMNS)

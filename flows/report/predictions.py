"""Predictions of an experiment's runs as arrays, and the rows that runs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merloco.features.store import FeatureStore
from merloco.models.metrics.scores import confusion


@dataclass(frozen=True, slots=True)
class Predictions:
    """What S runs predicted for the same n test rows."""

    sample_id: np.ndarray
    """(n,) str."""
    truth: np.ndarray
    """int (n,), indices into the experiment's classes."""
    prediction: np.ndarray
    """int (S, n), one row per run."""
    p_truth: np.ndarray
    """float (S, n): probability that each run gave to the truth."""

    def support(self, classes: int) -> np.ndarray:
        """Test rows per class, (K,)."""
        return np.bincount(self.truth, minlength=classes)

    def confusion(self, classes: int) -> np.ndarray:
        """Counts summed over the runs, (K, K)."""
        return np.sum([confusion(self.truth, run, classes) for run in self.prediction], axis=0)


def load_predictions(
    store: FeatureStore, names: list[str], order: Sequence[str]
) -> tuple[dict[tuple[str, str], Predictions], tuple[str, ...]]:
    """Read the predictions of runs.

    Args:
        store: The store.
        names: The runs.
        order: Class names in the order to keep; others follow sorted.

    Returns:
        (run, corpus) -> predictions of that run, (1, n), sorted by sample id; and the class names that occur.
    """
    table = store.sql(
        "select run, corpus, sample_id, truth, prediction, probabilities[truth] as p_truth from predictions "
        "where list_contains(?, run) and truth is not null and prediction is not null order by run, corpus, sample_id",
        [names],
    ).df()
    occurring = {*table["truth"], *table["prediction"]}
    classes = (*(c for c in order if c in occurring), *sorted(occurring - set(order)))
    index = {c: k for k, c in enumerate(classes)}
    predictions = {}
    for key, rows in table.groupby(["run", "corpus"]):
        truth, prediction = (rows[c].map(index).to_numpy(dtype=np.int64) for c in ("truth", "prediction"))
        p_truth = rows["p_truth"].to_numpy(dtype=np.float64)
        predictions[key] = Predictions(rows["sample_id"].to_numpy(dtype=object), truth, prediction[None], p_truth[None])
    return predictions, classes


def common_rows(runs: Sequence[Predictions]) -> Predictions | None:
    """Runs on the same rows as one; rows that not every run predicted are left out, None where that is all of them."""
    shared = sorted(set.intersection(*(set(run.sample_id) for run in runs))) if runs else []
    if not shared:
        return None
    rows = [run.sample_id.searchsorted(shared) for run in runs]
    return Predictions(
        np.array(shared),
        runs[0].truth[rows[0]],
        np.concatenate([run.prediction[:, chosen] for run, chosen in zip(runs, rows, strict=True)]),
        np.concatenate([run.p_truth[:, chosen] for run, chosen in zip(runs, rows, strict=True)]),
    )

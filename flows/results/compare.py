"""Two runs on the same utterances: scores with intervals, their difference, paired tests, corrected over the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from merloco.features.store import FeatureStore
from merloco.flows.results.pairing import By
from merloco.models.metrics.intervals import DIALOGUES, UTTERANCES, clusters_of, score_intervals
from merloco.models.metrics.resampling import Interval, bootstrap, permutation_test
from merloco.models.metrics.statistics import McNemar, holm, mcnemar
from merloco.pipelines.errors import DataError

Labels = dict[str, tuple[str, str]]
"""Sample id -> (truth, prediction)."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of two runs on the utterances of one corpus that both predicted."""

    corpus: str
    metric: str
    n: int
    units: int
    """How many utterances or dialogues are resampled."""
    resampled: str
    """`utterances` or `dialogues`."""
    only_first: int
    """Utterances that only the first run predicted: left out."""
    only_second: int
    first: Interval
    second: Interval
    difference: Interval
    """First minus second."""
    p: float
    """Paired permutation test, two-sided."""
    p_holm: float
    """Corrected over all rows of the table."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """McNemar's table of one corpus, and its p value corrected over the corpora."""

    corpus: str
    table: McNemar
    p_holm: float


def compare_runs(
    store: FeatureStore,
    first: Path,
    second: Path,
    metrics: Sequence[str] = ("uar",),
    by: By | None = None,
    tested: bool = True,
) -> tuple[list[MetricComparison], list[Agreement]]:
    """Compare two runs on every corpus that both tested.

    Args:
        store: The store, which knows the dialogue of an utterance.
        first: Folder of the first run.
        second: Folder of the second run.
        metrics: Scores to compare, names of `merloco.models.metrics.resampling.METRICS`.
        by: Whether utterances are resampled and swapped, or whole dialogues; None: what the runs' own intervals take.
        tested: Whether the tests are made; without them every p is NaN.

    Returns:
        A row per corpus and metric, and a McNemar table per corpus.

    Raises:
        DataError: The runs share no utterance, or disagree on what is true.
    """
    predictions = _predictions(first), _predictions(second)
    dialogues = dict(store.sql("select sample_id, dialogue from samples").fetchall()) if by != "utterance" else {}
    rows, agreements = [], []
    for corpus in sorted(predictions[0].keys() & predictions[1].keys()):
        a, b = predictions[0][corpus], predictions[1][corpus]
        shared = sorted(a.keys() & b.keys())
        if not shared:
            continue
        truth, *predicted = _pair(corpus, shared, a, b)
        names = np.unique([truth, *predicted])
        true, one, other = (np.searchsorted(names, labels) for labels in (truth, *predicted))
        clusters = np.array([dialogues.get(i) or i for i in shared])
        groups = {"utterance": None, "dialogue": clusters, None: clusters_of(clusters)}[by]
        if groups is not None and len(set(groups)) < 2:
            raise DataError(f"{corpus}: all {len(shared)} shared utterances are of one dialogue: use --by utterance")
        drawn = bootstrap(true, np.stack([one, other]), len(names), groups)
        p_values = dict.fromkeys(metrics, float("nan"))
        if tested:
            p_values = permutation_test(true, one, other, len(names), metrics, groups)
        own = [score_intervals(truth, labels[None], clusters).metrics for labels in predicted]
        for metric in metrics:
            intervals = [drawn.interval(metric, k) if by else own[k][metric] for k in (0, 1)]
            rows.append(
                MetricComparison(
                    corpus=corpus,
                    metric=metric,
                    n=len(shared),
                    units=drawn.units,
                    resampled=UTTERANCES if groups is None else DIALOGUES,
                    only_first=len(a) - len(shared),
                    only_second=len(b) - len(shared),
                    first=intervals[0],
                    second=intervals[1],
                    difference=drawn.difference(metric),
                    p=p_values[metric],
                    p_holm=p_values[metric],
                )
            )
        table = mcnemar(true, one, other)
        if not tested:
            table = replace(table, p=float("nan"))
        agreements.append(Agreement(corpus, table, table.p))
    if not rows:
        corpora = [", ".join(sorted(tested_on)) for tested_on in predictions]
        raise DataError(
            f"runs {first.name!r} (tested on {corpora[0]}) and {second.name!r} (tested on {corpora[1]}) predicted no "
            "utterance in common: nothing to compare"
        )
    corrected = holm([row.p for row in rows])
    rows = [replace(row, p_holm=float(p)) for row, p in zip(rows, corrected, strict=True)]
    corrected = holm([agreement.table.p for agreement in agreements])
    return rows, [replace(row, p_holm=float(p)) for row, p in zip(agreements, corrected, strict=True)]


def _predictions(folder: Path) -> dict[str, Labels]:
    """Corpus -> labels of one run; utterances without a truth are not scored."""
    columns = ["corpus", "sample_id", "truth", "prediction"]
    predictions: dict[str, Labels] = {}
    for row in pq.read_table(folder / "predictions.parquet", columns=columns).to_pylist():
        if row["truth"] is not None:
            predictions.setdefault(row["corpus"], {})[row["sample_id"]] = row["truth"], row["prediction"]
    return predictions


def _pair(corpus: str, shared: Sequence[str], a: Labels, b: Labels) -> np.ndarray:
    """Names of the truth and of both predictions, (3, n), in the order of `shared`."""
    changed = [i for i in shared if a[i][0] != b[i][0]]
    if changed:
        example = changed[0]
        raise DataError(
            f"{corpus}: the runs disagree on the truth of {len(changed)} of {len(shared)} shared utterances, for "
            f"example {example} is {a[example][0]!r} and {b[example][0]!r}: expected runs of one label map"
        )
    return np.array([(*a[i], b[i][1]) for i in shared]).T

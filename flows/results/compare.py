"""Two runs on the same utterances: scores with intervals, their difference, paired tests, corrected over the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from merloco.features.store import FeatureStore
from merloco.models.metrics.intervals import DIALOGUES, UTTERANCES, clusters_of, score_intervals
from merloco.models.metrics.resampling import Interval, bootstrap, permutation_test
from merloco.models.metrics.statistics import McNemar, holm, mcnemar
from merloco.pipelines.errors import DataError

By = Literal["utterance", "dialogue"]
"""What is resampled and swapped as a whole."""


@dataclass(frozen=True, slots=True)
class Comparison:
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
    store: FeatureStore, first: Path, second: Path, metrics: Sequence[str] = ("uar",), by: By | None = None
) -> tuple[list[Comparison], list[Agreement]]:
    """Compare two runs on every corpus that both tested.

    Args:
        store: The store, which knows the dialogue of an utterance.
        first: Folder of the first run.
        second: Folder of the second run.
        metrics: Scores to compare, names of `merloco.models.metrics.resampling.METRICS`.
        by: Whether utterances are resampled and swapped, or whole dialogues; None: what the runs' own intervals take.

    Returns:
        A row per corpus and metric, and a McNemar table per corpus.

    Raises:
        DataError: The runs share no utterance, or disagree on what is true.
    """
    here, there = _predictions(first), _predictions(second)
    dialogues = _dialogues(store) if by != "utterance" else {}
    rows, agreements = [], []
    for corpus in sorted(here.keys() & there.keys()):
        a, b = here[corpus], there[corpus]
        shared = sorted(a.keys() & b.keys())
        if not shared:
            continue
        truth, one, other, names = _paired(corpus, shared, a, b)
        clusters = np.array([dialogues.get(i) or i for i in shared])
        groups = {"utterance": None, "dialogue": clusters, None: clusters_of(clusters)}[by]
        if groups is not None and len(set(groups)) < 2:
            raise DataError(f"{corpus}: all {len(shared)} shared utterances are of one dialogue: use --by utterance")
        drawn = bootstrap(truth, np.stack([one, other]), len(names), groups)
        p_values = permutation_test(truth, one, other, len(names), metrics, groups)
        resampled = UTTERANCES if groups is None else DIALOGUES
        own = [score_intervals(*_named(names, truth, said), clusters).metrics for said in (one, other)]
        for metric in metrics:
            ours, theirs = (drawn.interval(metric, k) if by else own[k][metric] for k in (0, 1))
            intervals = ours, theirs, drawn.difference(metric)
            left_out = len(a) - len(shared), len(b) - len(shared)
            p = p_values[metric]
            rows.append(Comparison(corpus, metric, len(shared), drawn.units, resampled, *left_out, *intervals, p, p))
        table = mcnemar(truth, one, other)
        agreements.append(Agreement(corpus, table, table.p))
    if not rows:
        raise DataError(
            f"runs {first.name!r} (tested on {', '.join(sorted(here))}) and {second.name!r} "
            f"(tested on {', '.join(sorted(there))}) predicted no utterance in common: nothing to compare"
        )
    corrected = holm([row.p for row in rows])
    rows = [replace(row, p_holm=float(p)) for row, p in zip(rows, corrected, strict=True)]
    corrected = holm([agreement.table.p for agreement in agreements])
    return rows, [replace(row, p_holm=float(p)) for row, p in zip(agreements, corrected, strict=True)]


def _predictions(folder: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Corpus -> sample id -> (truth, prediction) of one run; utterances without a truth are not scored."""
    columns = ["corpus", "sample_id", "truth", "prediction"]
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for row in pq.read_table(folder / "predictions.parquet", columns=columns).to_pylist():
        if row["truth"] is not None:
            found.setdefault(row["corpus"], {})[row["sample_id"]] = row["truth"], row["prediction"]
    return found


def _named(names: Sequence[str], truth: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.array(names)
    return known[truth], known[said][None]


def _dialogues(store: FeatureStore) -> dict[str, str | None]:
    return dict(store.sql("select sample_id, dialogue from samples").fetchall())


def _paired(
    corpus: str, shared: Sequence[str], a: dict[str, tuple[str, str]], b: dict[str, tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Truth and both predictions as indices into the class names, in the order of `shared`."""
    moved = [i for i in shared if a[i][0] != b[i][0]]
    if moved:
        raise DataError(
            f"{corpus}: the runs disagree on the truth of {len(moved)} of {len(shared)} shared utterances, for example "
            f"{moved[0]} is {a[moved[0]][0]!r} and {b[moved[0]][0]!r}: expected runs of one label map"
        )
    names = sorted({name for i in shared for name in (*a[i], *b[i])})
    index = {name: k for k, name in enumerate(names)}

    def indices(column: Sequence[str]) -> np.ndarray:
        return np.array([index[name] for name in column], dtype=np.int64)

    pairs = [(a[i], b[i]) for i in shared]
    truth, one = (indices([pair[0][k] for pair in pairs]) for k in (0, 1))
    return truth, one, indices([pair[1][1] for pair in pairs]), names

"""What a report shows of an experiment: its runs grouped by what they were trained on, tested corpus by corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from merloco.features.runs import read_config
from merloco.features.store import FeatureStore
from merloco.flows.experiments.jobs import leaked_corpora
from merloco.flows.experiments.references import reference_results
from merloco.flows.report.conditions import group_runs
from merloco.flows.report.definition import DefinedRuns, defined_runs
from merloco.flows.report.predictions import Predictions, common_rows, load_predictions
from merloco.flows.results.intervals import intervals_of
from merloco.models.metrics.intervals import ScoreIntervals
from merloco.models.metrics.statistics import chance
from merloco.pipelines.errors import DataError, suggest


@dataclass(frozen=True, slots=True)
class ReportRow:
    """Runs that differ in their seed only, on the test part of one corpus."""

    condition: str
    """What they were trained on, and with which of the settings that differ within the experiment."""
    corpus: str
    within: bool
    """The corpus is among those trained on, by its own training part."""
    leak: bool
    """An encoder was trained on it although the fusion was not: no score of it counts."""
    n: int
    runs: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    """Metric -> value of each run."""
    absent: tuple[str, ...]
    """Classes that the corpus annotates and that have no test row."""
    majority: Mapping[str, float]
    """Metric -> score of always saying the most frequent training class; empty where it was not recorded."""
    logistic: Mapping[str, Any]
    """Metric -> score of logistic regression on the same rows and features; empty where it was not fitted."""
    chance: Mapping[str, float]
    """Metric -> score of guessing; empty for several labels at once."""
    coverage: Mapping[str, float]
    predictions: Predictions | None
    """None where none are kept: of several labels at once, and of the training corpora's own test parts."""
    intervals: ScoreIntervals | None
    """95 % intervals of the mean over the runs."""

    def values(self, metric: str) -> np.ndarray:
        """Of each run; empty where the runs do not have it."""
        return self.scores.get(metric, np.array([]))


@dataclass(frozen=True)
class ExperimentResults:
    """Everything of one experiment that a report shows."""

    store: FeatureStore
    name: str
    configs: Mapping[str, Mapping[str, Any]]
    """Run -> config."""
    environments: Mapping[str, Mapping[str, Any]]
    """Run -> versions, state of the code, results."""
    classes: tuple[str, ...]
    rows: list[ReportRow]
    epochs: pa.Table
    """run, epoch, loss, val_uar."""
    defined: DefinedRuns
    """Which runs of its name belong to it."""

    @cached_property
    def counted(self) -> list[ReportRow]:
        """Rows whose scores count: no leak."""
        return [row for row in self.rows if not row.leak]

    @cached_property
    def mixed(self) -> bool:
        """Whether some scores are within-corpus and others are not, so that it must be said which."""
        return len({row.within for row in self.rows}) > 1

    def tested_on(self, row: ReportRow) -> str:
        """The tested corpus, marked where that must be said."""
        return f"{row.corpus} (within)" if row.within and self.mixed else row.corpus

    @cached_property
    def single(self) -> bool:
        """Whether every corpus was trained and tested by itself, so that a condition's name begins with the corpus."""
        return all(self.configs[row.runs[0]]["train"] == [row.corpus] for row in self.rows)

    def heading(self, row: ReportRow) -> str:
        """What was tested after training on what, for headings and axes."""
        return row.condition if self.single else f"{self.tested_on(row)} ← {row.condition}"

    @property
    def conditions(self) -> dict[str, list[str]]:
        """Name of a condition -> its runs, in the order of the tested corpora that they were or were not trained on."""
        runs: dict[str, set[str]] = {}
        for row in self.rows:
            runs.setdefault(row.condition, set()).update(row.runs)
        ordered = sorted(runs, key=lambda name: (self._rank(self.configs[min(runs[name])]["train"]), name))
        return {name: sorted(runs[name]) for name in ordered}

    def _rank(self, train: Sequence[str]) -> tuple[int, list[int]]:
        """Training corpora by position; where most are in, the ones left out, so that both kinds of matrix line up."""
        inside = [i for i, corpus in enumerate(self.corpora) if corpus in train]
        outside = [i for i in range(len(self.corpora)) if i not in inside]
        return len(train), inside if len(inside) <= len(outside) else outside

    @property
    def corpora(self) -> list[str]:
        """Tested corpora in their order of appearance."""
        return list(dict.fromkeys(row.corpus for row in self.rows))


def load_experiment(
    store: FeatureStore,
    name: str,
    progress: Callable[[int, int], None] | None = None,
    defined: DefinedRuns | None = None,
) -> ExperimentResults:
    """Read an experiment's runs and compute its intervals.

    Where some are of the experiment as the catalog defines it now, those of earlier definitions are left out.

    Args:
        store: The store.
        name: Name under `store/runs`.
        progress: Called with (rows done, rows) as the intervals are computed.
        defined: Which runs belong to it, where that is known already.

    Raises:
        DataError: The experiment has no run.
    """
    known = [row[0] for row in store.sql("select distinct experiment from runs order by 1").fetchall()]
    if name not in known:
        hint = suggest(name, known) if known else "the store holds no run, run `merloco train` or `merloco loco` first"
        raise DataError(f"experiment {name!r} has no runs: {hint}")
    defined = defined or defined_runs(store, name)
    stored = store.sql("select run, config from runs where experiment = ? order by run", [name]).fetchall()
    configs = {run: json.loads(config) for run, config in stored if run in defined.runs or not defined.runs}
    folder = store.root / "runs" / name
    environments = {run: read_config(folder / run)["environment"] for run in configs}
    scores = _scores(store, list(configs))
    predictions, classes = load_predictions(store, list(configs), store.catalog.label_order)
    groups = group_runs(configs, scores)
    rows: list[ReportRow] = []
    for (condition, corpus), runs in groups.items():
        config, first = configs[runs[0]], scores[runs[0], corpus]
        results = environments[runs[0]].get("results", [])
        result: Mapping[str, Any] = next((row for row in results if row["corpus"] == corpus), {})
        single = config.get("task", "single") == "single"
        predicted = common_rows([predictions[run, corpus] for run in runs if single and (run, corpus) in predictions])
        guess = {} if predicted is None else chance(np.bincount(predicted.truth))
        rows.append(
            ReportRow(
                condition=condition,
                corpus=corpus,
                within=corpus in config["train"],
                leak=corpus in leaked_corpora(config),
                n=int(first["n"]),
                runs=runs,
                scores={
                    metric: np.array([scores[run, corpus].get(metric, np.nan) for run in runs])
                    for metric in first
                    if metric != "n"
                },
                absent=tuple(name for name, count in result.get("support", {}).items() if not count),
                majority=result.get("majority", {}),
                logistic=(reference_results(store.root, config) or {}).get(corpus, {}),
                chance=result.get("chance") or guess,
                coverage=result.get("coverage", {}),
                predictions=predicted,
                intervals=None if predicted is None else intervals_of([folder / run for run in runs], corpus),
            )
        )
        if progress:
            progress(len(rows), len(groups))
    query = "select run, epoch, loss, val_uar from epochs where list_contains(?, run) order by run, epoch"
    epochs = store.sql(query, [list(configs)]).to_arrow_table()
    order = {corpus: position for position, corpus in enumerate(store.catalog.corpora)}
    rows.sort(key=lambda row: order.get(row.corpus, len(order)))
    experiment = ExperimentResults(store, name, configs, environments, classes, rows, epochs, defined)
    ranks = {condition: rank for rank, condition in enumerate(experiment.conditions)}
    rows.sort(key=lambda row: (order.get(row.corpus, len(order)), ranks[row.condition]))
    return experiment


def _scores(store: FeatureStore, names: list[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(run, corpus) -> metric -> value on the test part, and `n`."""
    rows = store.sql(
        "select run, corpus, metric, value, n from metrics "
        "where list_contains(?, run) and split = 'test' and class is null order by run, corpus",
        [names],
    ).fetchall()
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for run, corpus, metric, value, n in rows:
        scores.setdefault((run, corpus), {"n": n})[metric] = float("nan") if value is None else value
    return scores

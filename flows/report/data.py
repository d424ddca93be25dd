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
from merloco.flows.report.conditions import group_runs
from merloco.flows.report.predictions import Predictions, joined, load_predictions, quoted
from merloco.flows.results.intervals import intervals_of
from merloco.models.metrics.intervals import ScoreIntervals
from merloco.models.metrics.resampling import Interval
from merloco.models.metrics.scores import confusion
from merloco.models.metrics.statistics import chance
from merloco.pipelines.errors import DataError, suggest


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """95 % intervals of the mean over a cell's runs."""

    uar: Interval
    recall: Sequence[Interval]
    """Of the experiment's classes."""
    by: str
    """What was resampled: `dialogues` or `utterances`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Runs that differ in their seed only, on the test part of one corpus."""

    condition: str
    """What they were trained on, and with which of the settings that differ within the experiment."""
    corpus: str
    inside: bool
    """Within-corpus: the corpus is among those trained on, by its own training part."""
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
    chance: Mapping[str, float]
    """Metric -> score of guessing; empty for several labels at once."""
    coverage: Mapping[str, float]
    predictions: Predictions | None
    """None where none are kept: of several labels at once, and of the training corpora's own test parts."""
    uncertainty: Uncertainty | None

    def support(self, classes: int) -> np.ndarray:
        """Test rows per class, (K,)."""
        truth = np.zeros(0, dtype=np.int64) if self.predictions is None else self.predictions.truth
        return np.bincount(truth, minlength=classes)

    def counts(self, classes: int) -> np.ndarray:
        """Confusion counts summed over the runs, (K, K); zeros without predictions."""
        if self.predictions is None:
            return np.zeros((classes, classes), dtype=np.int64)
        return np.sum([confusion(self.predictions.truth, row, classes) for row in self.predictions.prediction], axis=0)


@dataclass(frozen=True)
class Experiment:
    """Everything of one experiment that a report shows."""

    name: str
    configs: Mapping[str, Mapping[str, Any]]
    """Run -> config."""
    environments: Mapping[str, Mapping[str, Any]]
    """Run -> versions, state of the code, results."""
    classes: tuple[str, ...]
    cells: list[Cell]
    epochs: pa.Table
    """run, epoch, loss, val_uar."""

    @cached_property
    def shown(self) -> list[Cell]:
        """Cells whose scores count."""
        return [cell for cell in self.cells if not cell.leak]

    @cached_property
    def mixed(self) -> bool:
        """Whether some scores are within-corpus and others are not, so that it must be said which."""
        return len({cell.inside for cell in self.cells}) > 1

    def tested_on(self, cell: Cell) -> str:
        """The tested corpus, marked where that must be said."""
        return f"{cell.corpus} (within)" if cell.inside and self.mixed else cell.corpus

    @cached_property
    def single(self) -> bool:
        """Whether every corpus was trained and tested by itself, so that a condition's name begins with the corpus."""
        return all(self.configs[cell.runs[0]]["train"] == [cell.corpus] for cell in self.cells)

    def heading(self, cell: Cell) -> str:
        """What was tested after training on what, for headings and axes."""
        return cell.condition if self.single else f"{self.tested_on(cell)} ← {cell.condition}"

    @property
    def conditions(self) -> dict[str, list[str]]:
        """Name of a condition -> its runs, in the order of the tested corpora that they were or were not trained on."""
        found: dict[str, set[str]] = {}
        for cell in self.cells:
            found.setdefault(cell.condition, set()).update(cell.runs)
        ordered = sorted(found, key=lambda name: (self._rank(self.configs[min(found[name])]["train"]), name))
        return {name: sorted(found[name]) for name in ordered}

    def _rank(self, train: Sequence[str]) -> tuple[int, list[int]]:
        """Training corpora by position; where most are in, the ones left out, so that both kinds of matrix line up."""
        inside = [i for i, corpus in enumerate(self.corpora) if corpus in train]
        outside = [i for i in range(len(self.corpora)) if i not in inside]
        return len(train), inside if len(inside) <= len(outside) else outside

    @property
    def seeds(self) -> list[int]:
        """Seeds of all runs."""
        return sorted({config["seed"] for config in self.configs.values()})

    @property
    def corpora(self) -> list[str]:
        """Tested corpora in their order of appearance."""
        return list(dict.fromkeys(cell.corpus for cell in self.cells))


def load_experiment(store: FeatureStore, name: str, progress: Callable[[int, int], None] | None = None) -> Experiment:
    """Read an experiment's runs and compute its intervals.

    Args:
        store: The store.
        name: Name under `store/runs`.
        progress: Called with (cells done, cells) as the intervals are computed.

    Raises:
        DataError: The experiment has no run.
    """
    known = [row[0] for row in store.sql("select distinct experiment from runs order by 1").fetchall()]
    if name not in known:
        hint = suggest(name, known) if known else "the store holds no run, run `merloco train` or `merloco loco` first"
        raise DataError(f"experiment {name!r} has no runs: {hint}")
    rows = store.sql(f"select run, config from runs where experiment = {quoted(name)} order by run").fetchall()
    configs = {run: json.loads(config) for run, config in rows}
    environments = {run: read_config(store.root / "runs" / name / run)["environment"] for run in configs}
    scores = _scores(store, name)
    predicted, classes = load_predictions(store, name, store.catalog.label_order)
    groups = group_runs(configs, scores)
    cells: list[Cell] = []
    for number, ((condition, corpus), chosen) in enumerate(groups.items()):
        config, results = configs[chosen[0]], environments[chosen[0]].get("results", [])
        result: Mapping[str, Any] = next((row for row in results if row["corpus"] == corpus), {})
        single = config.get("task", "single") == "single"
        here = joined([predicted[run, corpus] for run in chosen if single and (run, corpus) in predicted])
        paths = [store.root / "runs" / name / run for run in chosen]
        guess = {} if here is None else chance(np.bincount(here.truth))
        metrics = [metric for metric in scores[chosen[0], corpus] if metric != "n"]
        cells.append(
            Cell(
                condition=condition,
                corpus=corpus,
                inside=corpus in config["train"],
                leak=corpus in leaked_corpora(config),
                n=int(scores[chosen[0], corpus]["n"]),
                runs=chosen,
                scores={m: np.array([scores[run, corpus].get(m, np.nan) for run in chosen]) for m in metrics},
                absent=tuple(name for name, count in result.get("support", {}).items() if not count),
                majority=result.get("majority", {}),
                chance=result.get("chance") or guess,
                coverage=result.get("coverage", {}),
                predictions=here,
                uncertainty=None if here is None else _uncertainty(intervals_of(paths, corpus), classes),
            )
        )
        if progress:
            progress(number + 1, len(groups))
    epochs = store.sql(
        f"select run, epoch, loss, val_uar from epochs join runs using (run) where experiment = {quoted(name)} "
        "order by run, epoch"
    ).to_arrow_table()
    order = {corpus: position for position, corpus in enumerate(store.catalog.corpora)}
    cells.sort(key=lambda cell: order.get(cell.corpus, len(order)))
    experiment = Experiment(name, configs, environments, classes, cells, epochs)
    ranks = {condition: rank for rank, condition in enumerate(experiment.conditions)}
    cells.sort(key=lambda cell: (order.get(cell.corpus, len(order)), ranks[cell.condition]))
    return experiment


def _scores(store: FeatureStore, name: str) -> dict[tuple[str, str], dict[str, float]]:
    """(run, corpus) -> metric -> value on the test part, and `n`."""
    rows = store.sql(
        f"select run, m.corpus, metric, value, n from metrics m join runs using (run) "
        f"where experiment = {quoted(name)} and split = 'test' and class is null order by run, m.corpus"
    ).fetchall()
    found: dict[tuple[str, str], dict[str, float]] = {}
    for run, corpus, metric, value, n in rows:
        found.setdefault((run, corpus), {"n": n})[metric] = float("nan") if value is None else value
    return found


def _uncertainty(found: ScoreIntervals | None, classes: Sequence[str]) -> Uncertainty | None:
    if found is None:
        return None
    nothing = Interval(np.nan, np.nan, np.nan)
    return Uncertainty(found.metrics["uar"], [found.recall.get(name, nothing) for name in classes], found.resampled)

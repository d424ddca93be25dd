"""Scores of runs as people and machines read them: mean and STD over seeds, intervals, coverage, reference rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from merloco.flows.cli.console import Format, Key, print_records, show, tabulate
from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.notes import column_notes, result_notes
from merloco.flows.results.pooled import PooledFolds, pooled_folds
from merloco.flows.results.scores import Score, scores_of, tested_scores
from merloco.flows.results.text import TITLES, in_order, number
from merloco.models.metrics.evaluation import SINGLE
from merloco.models.metrics.statistics import mean_std


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table for people."""

    title: str
    records: Sequence[Mapping[Any, Any]]
    """Column -> value; None and what is missing show as `-`."""
    notes: list[str] = field(default_factory=list)
    """Sentences below the table."""

    @property
    def columns(self) -> list[str]:
        """Columns of all rows, in order of appearance."""
        return tabulate(self.records)[0]

    @property
    def rows(self) -> list[list[Any]]:
        """Values in the order of the columns; None where a row has none."""
        return tabulate(self.records)[1]


def result_rows(outcomes: Sequence[RunSummary], show_leaks: bool = False) -> list[dict[str, Any]]:
    """One row per tested corpus: scores in percent over the seeds, and what always saying one class would give.

    A corpus that an encoder has seen gets `-` for its scores unless `show_leaks`; it is no part of the average row.
    """
    rows = []
    averages: dict[str, list[float]] = {}
    scores = tested_scores(outcomes)
    used = in_order(m for score in scores for m in score.first["coverage"])
    for score in scores:
        first, coverage = score.first, score.first["coverage"]
        row: dict[str, Any] = {
            "tested on": score.corpus,
            "trained on": ", ".join(score.cell.fold.train) + score.cell.fold.suffix,
            "n": first["n"],
            **{m: f"{coverage[m]:.0%}" if m in coverage else "-" for m in used},
        }
        for metric, title in TITLES.items():
            if metric not in first:
                continue
            row[title] = score.text(metric, show_leaks)
            if metric == "uar":
                row["95 % CI"] = "-" if score.leaked and not show_leaks else score.interval()
            if not score.leaked:
                averages.setdefault(TITLES[metric], []).append(score.mean(metric))
                if metric == "uar":
                    averages.setdefault("logistic UAR", []).append(score.reference(metric))
        row["logistic UAR"] = "-" if score.leaked and not show_leaks else number(score.reference("uar"))
        row["majority UAR"] = f"{100 * first['majority']['uar']:.1f}"
        row["majority wF1"] = f"{100 * first['majority']['weighted_f1']:.1f}"
        row["chance wF1"] = f"{100 * first['chance']['weighted_f1']:.1f}" if first["chance"] else "-"
        row["classes"] = sum(count > 0 for count in first["support"].values())
        rows.append(row)
    count = len(averages.get(TITLES["uar"], []))
    if count > 1:
        means = {title: number(mean_std(values)[0]) for title, values in averages.items()}
        what = "corpora" if scores[0].cell.fold.name is None else "folds"
        rows.append({**dict.fromkeys(rows[0], ""), "tested on": f"average of {count} {what}", **means})
    return rows


def recall_rows(outcomes: Sequence[RunSummary], show_leaks: bool = False) -> list[dict[Key, str]]:
    """Recall per class of every held-out corpus, averaged over the seeds."""
    return [
        {"tested on": score.corpus, **{("class", name): number(score.recall(name)) for name in score.first["recall"]}}
        for score in tested_scores(outcomes)
        if show_leaks or not score.leaked
    ]


def print_results(outcomes: Sequence[RunSummary], title: str, output: Format, show_leaks: bool = False) -> None:
    """Print the table, the recalls per class, and what the columns mean."""
    if output != "table":
        show(plain_table(outcomes), output)
        return
    print_records(result_rows(outcomes, show_leaks), title)
    print()
    print_records(recall_rows(outcomes, show_leaks), "Recall per class, % (-: not annotated)")
    print("\n".join([*result_notes(outcomes, show_leaks), *column_notes(outcomes)]))


def _over_seeds(score: Score) -> dict[str, Any]:
    values: dict[str, Any] = {"seeds": len(score.outcomes)}
    for metric in TITLES:
        if metric in score.first:
            values[f"mean_{metric}"], values[f"std_{metric}"] = mean_std([result[metric] for result in score.results])
    if score.intervals is not None:
        interval = score.intervals.metrics["uar"]
        values |= {"mean_low": interval.low, "mean_high": interval.high}
    return values


def _over_folds(group: PooledFolds, seed: int) -> dict[str, Any]:
    values = {f"pooled_{metric}": getattr(group.scores[seed], metric) for metric in TITLES if metric in SINGLE}
    if group.intervals is not None:
        interval = group.intervals.metrics["uar"]
        values |= {"pooled_low": interval.low, "pooled_high": interval.high}
    return values


def plain_table(outcomes: Sequence[RunSummary], own: bool = False) -> pa.Table:
    """One row per run and tested corpus, unrounded, for machines; with `own` also the training corpora's test parts.

    `low` and `high` are the 95 % interval of the run's UAR. `mean_*`, `std_*`, `mean_low` and `mean_high` are those of
    the cell over its `seeds`, as the printed table shows them, the same in each of its rows. `pooled_*` are of all
    folds of a corpus together, the same in each row of a seed, and their interval is that of the mean over the seeds.
    """
    rows = []
    pooled = {
        outcome.path: group
        for group in pooled_folds(outcomes)
        for fold in group.folds
        for outcome in fold.outcomes
        if outcome.seed in group.seeds
    }
    over_seeds = {id(result): _over_seeds(score) for score in scores_of(outcomes) for result in score.results}
    for outcome in outcomes:
        cell = outcome.cell
        for result in outcome.results:
            if result["corpus"] not in cell.fold.test and not own:
                continue
            rows.append(
                {
                    "run": outcome.path.name,
                    "train": ",".join(cell.fold.train),
                    "corpus": result["corpus"],
                    **({} if cell.fold.name is None else {"fold": cell.fold.name}),
                    "held_out": result["corpus"] not in cell.fold.train,
                    "feature_set": cell.feature_set,
                    "modalities": ",".join(cell.modalities or result["coverage"]),
                    "nullified": result["nullified"],
                    "seed": outcome.seed,
                    "settings": json.dumps(dict(cell.overrides)),
                    "leak": result["corpus"] in outcome.leaks,
                    "n": result["n"],
                    "collapsed": result.get("collapsed"),
                    **{metric: result.get(metric) for metric in TITLES},
                    **{key: (result.get("interval") or {}).get(key) for key in ("low", "high", "resampled")},
                    **over_seeds[id(result)],
                    **(_over_folds(pooled[outcome.path], outcome.seed) if outcome.path in pooled else {}),
                    **{
                        f"logistic_{metric}": (outcome.reference or {}).get(result["corpus"], {}).get(metric)
                        for metric in TITLES
                        if metric in result
                    },
                    **{f"majority_{key}": value for key, value in result["majority"].items()},
                    **{f"chance_{key}": value for key, value in result["chance"].items()},
                    **{f"coverage_{m}": share for m, share in result["coverage"].items()},
                }
            )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows])

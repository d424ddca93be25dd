"""Scores of runs as people read them: mean and STD over seeds, intervals, coverage, majority and chance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from merloco.flows.cli.console import Format, Key, print_records, show
from merloco.flows.experiments.plan import Outcome
from merloco.flows.results.intervals import intervals_of
from merloco.models.metrics.intervals import ScoreIntervals, resampling_sentence
from merloco.models.metrics.statistics import mean_std
from merloco.pipelines.samples.schema import MODALITIES

TITLES = {
    "uar": "UAR",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
    "wacc": "wAcc",
    "f1": "F1",
}
FEW = 50
"""Fewer validation rows than this choose the weights much by chance: 1 of 50 is 2 points of accuracy."""
ABOUT = {
    "wacc": "wAcc: mean over the classes of the mean recall of present and absent; "
    "F1, accuracy: mean overlap of the true and the predicted set (Dice, Jaccard).",
}


@dataclass(frozen=True)
class Score:
    """One evaluation of one cell over its seeds."""

    outcomes: tuple[Outcome, ...]
    results: tuple[dict[str, Any], ...]

    @property
    def corpus(self) -> str:
        """The tested corpus."""
        return str(self.results[0]["corpus"])

    @property
    def leaked(self) -> bool:
        """Whether an encoder has seen the corpus although the model was not trained on it."""
        return any(self.corpus in outcome.leaks for outcome in self.outcomes)

    def values(self, metric: str) -> list[float]:
        """One value per seed, in percent."""
        return [100 * result[metric] for result in self.results]

    def recall(self, name: str) -> float:
        """Recall of a class in percent, averaged over the seeds; NaN where the corpus has none of it."""
        return 100 * mean_std([result["recall"].get(name, float("nan")) for result in self.results])[0]

    def text(self, metric: str) -> str:
        """`mean ± STD`, the mean alone for one seed, `-` where undefined."""
        mean, std = mean_std(self.values(metric))
        if mean != mean:
            return "-"
        return f"{mean:.1f}" if std != std else f"{mean:.1f} ± {std:.1f}"

    @cached_property
    def intervals(self) -> ScoreIntervals | None:
        """Intervals of the mean scores over the seeds; None without predictions of one label."""
        return intervals_of([outcome.path for outcome in self.outcomes], self.corpus)

    def interval(self) -> str:
        """95 % interval of the UAR, in percent."""
        if self.intervals is None:
            return "-"
        found = self.intervals.metrics["uar"]
        return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def scores_of(outcomes: Iterable[Outcome]) -> list[Score]:
    """Evaluations grouped over seeds, in the order of the outcomes."""
    groups: dict[tuple[Any, ...], list[tuple[Outcome, dict[str, Any]]]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            key = (outcome.cell, result["corpus"], result["split"], result["nullified"])
            groups.setdefault(key, []).append((outcome, result))
    return [Score(tuple(o for o, _ in members), tuple(r for _, r in members)) for members in groups.values()]


def tested_scores(scores: Iterable[Score]) -> list[Score]:
    """Those on the corpora that a fold tests, without its training corpora's own test parts."""
    return [score for score in scores if score.corpus in score.outcomes[0].cell.fold.test]


def result_rows(outcomes: Sequence[Outcome], show_leaks: bool = False) -> list[dict[str, Any]]:
    """One row per tested corpus: scores in percent over the seeds, and what always saying one class would give.

    A corpus that an encoder has seen gets `-` for its scores unless `show_leaks`; it is no part of the average row.
    """
    rows = []
    averages: dict[str, list[float]] = {}
    scores = tested_scores(scores_of(outcomes))
    used = [m for m in MODALITIES if any(m in score.results[0]["coverage"] for score in scores)]
    for score in scores:
        cell, first = score.outcomes[0].cell, score.results[0]
        metrics = [name for name in TITLES if name in first]
        hidden = score.leaked and not show_leaks
        row: dict[str, Any] = {
            "tested on": score.corpus,
            "trained on": ", ".join(cell.fold.train),
            "n": first["n"],
            **{m: f"{first['coverage'][m]:.0%}" if m in first["coverage"] else "-" for m in used},
        }
        for metric in metrics:
            row[TITLES[metric]] = "-" if hidden else score.text(metric)
            if metric == "uar":
                row["95 % CI"] = "-" if hidden else score.interval()
            if not score.leaked:
                averages.setdefault(metric, []).append(mean_std(score.values(metric))[0])
        row["majority UAR"] = f"{100 * first['majority']['uar']:.1f}"
        row["majority wF1"] = f"{100 * first['majority']['weighted_f1']:.1f}"
        row["chance wF1"] = f"{100 * first['chance']['weighted_f1']:.1f}" if first["chance"] else "-"
        row["classes"] = sum(count > 0 for count in first["support"].values())
        rows.append(row)
    if len(averages.get("uar", [])) > 1:
        means = {TITLES[metric]: f"{mean_std(values)[0]:.1f}" for metric, values in averages.items()}
        rows.append({**dict.fromkeys(rows[0], ""), "tested on": f"average of {len(averages['uar'])} corpora", **means})
    return rows


def print_results(outcomes: Sequence[Outcome], title: str, output: Format, show_leaks: bool = False) -> None:
    """Print the table, the recalls per class, and what the columns mean."""
    if output != "table":
        show(plain_table(outcomes), output)
        return
    rows = result_rows(outcomes, show_leaks)
    print_records(rows, title)
    print()
    print_records(recall_rows(outcomes, show_leaks), "Recall per class, % (-: not annotated)")
    for sentence in notes(outcomes, show_leaks):
        print(sentence)
    print("audio, video, text: share of the n test rows that have it.")
    if drawn := {r["interval"]["resampled"] for o in outcomes for r in o.results if r["interval"]}:
        print(f"95 % CI: of the UAR, {resampling_sentence(sorted(drawn))}.")
    print("majority: always the most frequent training class; its UAR is chance level. chance: guessing every class.")
    reused = sum(outcome.reused for outcome in outcomes)
    print(
        f"{len(outcomes)} runs" + (f", {reused} of them read from the store (--force trains again)." if reused else ".")
    )


def notes(outcomes: Sequence[Outcome], show_leaks: bool = False) -> list[str]:
    """What a reader has to know of a table: absent classes, leaks, seeds, what is scored."""
    sentences = []
    absent = {s.corpus: [n for n, count in s.results[0]["support"].items() if not count] for s in scores_of(outcomes)}
    for corpus, names in absent.items():
        if names:
            sentences.append(f"{corpus}: no test row of {', '.join(names)}; left out of its UAR")
    for train, without in sorted({(o.cell.fold.train, o.without) for o in outcomes if o.without}):
        them = "them" if len(without) > 1 else "it"
        sentences.append(f"{', '.join(train)}: no training row has {' or '.join(without)}; trained without {them}")
    few = {o.cell.fold.train: o.validated_on for o in outcomes if o.validated_on is not None and o.validated_on < FEW}
    if few:
        counts = "; ".join(f"{', '.join(train)} ({n})" for train, n in few.items())
        sentences.append(f"fewer than {FEW} validation rows chose the weights, much by chance: {counts}")
    for corpus in sorted({corpus for outcome in outcomes for corpus in outcome.leaks}):
        shown = "shown, not averaged" if show_leaks else "-; --show-leaks shows it"
        sentences.append(f"{corpus}: leak, an encoder of a feature set here was trained on it ({shown})")
    sentences += collapsed_runs(outcomes)
    seeds = len({outcome.seed for outcome in outcomes})
    averaged = f", mean ± STD over {seeds} seeds" if seeds > 1 else ""
    sentences.append(f"\nScores in %{averaged}, on the classes that the tested corpus annotates.")
    sentences += [text for metric, text in ABOUT.items() if any(metric in r for o in outcomes for r in o.results)]
    return sentences


def collapsed_runs(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence for every cell and tested corpus of which all rows got the same class from some seeds."""
    sentences = []
    for score in scores_of(outcomes):
        if score.results[0]["nullified"] is not None:
            continue
        found = [
            (o.seed, said) for o, r in zip(score.outcomes, score.results, strict=True) if (said := r.get("collapsed"))
        ]
        if found:
            cell = score.outcomes[0].cell
            settings = "".join(f", {name} {value}" for name, value in cell.overrides)
            seeds = ", ".join(f"{said} (seed {seed})" for seed, said in found)
            sentences.append(
                f"collapsed: trained on {', '.join(cell.fold.train)} ({cell.feature_set}{settings}), every row of "
                f"{score.corpus} gets one class: {seeds}"
            )
    return sentences


def recall_rows(outcomes: Sequence[Outcome], show_leaks: bool = False) -> list[dict[Key, str]]:
    """Recall per class of every held-out corpus, averaged over the seeds."""
    rows: list[dict[Key, str]] = []
    for score in tested_scores(scores_of(outcomes)):
        if score.leaked and not show_leaks:
            continue
        values = {name: score.recall(name) for name in score.results[0]["recall"]}
        recalls: dict[Key, str] = {("class", n): "-" if v != v else f"{v:.1f}" for n, v in values.items()}
        rows.append({"tested on": score.corpus, **recalls})
    return rows


def _over_seeds(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = {"seeds": len(score.outcomes)}
    for metric in TITLES:
        if metric in score.results[0]:
            found[f"mean_{metric}"], found[f"std_{metric}"] = mean_std([result[metric] for result in score.results])
    if score.intervals is not None:
        interval = score.intervals.metrics["uar"]
        found |= {"mean_low": interval.low, "mean_high": interval.high}
    return found


def plain_table(outcomes: Sequence[Outcome], own: bool = False) -> pa.Table:
    """One row per run and tested corpus, unrounded, for machines; with `own` also the training corpora's test parts.

    `low` and `high` are the 95 % interval of the run's UAR. `mean_*`, `std_*`, `mean_low` and `mean_high` are those of
    the cell over its `seeds`, as the printed table shows them, the same in each of its rows.
    """
    rows = []
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
                    **{f"majority_{key}": value for key, value in result["majority"].items()},
                    **{f"chance_{key}": value for key, value in result["chance"].items()},
                    **{f"coverage_{m}": share for m, share in result["coverage"].items()},
                }
            )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows])

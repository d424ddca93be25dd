"""The table of a protocol `methods`: what each set of training settings does for corpora that nobody has trained on."""

from __future__ import annotations

from collections.abc import Sequence

from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.notes import result_notes
from merloco.flows.results.scores import tested_scores
from merloco.flows.results.system_comparison import SystemDifference, compare_systems
from merloco.flows.results.systems import system_of
from merloco.flows.results.tables import Key, ResultTable
from merloco.flows.results.text import number
from merloco.models.metrics.statistics import holm, mean_std
from merloco.models.protocols import Point
from merloco.pipelines.errors import DataError


def method_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """A table per feature set: UAR of each method on each left-out corpus, their mean, and its gain over the first."""
    tables = []
    for name in dict.fromkeys(outcome.cell.feature_set for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.cell.feature_set == name]
        methods = list(dict.fromkeys(outcome.cell.overrides for outcome in runs))
        scores = [score for score in tested_scores(runs) if show_leaks or not score.leaked]
        gains = {method: _gain(runs, methods[0], method) for method in methods[1:]}
        measured = [gain for gain in gains.values() if isinstance(gain, SystemDifference)]
        corrected = dict(zip(map(id, measured), holm([gain.difference.p for gain in measured]), strict=True))
        rows: list[dict[Key, str]] = []
        for method in methods:
            own = [score for score in scores if score.cell.overrides == method]
            row: dict[Key, str] = {"method": _described(method)}
            row |= {("UAR without", score.corpus): score.text("uar") for score in own}
            row["mean"] = number(mean_std([score.mean() for score in own])[0])
            gain = gains.get(method)
            row["gain"], row["95 % CI"], row["p (Holm)"] = "-", "-", "-"
            if isinstance(gain, SystemDifference):
                d = gain.difference
                row["gain"] = f"{100 * d.value:+.1f}"
                row["95 % CI"] = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
                row["p (Holm)"] = f"{corrected[id(gain)]:.3f}"
            rows.append(row)
        about = [
            f"gain: of the mean over `{_described(methods[0])}`, paired over folds, seeds and utterances.",
            *dict.fromkeys(gain for gain in gains.values() if isinstance(gain, str)),
            *_transductive(methods),
        ]
        title = f"Methods against corpus shift, features {name}"
        tables.append(ResultTable(title, rows, [*about, *result_notes(runs, show_leaks)]))
    return tables


def _gain(runs: Sequence[RunSummary], first: Point, method: Point) -> SystemDifference | str:
    """The method's mean over the folds minus the first one's; the sentence that says why there is none."""
    systems = [system_of(_described(p), [o.path for o in runs if o.cell.overrides == p]) for p in (method, first)]
    try:
        compared = compare_systems(systems)
    except DataError as error:
        return str(error)
    means = [row for row in compared.scores if row.fold is None]
    return means[0] if means else compared.scores[0]


def _described(method: Point) -> str:
    """Its settings; one that is only switched on by its name alone."""
    return ", ".join(name if value is True else f"{name} {value}" for name, value in method) or "none"


def _transductive(methods: Sequence[Point]) -> list[str]:
    used = [_described(method) for method in methods if dict(method).get("transductive")]
    return (
        [f"transductive: uses the features of the left-out corpus, not its labels: {'; '.join(used)}."] if used else []
    )

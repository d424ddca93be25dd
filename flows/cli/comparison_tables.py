"""Comparisons of runs and of systems as people read them, and of runs for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from merloco.flows.cli.console import Key, print_records
from merloco.flows.results.pairing import PairedFold, differences
from merloco.flows.results.systems import System
from merloco.flows.results.text import TITLES, mean_and_std

if TYPE_CHECKING:
    from merloco.flows.results.compare import Agreement, MetricComparison
    from merloco.flows.results.system_comparison import Comparison, Ranking
    from merloco.models.metrics.crossed import Difference
    from merloco.models.metrics.resampling import Interval

SYSTEM_TEST = (
    "Interval and p: Student's t with seeds and utterances as crossed random factors (docs/comparing.md). "
    "Holm: over all {family}."
)


def print_runs(rows: Sequence[MetricComparison], agreements: Sequence[Agreement]) -> None:
    """Print two runs: scores, differences, McNemar's tables."""
    lines = [
        {
            "corpus": row.corpus,
            "metric": TITLES[row.metric],
            "n": row.n,
            "resampled": f"{row.units} {row.resampled}",
            "only A": row.only_first,
            "only B": row.only_second,
            "A": _percent(row.first),
            "B": _percent(row.second),
            "A - B": _percent(row.difference, "+z.1f"),
            "p": row.p,
            "p (Holm)": row.p_holm,
        }
        for row in rows
    ]
    print_records(lines, "Scores in % with 95 % intervals")
    print()
    tables = [
        {
            "corpus": a.corpus,
            "both right": a.table.both_right,
            "only A right": a.table.first_right,
            "only B right": a.table.second_right,
            "both wrong": a.table.both_wrong,
            "p": a.table.p,
            "p (Holm)": a.p_holm,
            **({} if a.p_holm != a.p_holm else {"test": _mcnemar_test(a)}),
        }
        for a in agreements
    ]
    print_records(tables, "McNemar: utterances")
    print("\nIntervals: percentile bootstrap, 2,000 resamples. only A, only B: not in both, left out.")
    if any(row.p == row.p for row in rows):
        print("p: two-sided paired permutation test, 10,000 random swaps. Holm: over all rows of a table.")
        print("McNemar's test takes utterances as independent, whatever is resampled.")


def _mcnemar_test(agreement: Agreement) -> str:
    return "exact binomial" if agreement.table.exact else "chi-squared, continuity"


def run_rows(rows: Sequence[MetricComparison], agreements: Sequence[Agreement]) -> list[dict[str, Any]]:
    """One row per corpus and metric, unrounded, for machines; McNemar's columns repeat for every metric."""
    tables = {a.corpus: a for a in agreements}
    return [
        {
            "corpus": row.corpus,
            "metric": row.metric,
            "n": row.n,
            "units": row.units,
            "resampled": row.resampled,
            "only_first": row.only_first,
            "only_second": row.only_second,
            **{
                f"{name}{end}": getattr(getattr(row, name), key)
                for name in ("first", "second", "difference")
                for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
            },
            "p": row.p,
            "p_holm": row.p_holm,
            **{
                name: getattr(tables[row.corpus].table, name)
                for name in ("both_right", "first_right", "second_right", "both_wrong")
            },
            "mcnemar_p": tables[row.corpus].table.p,
            "mcnemar_p_holm": tables[row.corpus].p_holm,
        }
        for row in rows
    ]


def print_comparison(systems: Sequence[System], comparison: Comparison) -> None:
    """Print two systems: what they are, differences on every fold and their mean, by class, what was left out."""
    _print_systems(systems, letters=True)
    folds = comparison.folds
    lines = []
    for row in comparison.scores:
        fold = row.fold
        lines.append(
            {
                **_place(fold, folds),
                "metric": TITLES[row.metric],
                "n": fold and fold.n,
                "units": fold and f"{len(fold.counted.units)} {fold.resampled}",
                "seeds": row.seeds,
                "only A": fold and fold.only[0],
                "only B": fold and fold.only[1],
                "A": _mean_std(row.first),
                "B": _mean_std(row.second),
                "A - B": _percent(row.difference, "+z.1f"),
                "p": row.difference.p,
                "p (Holm)": row.p_holm,
            }
        )
    print_records(lines, "Scores in %, mean ± STD over the seeds; difference with 95 % interval")
    print()
    effects: dict[int, dict[Key, str]] = {}
    for row in comparison.recalls:
        place: dict[Key, str] = {**_place(row.fold, folds)}
        effects.setdefault(id(row.fold), place)["class", str(row.label)] = _percent(row.difference, "+z.1f")
    print_records(
        list(effects.values()),
        "Recall per class, A - B in points with 95 % interval, uncorrected; mean: over the folds that have the class",
    )
    family = "p values of the first table"
    print("\n".join(["", *comparison.notes, *_unpaired(folds), SYSTEM_TEST.format(family=family)]))


def print_ranking(systems: Sequence[System], ranking: Ranking) -> None:
    """Print several systems, best first: mean scores, the difference to the best, groups that do not differ."""
    _print_systems(systems, letters=False)
    several = len(ranking.folds) > 1
    for metric in dict.fromkeys(row.metric for row in ranking.systems):
        lines: list[dict[Key, object]] = []
        for row in ranking.systems:
            if row.metric != metric:
                continue
            scores = zip(ranking.folds, row.by_fold, strict=True)
            by_fold = {("fold", _fold_title(fold, ranking.folds)): 100 * score for fold, score in scores}
            lines.append(
                {
                    "rank": row.rank,
                    "system": row.system,
                    **({key: f"{value:.1f}" for key, value in by_fold.items()} if several else {}),
                    f"{'mean ' if several else ''}{TITLES[metric]}": _mean_std(row.score),
                    "group": row.group,
                    "best - this": _percent(row.to_best, "+z.1f") if row.rank > 1 else None,
                    "p": row.to_best.p,
                    "p (Holm)": row.p_holm,
                }
            )
        where = f"mean of {len(ranking.folds)} folds" if several else ranking.folds[0].corpus
        print_records(lines, f"{TITLES[metric]} in %, {where}, mean ± STD over the seeds; best first")
        print()
    family = "pairs of systems; systems that share a letter do not differ at 0.05"
    print("\n".join([*ranking.notes, *_unpaired(ranking.folds), SYSTEM_TEST.format(family=family)]))


def _print_systems(systems: Sequence[System], letters: bool) -> None:
    """What is compared: how many runs there are, and the settings that differ."""
    differing = differences(systems)
    lines: list[dict[Key, object]] = []
    for place, system in enumerate(systems):
        seeds = sorted({seed for runs in system.runs.values() for seed in runs})
        lines.append(
            {
                **({"": "AB"[place]} if letters else {}),
                "system": system.name,
                "runs": len(system.all_runs),
                "folds": len(system.runs),
                "seeds": ", ".join(map(str, seeds)),
                **{("setting", key): values[place] for key, values in differing.items()},
            }
        )
    print_records(lines, "Systems, and the settings in which they differ")
    print()


def _place(fold: PairedFold | None, folds: Sequence[PairedFold]) -> dict[Key, str]:
    return {"corpus": f"mean of {len(folds)} folds" if fold is None else _fold_title(fold, folds)}


def _fold_title(fold: PairedFold, folds: Sequence[PairedFold]) -> str:
    """The tested corpus, with its fold, or with the training corpora where several folds test it."""
    if fold.name is not None:
        return f"{fold.corpus}, {fold.name}"
    if fold.train is None or sum(other.corpus == fold.corpus for other in folds) == 1:
        return fold.corpus
    return f"{'+'.join(fold.train)} > {fold.corpus}"


def _unpaired(folds: Sequence[PairedFold]) -> list[str]:
    """Utterances that not all runs predicted; of two systems the table has columns for them."""
    if len(folds[0].only) == 2 or not any(any(fold.only) for fold in folds):
        return []
    counts = "; ".join(f"{fold.corpus}: up to {max(fold.only)}" for fold in folds if any(fold.only))
    return [f"left out: utterances that not all runs predicted ({counts})"]


def _mean_std(score: tuple[float, float]) -> str:
    return mean_and_std(100 * score[0], 100 * score[1])


def _percent(interval: Interval | Difference, form: str = "z.1f") -> str:
    """`value [low, high]`, the value alone where it has no interval, `-` where it is undefined."""
    if interval.value != interval.value:
        return "-"
    value, low, high = (format(100 * number, form) for number in (interval.value, interval.low, interval.high))
    return value if interval.low != interval.low else f"{value} [{low}, {high}]"

"""The command that compares two runs: compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from merloco.flows.arguments import split_list
from merloco.flows.cli.console import note, print_records, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store
from merloco.flows.results.text import TITLES
from merloco.pipelines.errors import UsageError, suggest

if TYPE_CHECKING:
    from merloco.flows.results.compare import Agreement, MetricComparison
    from merloco.models.metrics.resampling import Interval


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run, experiment/run, or the beginning of its name.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared with it.")],
    metric: Annotated[
        str, typer.Option("--metric", help="Comma-separated: uar, macro_f1, weighted_f1, accuracy.")
    ] = "uar",
    by: Annotated[
        Literal["utterance", "dialogue"] | None,
        typer.Option(
            "--by",
            help="What is resampled and swapped as a whole.",
            show_default="dialogue where a corpus has ten or more, as in every table",
        ),
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Compare two runs on the utterances that both predicted: intervals, difference, paired tests.

    Example: merloco compare loco-test-meld-seed0 loco-test-meld-seed1 --metric uar,macro_f1 --store demo/store
    """
    from merloco.features.runs import find_run, read_config
    from merloco.flows.results.compare import compare_runs
    from merloco.models.metrics.resampling import METRICS

    metrics = list(dict.fromkeys(split_list(metric) or ()))
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name!r}: {suggest(name, METRICS)}")
    opened = open_store(catalog, store)
    folders = find_run(opened.root, first), find_run(opened.root, second)
    if folders[0] == folders[1]:
        raise UsageError(f"{first!r} and {second!r} are the same run: expected two")
    for folder in folders:
        if read_config(folder)["config"].get("task") == "multi":
            note(f"{folder.name}: of several labels at once; compared by its most probable class, where one is true")
    rows, agreements = compare_runs(opened, *folders, metrics, by)
    if output != "table":
        import pyarrow as pa

        show(pa.Table.from_pylist(_plain_rows(rows, agreements)), output)
        return
    for letter, folder in zip("AB", folders, strict=True):
        print(f"{letter}  {folder.parent.name}/{folder.name}")
    print()
    _print(rows, agreements)


def _print(rows: Sequence[MetricComparison], agreements: Sequence[Agreement]) -> None:
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
            "test": "exact binomial" if a.table.exact else "chi-squared, continuity",
        }
        for a in agreements
    ]
    print_records(tables, "McNemar: utterances")
    print("\nIntervals: percentile bootstrap, 2,000 resamples. only A, only B: not in both, left out.")
    print("p: two-sided paired permutation test, 10,000 random swaps. Holm: over all rows of a table.")
    print("McNemar's test takes utterances as independent, whatever is resampled.")


def _percent(interval: Interval, form: str = "z.1f") -> str:
    value, low, high = (format(100 * number, form) for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _plain_rows(rows: Sequence[MetricComparison], agreements: Sequence[Agreement]) -> list[dict[str, Any]]:
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

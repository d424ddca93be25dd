"""The command that compares systems, or two runs: compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from merloco.flows.arguments import split_list
from merloco.flows.cli.console import Format, note, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store
from merloco.pipelines.errors import UsageError, suggest

if TYPE_CHECKING:
    from merloco.features.store import FeatureStore
    from merloco.flows.results.pairing import By
    from merloco.flows.results.systems import System

ONE_SEED = (
    "One seed each: the difference between seeds is not known, so the tests speak of these two runs only, not of their "
    "settings."
)
SEEDS_ALONE = (
    "A and B are two seeds of one setting: what differs is chance, and no test is made. Compare systems, for example "
    "`merloco compare loss=plain loss=balanced`."
)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM",
            help="Two or more: an experiment, setting=value (joined by commas), a run or the beginning of its name.",
        ),
    ],
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Take only its runs.", show_default="all runs of the store")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="Comma-separated: uar, macro_f1, weighted_f1, accuracy.")
    ] = "uar",
    by: Annotated[
        Literal["utterance", "dialogue"] | None,
        typer.Option(
            "--by",
            help="What is independent, and resampled as a whole.",
            show_default="dialogue where a corpus has ten or more, as in every table",
        ),
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Compare systems over the folds, seeds and utterances that all have: differences, paired tests, effect by class.

    A system is all runs of one setting. Three or more are ranked, with groups that do not differ.

    Example: merloco compare loss=balanced loss=plain --experiment loco --store demo/store

    Example: merloco compare modalities=text modalities=audio,text loco,modalities=audio,video,text

    Example: merloco compare loco-test-meld-seed0 cross_corpus/train-test-meld-seed0 --metric uar,macro_f1
    """
    import pyarrow as pa

    from merloco.flows.cli.comparison_tables import print_comparison, print_ranking
    from merloco.flows.results.system_comparison import (
        compare_systems,
        comparison_rows,
        rank_systems,
        ranking_rows,
    )
    from merloco.flows.results.systems import find_systems, require_distinct
    from merloco.models.metrics.resampling import METRICS

    metrics = list(dict.fromkeys(split_list(metric) or ()))
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f"unknown metric {name!r}: {suggest(name, METRICS)}")
    opened = open_store(catalog, store)
    systems = find_systems(opened.root, names, experiment)
    require_distinct(systems, seeds=True)
    for run in (run for system in systems for run in system.all_runs[:1]):
        if run.settings["task"] == "multi":
            note(
                f"{run.folder.name}: of several labels at once; compared by its most probable class, where one is true"
            )
    if len(systems) == 2 and all(system.single for system in systems):
        _compare_two_runs(opened, systems, metrics, by, output)
        return
    if len(systems) == 2:
        comparison = compare_systems(systems, metrics, by)
        if output == "table":
            print_comparison(systems, comparison)
            return
        rows, notes = comparison_rows(comparison), comparison.notes
    else:
        ranking = rank_systems(systems, metrics, by)
        if output == "table":
            print_ranking(systems, ranking)
            return
        rows, notes = ranking_rows(ranking), ranking.notes
    for sentence in notes:
        note(sentence)
    show(pa.Table.from_pylist(rows), output)


def _compare_two_runs(
    store: FeatureStore, systems: Sequence[System], metrics: Sequence[str], by: By | None, output: Format
) -> None:
    """Two runs on their utterances; how much other seeds would change is not known."""
    import pyarrow as pa

    from merloco.flows.cli.comparison_tables import print_runs, run_rows
    from merloco.flows.results.compare import compare_runs
    from merloco.flows.results.systems import same_setting

    first, second = (system.all_runs[0].folder for system in systems)
    seeds_alone = same_setting(*systems)
    rows, agreements = compare_runs(store, first, second, metrics, by, tested=not seeds_alone)
    sentence = SEEDS_ALONE if seeds_alone else ONE_SEED
    if output != "table":
        note(sentence)
        show(pa.Table.from_pylist(run_rows(rows, agreements)), output)
        return
    for letter, folder in zip("AB", (first, second), strict=True):
        print(f"{letter}  {folder.parent.name}/{folder.name}")
    print()
    print_runs(rows, agreements)
    print(sentence)

"""The commands stats and labels show."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from merloco.flows.arguments import existing_roots
from merloco.flows.cli.console import note, progress_bar, show
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    CorporaArgument,
    FormatOption,
    MediaOption,
    RootOption,
    StoreOption,
    ingested_names,
    next_command,
    open_store,
)
from merloco.pipelines.errors import DataError, UsageError, suggest

labels_app = typer.Typer(
    name="labels",
    help="Look at label maps: what the catalog makes of native labels.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def stats(
    corpora: CorporaArgument = None,
    cards: Annotated[
        Path | None, typer.Option("--cards", help="Also write a data card per corpus into this folder.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Also write the rows to this Parquet file.")] = None,
    media: MediaOption = False,
    root: RootOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output_format: FormatOption = "table",
) -> None:
    """Corpus statistics as in the paper's Table 1, beside the published row, with the reasons where they differ.

    Counted are the samples of train, val and test that have a target under the active label map.
    Example: merloco stats meld --cards cards --store demo/store
    """
    from merloco.flows.arguments import corpus_root
    from merloco.flows.cli.corpus_tables import print_stats
    from merloco.pipelines.files.formats import write_parquet
    from merloco.pipelines.samples.table import read_samples
    from merloco.pipelines.statistics.counts import stats as table_one
    from merloco.pipelines.statistics.counts import stats_table

    opened = open_store(catalog, store)
    names = ingested_names(opened.corpora(corpora or None))
    given = existing_roots(root, opened.catalog)
    if output is not None and output.is_dir():
        raise UsageError(f"--output {str(output)!r} is a folder: expected the name of a Parquet file")
    roots = {name: corpus_root(opened.catalog, name, given, opened.root) for name in names} if media else {}
    total = sum(read_samples(opened.root, name).num_rows for name in roots)
    with progress_bar(total, "media", "samples") if roots else nullcontext() as bar:
        comparisons = table_one(opened.root, opened.catalog, names, roots, bar.update if bar else None)
    table = stats_table(comparisons)
    if output_format == "table":
        print_stats(comparisons)
    else:
        show(table, output_format)
    if output is not None:
        write_parquet(output, table)
        note(f"wrote {output}: {table.num_rows} rows")
    if cards is not None:
        from merloco.features.cards.corpus import write_card

        for comparison in comparisons:
            note(f"wrote {write_card(opened, comparison, cards)}")


@labels_app.command("show")
def labels_show(
    corpus: Annotated[str, typer.Argument(help="An ingested corpus.")],
    map_name: Annotated[
        str | None, typer.Option("--map", help="A label map of the catalog.", show_default="the active one")
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Print native -> shared labels of a corpus with counts per split, for the active or another map.

    Example: merloco labels show iemocap --map six_lineage --store demo/store
    """
    from merloco.flows.cli.corpus_tables import label_table, print_label_map
    from merloco.pipelines.samples.label_counts import count_labels, unknown_labels
    from merloco.pipelines.samples.table import read_samples

    opened = open_store(catalog, store)
    entry = opened.catalog.corpus(corpus)
    name = map_name or entry.map
    if name not in entry.maps:
        raise UsageError(f"corpus {corpus!r} has no label map {name!r}: {suggest(name, entry.maps)}")
    samples = read_samples(opened.root, corpus)
    rows = count_labels(samples, corpus, entry.maps[name])
    if output == "table":
        following = partial(next_command, catalog=catalog, store=store)
        print_label_map(corpus, entry, name, samples.num_rows, rows, following)
    else:
        show(label_table(rows), output)
    unknown = unknown_labels(samples, entry.maps[name])
    if unknown:
        first, ids = next(iter(unknown.items()))
        raise DataError(
            f"corpus {corpus!r}: native labels that are not in map {name!r}: {len(unknown)}, the first {first!r} at "
            f"{ids[0]!r}: add them to `labels` of that map in the catalog (a class name, or drop)"
        )

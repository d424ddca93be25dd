"""Commands about the corpora themselves: stats, labels show, check samples."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.care import check_app
from flows.console import note, progress_bar, show
from flows.options import (
    CATALOG,
    CatalogOption,
    FormatOption,
    RootOption,
    StoreOption,
    existing_roots,
    next_command,
    open_store,
)
from pipelines.errors import DataError, UsageError, nearest

CorporaArgument = Annotated[
    list[str] | None, typer.Argument(help="Corpora.", show_default="all that are ingested", metavar="CORPORA")
]
MediaOption = Annotated[bool, typer.Option("--media", help="Open the media files too; minutes for a whole corpus.")]

labels_app = typer.Typer(
    name="labels",
    help="Look at label maps: what the catalog makes of native labels.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(stats)
    labels_app.command("show")(labels_show)
    app.add_typer(labels_app)
    check_app.command("samples")(check_samples)


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
    from flows.build import corpus_root
    from flows.corpora import print_stats
    from pipelines.files import write_parquet
    from pipelines.samples import read_samples
    from pipelines.stats import stats as table_one
    from pipelines.stats import stats_table

    opened = open_store(catalog, store)
    names = _names(opened.corpora(corpora or None))
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
        from features.datacard import write_card

        for comparison in comparisons:
            note(f"wrote {write_card(opened, comparison, cards)}")


def _names(names: list[str]) -> list[str]:
    if not names:
        raise DataError("the store holds no samples: run `merloco ingest` first")
    return names


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
    from flows.corpora import label_table, print_label_map
    from pipelines.label_counts import count_labels, unknown_labels
    from pipelines.samples import read_samples

    opened = open_store(catalog, store)
    entry = opened.catalog.corpus(corpus)
    name = map_name or entry.map
    if name not in entry.maps:
        raise UsageError(f"corpus {corpus!r} has no label map {name!r}: {nearest(name, entry.maps)}")
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


def check_samples(
    corpora: CorporaArgument = None,
    media: MediaOption = False,
    min_class: Annotated[
        int, typer.Option("--min-class", min=0, help="Warn of classes with fewer samples than this in a split.")
    ] = 5,
    root: RootOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Check ingested samples: ids, labels, lengths, files, leakage between splits, small classes, known-bad clips.

    Findings are kept in the store (SQL view `findings`). Exits with 1 if anything is an error.
    Example: merloco check samples meld --store demo/store
    """
    import pyarrow as pa

    from flows.build import corpus_root
    from flows.corpora import print_findings
    from pipelines import checks
    from pipelines.deletions import read_deletions
    from pipelines.findings import findings_table, write_findings
    from pipelines.media_checks import media_files
    from pipelines.samples import read_samples

    opened = open_store(catalog, store)
    names = _names(opened.corpora(corpora or None))
    given = existing_roots(root, opened.catalog)
    found = {}
    for name in names:
        deleted = read_deletions(opened.root, name)
        samples = read_samples(opened.root, name)
        try:
            folder = corpus_root(opened.catalog, name, given, opened.root)
        except DataError:  # no audit says where the samples came from: a finding says that no file was looked at
            folder = None
        with progress_bar(len(media_files(samples)), f"media of {name}", "files") if media else nullcontext() as bar:
            found[name] = checks.check_samples(
                name,
                opened.catalog.corpus(name),
                samples,
                folder,
                min_class=min_class,
                media=media,
                progress=bar.update if bar else None,
            )
        write_findings(opened.root, name, found[name], deleted)
    if output == "table":
        print_findings(found, partial(next_command, catalog=catalog, store=store))
    else:
        show(pa.concat_tables(findings_table(findings) for findings in found.values()), output)
    if any(finding.severity == "error" for findings in found.values() for finding in findings):
        raise typer.Exit(1)

"""The commands that check: check (the store's files) and check samples (what was ingested)."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Annotated

import typer

from merloco.flows.arguments import existing_roots
from merloco.flows.cli.console import progress_bar, show
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
from merloco.pipelines.errors import DataError, UsageError

# A command of its own, and the parent of `check samples`.
check_app = typer.Typer(name="check", invoke_without_command=True, rich_markup_mode=None)


@check_app.callback()
def check(
    context: typer.Context,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Check every file of the store: hashes, counts, widths, NaN, duplicates, orphans, stale and deleted rows.

    Every finding has a code, a severity, a place, a message and what to do next. Exits with 1 if anything is an error.
    Example: merloco check --store demo/store

    Samples have a check of their own, see `merloco check samples --help`.
    """
    if context.invoked_subcommand:
        sources = [context.get_parameter_source(name) for name in context.params]
        if any(source is not None and source.name == "COMMANDLINE" for source in sources):
            raise UsageError(f"options of `merloco check {context.invoked_subcommand}` go after that word")
        return
    from merloco.features.maintenance.check import check_store, findings_rows

    opened = open_store(catalog, store)
    shards = sum(1 for _ in (opened.root / "views").glob("*/*/*.commit.json"))
    with progress_bar(shards, "check", "shards") as bar:
        findings = check_store(opened, bar.update)
    if findings or output != "table":
        show(findings_rows(findings), output)
    errors = sum(finding.severity == "error" for finding in findings)
    if output == "table":
        print(f"{errors} errors, {len(findings) - errors} warnings." if findings else "The store is clean.")
    if errors:
        raise typer.Exit(1)


@check_app.command("samples")
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

    from merloco.flows.arguments import corpus_root
    from merloco.flows.cli.corpus_tables import print_findings
    from merloco.pipelines.checks import samples as checks
    from merloco.pipelines.checks.findings import findings_table, write_findings
    from merloco.pipelines.checks.media import media_files
    from merloco.pipelines.samples.table import read_samples
    from merloco.pipelines.samples.tombstones import read_tombstones

    opened = open_store(catalog, store)
    names = ingested_names(opened.corpora(corpora or None))
    given = existing_roots(root, opened.catalog)
    found = {}
    for name in names:
        deleted = read_tombstones(opened.root, name)
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

"""The command that writes an experiment's report: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merloco.flows.cli.console import note, progress_bar
from merloco.flows.cli.options import CATALOG, CatalogOption, StoreOption, open_store
from merloco.pipelines.errors import DataError, UsageError

if TYPE_CHECKING:
    from merloco.features.store import FeatureStore


def report(
    experiment: Annotated[
        str | None, typer.Argument(help="Name of an experiment.", show_default="that of the newest run")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", help="The HTML file to write.", show_default="report-EXPERIMENT.html")
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
) -> None:
    """Write an experiment as one HTML file: tables, figures with intervals, hardest utterances. It needs no network.

    Example: merloco report loco --output loco.html --store demo/store
    """
    from merloco.flows.report.definition import defined_runs
    from merloco.flows.report.paper import paper_tables
    from merloco.flows.report.write import write_report

    opened = open_store(catalog, store)
    name, why = (experiment, "") if experiment else _newest(opened)
    path = file or Path(f"report-{name}.html")
    if path.is_dir():
        raise UsageError(f"--output {str(path)!r} is a folder: expected a file, for example {str(path / path.name)!r}")
    defined = defined_runs(opened, name)
    with progress_bar(1, "report", "cells") as bar:

        def moved(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        size = write_report(opened, name, path, *paper_tables(opened, name, defined), moved, defined)
    if defined.left_out:
        note(defined.left_out)
    print(f"wrote {path} ({size / 1e6:.1f} MB): experiment {name!r}{why}")


def _newest(store: FeatureStore) -> tuple[str, str]:
    """The experiment of the newest run, and how it was chosen."""
    from merloco.features.runs import run_folders
    from merloco.flows.experiments.references import REFERENCE

    folders = [folder for folder in run_folders(store.root) if folder.parent.name != REFERENCE]
    if not folders:
        raise DataError(f"store {str(store.root)!r} holds no run: run `merloco train` or `merloco loco` first")
    newest = max(folders, key=lambda folder: ((folder / "config.json").stat().st_mtime_ns, folder.name))
    others = sorted({folder.parent.name for folder in folders} - {newest.parent.name})
    return newest.parent.name, f", which has the newest run (others: {', '.join(others)})" if others else ""

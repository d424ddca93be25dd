"""Commands that maintain a store: gc, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from merloco.flows.cli.console import note, progress_bar, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store
from merloco.pipelines.errors import UsageError

YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")]


def gc(
    runs: Annotated[bool, typer.Option("--runs", help="Also remove runs whose features are gone.")] = False,
    yes: YesOption = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Remove what nothing needs: leftovers of killed writers, files without a record, superseded fingerprints.

    What the catalog uses stays, and so do results of runs. Without --yes nothing is removed.
    Example: merloco gc --store demo/store
    """
    import pyarrow as pa

    from merloco.features.maintenance.gc import plan_gc, remove_items

    opened = open_store(catalog, store)
    plan = plan_gc(opened, runs)
    schema = pa.schema([("kind", pa.string()), ("where", pa.string()), ("bytes", pa.int64()), ("why", pa.string())])
    if plan.items or output != "table":
        rows = [{name: getattr(item, name) for name in schema.names} for item in plan.items]
        show(pa.Table.from_pylist(rows, schema=schema), output)
    for sentence in plan.kept:
        note(f"kept: {sentence}")
    total = sum(item.bytes for item in plan.items)
    if not plan.items:
        note("Nothing to remove.")
    elif yes:
        note(f"Removed {len(plan.items)}, {_megabytes(remove_items(opened, plan.items))} freed.")
    else:
        note(f"{len(plan.items)} can go, {_megabytes(total)}. Nothing was removed: run it again with --yes.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def delete(
    sample: Annotated[list[str] | None, typer.Option("--sample", help="Sample id, repeatable.")] = None,
    speaker: Annotated[list[str] | None, typer.Option("--speaker", help="CORPUS/SPEAKER, repeatable.")] = None,
    yes: YesOption = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Remove samples or a person from samples, shards, predictions; a later ingest does not bring them back.

    Shards are rewritten without the person and nothing else is extracted again. Without --yes nothing is changed.
    After an interruption, the same command completes it.
    Example: merloco delete --speaker iemocap/Ses01_F --store demo/store
    """
    import pyarrow as pa

    from merloco.features.maintenance.delete import delete as delete_selection
    from merloco.features.maintenance.delete import dry_run, runs_trained_on
    from merloco.features.maintenance.targets import resolve_targets

    if not sample and not speaker:
        raise UsageError("nothing to delete: give --sample ID or --speaker CORPUS/SPEAKER")
    opened = open_store(catalog, store)
    targets = resolve_targets(opened, sample or [], speaker or [])
    removals = [removal for target in targets for removal in dry_run(opened, target)]
    if yes:
        with progress_bar(sum(r.where.startswith("views/") for r in removals), "delete", "shards") as bar:
            removals = [r for target in targets for r in delete_selection(opened, target, bar.update)]
    schema = pa.schema([("where", pa.string()), ("rows", pa.int64())])
    rows = [{"where": removal.where, "rows": removal.rows} for removal in removals]
    if rows or output != "table":
        show(pa.Table.from_pylist(rows, schema=schema), output)
    samples = sum(removal.rows for removal in removals if removal.where.startswith("samples/"))
    if not rows:
        note("Nothing to delete: the store holds none of it any more.")
    elif yes:
        note(f"{samples} samples deleted; they are on the deletion list and no ingest brings them back.")
    else:
        note(f"{samples} samples to delete. Nothing was changed: run it again with --yes.")
    trained = runs_trained_on(opened, [target.corpus for target in targets])
    if trained:
        note("Weights are not changed by a deletion. These were trained on the corpus, maybe with what is deleted:")
        for folder in trained:
            note(f"  {folder}")
    note("Corpora on disk, exports, reports and data cards outside the store are not touched.")

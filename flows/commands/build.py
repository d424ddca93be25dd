"""Commands that build a store: demo, ingest, plan, extract."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.console import note, print_records, progress_bar
from flows.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    DevicesOption,
    FeaturesOption,
    FormatOption,
    ModalitiesOption,
    RootOption,
    StoreOption,
    device_list,
    existing_roots,
    modality_list,
    next_command,
    open_store,
    parse_roots,
    split_list,
)
from pipelines.catalog import load_catalog
from pipelines.decoding import TIME_LIMIT
from pipelines.errors import DataError, UsageError
from pipelines.files import storage_errors, sweep

if TYPE_CHECKING:
    from features.store import FeatureStore, PlannedShard
    from features.view import FeatureView
    from pipelines.samples import Audit

FlowOption = Annotated[bool, typer.Option("--flow/--no-flow", help="Run as a Prefect flow, or directly.")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (demo, ingest, plan, extract):
        app.command()(command)


def ingest(
    corpora: Annotated[list[str] | None, typer.Argument(help="Corpora; all that have a root if none is named.")] = None,
    root: RootOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = True,
) -> None:
    """Read corpora into samples tables and print an audit that adds up.

    Example: merloco ingest meld --root meld=data/MELD.Raw
    """
    from flows.audit import audit_table, print_audits
    from flows.build import corpus_root
    from flows.console import show

    loaded = load_catalog(catalog, store)
    roots = parse_roots(root, loaded)
    names = corpora or [name for name, entry in loaded.corpora.items() if roots.get(name) or entry.root]
    if not names:
        variables = ", ".join(f"{name.upper()}_ROOT" for name in loaded.corpora)
        raise UsageError(f"no corpus to ingest: name one and give --root CORPUS=FOLDER, or set {variables}")
    folders = {name: str(corpus_root(loaded, name, roots)) for name in names}
    target = open_store(catalog, store, create=True)
    outcomes = run_ingest(catalog, str(target.root), folders, flow)
    audits = [outcome for outcome in outcomes.values() if not isinstance(outcome, Exception)]
    if output == "table":
        print_audits(audits)
    else:
        show(audit_table(audits), output)
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    for error in errors[:-1]:
        note(f"error: {error}")
    if errors:
        raise errors[-1]
    if output == "table":
        words = ("extract", "--corpora", ",".join(folders), "--features", "light")
        print(f"\nNext: {next_command(*words, catalog=catalog, store=store)}")


def run_ingest(catalog: str, store: str, roots: dict[str, str], flow: bool) -> dict:
    """Ingest corpora as a flow or directly; an outcome per corpus, errors of data among them.

    No flow is started where every release is as it was at its last ingest: Prefect's start takes longer than reading.
    """
    from flows.attempts import TasksFailedError, attempt_all
    from flows.build import ingest_one
    from pipelines.samples import unchanged

    entries = load_catalog(catalog, store).corpora
    last = {name: unchanged(name, entries[name], Path(root), Path(store)) for name, root in roots.items()}
    if all(audit is not None for audit in last.values()):
        note(f"unchanged since the last ingest: {', '.join(roots)}")
        return last
    try:
        if flow:
            from flows.ingest import ingest_flow

            return ingest_flow(catalog, store, roots)
        with progress_bar(len(roots), "ingest", "corpora") as bar:

            def ingest(name: str, folder: str) -> Audit:
                try:
                    return ingest_one(catalog, store, name, folder)
                finally:
                    bar.update(1)

            return attempt_all({name: partial(ingest, name, folder) for name, folder in roots.items()})
    except TasksFailedError as error:
        return dict(error.outcomes)


def plan(
    features: FeaturesOption = "light",
    corpora: CorporaOption = None,
    modalities: ModalitiesOption = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Show what an extraction would do: shards by view and corpus, done and to do.

    Example: merloco plan --features light --corpora meld --store demo/store
    """
    import pyarrow as pa

    from features.card import plan_table
    from features.store import TO_DO
    from flows.console import show

    chosen = modality_list(modalities)
    opened = open_store(catalog, store)
    views = opened.views(features, chosen)
    planned = opened.plan(views.values(), split_list(corpora))
    show(pa.Table.from_pylist(plan_table(planned)), output)
    todo = sum(p.state in TO_DO for p in planned)
    if output == "table":
        print(f"\n{len(planned)} shards, {todo} to extract." + ("" if todo else " Nothing to do."))


def extract(
    features: FeaturesOption = "light",
    corpora: CorporaOption = None,
    modalities: ModalitiesOption = None,
    root: RootOption = None,
    device: DevicesOption = "auto",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do failed rows again.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read what is done and make damaged shards again.")] = False,
    max_failures: Annotated[float, typer.Option(min=0, max=1, help="Share of failed samples that ends the run.")] = 0.2,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds to decode one sample; a longer one has the status timeout.")
    ] = TIME_LIMIT,
    runner: Annotated[
        Literal["threads", "processes", "dask", "ray"], typer.Option("--runner", help="Where the shard tasks run.")
    ] = "threads",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Shards at a time.", show_default="one per device or cluster worker")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Scheduler of a running cluster.", show_default="a temporary one here")
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    flow: FlowOption = True,
) -> None:
    """Encode samples into shards; only what is missing is done, and a killed run costs at most one shard.

    Two extractions may work on one store: each takes the shards that the other does not have in hand.

    Example: merloco extract --corpora meld --features light --modalities text --store demo/store
    """
    if not flow and (runner != "threads" or workers or address):
        raise UsageError("--runner, --workers and --address belong to the flow: leave --no-flow out")
    run_extract(
        catalog,
        store,
        features,
        split_list(corpora),
        modality_list(modalities),
        roots=existing_roots(root, load_catalog(catalog, store)),
        device=device,
        retry_failed=retry_failed,
        verify=verify,
        max_failures=max_failures,
        time_limit=time_limit,
        flow=flow,
        runner=runner,
        workers=workers,
        address=address,
    )


def run_extract(
    catalog: str,
    store: str | None,
    features: str,
    corpora: list[str] | None,
    modalities: list[str] | None,
    *,
    roots: dict[str, str],
    device: str = "auto",
    retry_failed: bool = False,
    verify: bool = False,
    max_failures: float = 0.2,
    time_limit: float = TIME_LIMIT,
    flow: bool = True,
    runner: Literal["threads", "processes", "dask", "ray"] = "threads",
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Plan, extract what the plan leaves, and print the coverage."""
    from features.card import coverage_table, legs_sentence
    from features.claims import drop_dead_claims
    from features.room import require_store_room
    from flows.build import extract_jobs, forget, summarize
    from flows.shard_queue import Extracted, ShardQueue, run_here

    opened = open_store(catalog, store)
    named = split_list(device) or []
    if not address and named != ["auto"]:  # looking for a GPU takes seconds that a finished extraction need not pay
        named = device_list(device)
    views = list(opened.views(features, modalities).values())
    planned = _plan_extraction(opened, views, corpora, verify)
    if not planned:
        raise DataError(f"store {str(opened.root)!r} holds no samples: run `merloco ingest` first")
    jobs = extract_jobs(opened, catalog, planned, roots, device, retry_failed, time_limit)
    done = Extracted()
    begun = time.perf_counter()
    with storage_errors(opened.root):
        sweep(opened.root)
        drop_dead_claims(opened.root)
    if jobs:
        require_store_room(opened, planned)
        devices = device_list(device) if not address and named == ["auto"] else named
        forget()
        with progress_bar(sum(job.rows * len(job.views) for job in jobs), "extract", "samples") as bar:

            def held(number: int) -> None:
                bar.set_postfix_str(f"another extractor is working on the last {number}")

            queue = ShardQueue(opened, jobs, max_failures, bar.update, held)
            if flow:
                from flows.extract import run_extract_flow

                done = run_extract_flow(queue, features, devices, runner, workers, address)
            else:
                done = run_here(queue, devices)
    wall = time.perf_counter() - begun
    print_records(coverage_table(opened, views, opened.corpora(corpora)), "Coverage")
    print(f"\n{legs_sentence(summarize(done.commits), len(planned), wall)}")
    if lost := sum(commit.lost for view in views for commit in opened.committed(view, corpora)):
        note(
            f"{lost} rows lack media that the ingest saw: they count as work until the files are back, or until "
            "`merloco ingest` has seen that they are gone"
        )
    if done.elsewhere:
        print(f"Another extractor did {done.elsewhere} of the shards meanwhile.")


def _plan_extraction(
    store: FeatureStore, views: Sequence[FeatureView], corpora: list[str] | None, verify: bool
) -> list[PlannedShard]:
    if not verify:
        return store.plan(views, corpora)
    with progress_bar(len(store.plan(views, corpora)), "verify", "shards") as bar:
        return store.plan(views, corpora, bar.update)


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo corpora and their store go.")] = Path("demo"),
    catalog: CatalogOption = CATALOG,
    flow: FlowOption = True,
) -> None:
    """Make four miniature corpora and run everything on them: ingest, extract, leave-one-corpus-out, SQL.

    Example: merloco demo
    """
    from flows.demo import run_demo

    run_demo(folder, catalog, flow)

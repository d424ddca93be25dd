"""The commands plan and extract."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from merloco.features.catalog import load_catalog
from merloco.flows.arguments import device_list, existing_roots, split_list
from merloco.flows.cli.console import note, print_records, progress_bar
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    DevicesOption,
    FeaturesOption,
    FormatOption,
    ModalitiesOption,
    RootOption,
    StoreOption,
    open_store,
)
from merloco.flows.extract.jobs import MAX_FAILURES
from merloco.pipelines.errors import UsageError
from merloco.pipelines.media.pool import TIME_LIMIT

if TYPE_CHECKING:
    pass
from merloco.flows.cli.options import FlowOption


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

    from merloco.features.cards.coverage import plan_table
    from merloco.features.store import TO_DO
    from merloco.flows.cli.console import show

    chosen = split_list(modalities)
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
    max_failures: Annotated[
        float, typer.Option(min=0, max=1, help="Share of failed samples that ends the run.")
    ] = MAX_FAILURES,
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
        split_list(modalities),
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
    max_failures: float = MAX_FAILURES,
    time_limit: float = TIME_LIMIT,
    flow: bool = True,
    runner: Literal["threads", "processes", "dask", "ray"] = "threads",
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Plan, extract what the plan leaves, and print the coverage."""
    from merloco.features.cards.coverage import coverage_table, timings_sentence
    from merloco.flows.extract.jobs import summarize
    from merloco.flows.extract.service import plan_extraction
    from merloco.flows.extract.shard_queue import Extracted, ShardQueue, run_here

    opened = open_store(catalog, store)
    named = split_list(device) or []
    if not address and named != ["auto"]:  # looking for a GPU takes seconds that a finished extraction need not pay
        named = device_list(device)
    views = list(opened.views(features, modalities).values())
    with progress_bar(len(opened.plan(views, corpora)), "verify", "shards") if verify else nullcontext() as bar:
        planned, jobs = plan_extraction(
            opened, catalog, views, corpora, roots, device,
            retry_failed=retry_failed, verified=bar.update if bar else None, time_limit=time_limit,
        )  # fmt: skip
    done = Extracted()
    begun = time.perf_counter()
    if jobs:
        devices = device_list(device) if not address and named == ["auto"] else named
        with progress_bar(sum(job.rows * len(job.views) for job in jobs), "extract", "samples") as bar:

            def held(number: int) -> None:
                bar.set_postfix_str(f"another extractor is working on the last {number}")

            queue = ShardQueue(opened, jobs, max_failures, bar.update, held)
            if flow:
                from merloco.flows.extract.flow import run_extract_flow

                done = run_extract_flow(queue, features, devices, runner, workers, address)
            else:
                done = run_here(queue, devices)
    wall = time.perf_counter() - begun
    print_records(coverage_table(opened, views, opened.corpora(corpora)), "Coverage")
    print(f"\n{timings_sentence(summarize(done.commits), len(planned), wall)}")
    if lost := sum(commit.lost for view in views for commit in opened.committed(view, corpora)):
        note(
            f"{lost} rows lack media that the ingest saw: they count as work until the files are back, or until "
            "`merloco ingest` has seen that they are gone"
        )
    if done.elsewhere:
        print(f"Another extractor did {done.elsewhere} of the shards meanwhile.")

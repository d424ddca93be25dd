"""Commands that retrain the fusion: train, loco, experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from merloco.flows.arguments import find_device, parse_maps, parse_settings, split_list
from merloco.flows.cli.console import note, print_rows, progress_bar, show
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    DeviceOption,
    FeaturesOption,
    FormatOption,
    ModalitiesOption,
    StoreOption,
    next_command,
    open_store,
)
from merloco.pipelines.errors import UsageError

if TYPE_CHECKING:
    from merloco.flows.experiments.plan import Plan, RunSummary
    from merloco.models.fusion.spec import RunSpec

SeedsOption = Annotated[str, typer.Option("--seeds", help="Comma-separated seeds; scores are averaged over them.")]
LossOption = Annotated[
    Literal["balanced", "plain"] | None,
    typer.Option("--loss", help="Cross-entropy weighted by inverse class frequency, or plain.", show_default="catalog"),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Most epochs.", show_default="catalog")]
FusionOption = Annotated[
    str | None, typer.Option("--fusion", help="Fusion network, see `merloco kinds`.", show_default="catalog")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE, repeatable: any training setting, as a catalog has it.")
]
MapOption = Annotated[
    list[str] | None, typer.Option("--map", help="CORPUS=MAP, repeatable: label map.", show_default="catalog")
]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Learning rate.", show_default="catalog")]
ForceOption = Annotated[bool, typer.Option("--force", help="Train again even if the same run is in the store.")]
LeaksOption = Annotated[bool, typer.Option("--show-leaks", help="Show scores on corpora that an encoder has seen.")]
FlowOption = Annotated[
    bool | None,
    typer.Option("--flow/--no-flow", help="Run as a Prefect flow.", show_default="if PREFECT_API_URL is set"),
]


def train(
    train_: Annotated[str, typer.Option("--train", help="Comma-separated corpora to train and validate on.")],
    test: Annotated[str, typer.Option("--test", help="Comma-separated corpora to test on.")],
    features: FeaturesOption = "light",
    modalities: ModalitiesOption = None,
    fusion: FusionOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    learning_rate: RateOption = None,
    set_: SetOption = None,
    map_: MapOption = None,
    seeds: SeedsOption = "0",
    force: ForceOption = False,
    show_leaks: LeaksOption = False,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = None,
) -> None:
    """Train the fusion on cached features and score it.

    Example: merloco train --train meld --test meld --modalities text --store demo/store
    """
    from merloco.flows.experiments.plan import train_plan
    from merloco.flows.results.tables import print_results

    overrides = parse_settings(set_, fusion=fusion, loss=loss, epochs=epochs, learning_rate=learning_rate)
    plan = train_plan(
        split_list(train_) or (),
        split_list(test) or (),
        features,
        split_list(modalities),
        _seeds(seeds),
        overrides,
        force,
        parse_maps(map_, open_store(catalog, store).catalog),
    )
    outcomes = run_plan(catalog, store, plan, flow, device)
    print_results(outcomes, f"Trained on {train_}, tested on {test}", output, show_leaks)


def loco(
    corpora: Annotated[
        str | None, typer.Option("--corpora", help="Comma-separated corpora.", show_default="all")
    ] = None,
    features: FeaturesOption = "light",
    modalities: ModalitiesOption = None,
    fusion: FusionOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    learning_rate: RateOption = None,
    set_: SetOption = None,
    map_: MapOption = None,
    seeds: SeedsOption = "0,1,2",
    force: ForceOption = False,
    show_leaks: LeaksOption = False,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = None,
) -> None:
    """Leave one corpus out: train on all corpora but one, test on that one, for each of them.

    Example: merloco loco --features light --store demo/store
    """
    run_loco(
        catalog,
        store,
        features,
        split_list(corpora),
        modalities=split_list(modalities),
        seeds=_seeds(seeds),
        overrides=parse_settings(set_, fusion=fusion, loss=loss, epochs=epochs, learning_rate=learning_rate),
        maps=map_,
        force=force,
        output=output,
        flow=flow,
        show_leaks=show_leaks,
        device=device,
    )


def run_loco(
    catalog: str,
    store: str | None,
    features: str = "light",
    corpora: list[str] | None = None,
    *,
    modalities: list[str] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    overrides: Mapping[str, Any] = MappingProxyType({}),
    maps: list[str] | None = None,
    force: bool = False,
    output: Any = "table",
    flow: bool | None = None,
    show_leaks: bool = False,
    device: str = "auto",
) -> None:
    """Plan, train and print leave-one-corpus-out."""
    from merloco.flows.experiments.plan import loco_plan
    from merloco.flows.results.tables import print_results

    opened = open_store(catalog, store)
    names = opened.corpora(corpora)
    plan = loco_plan(names, features, modalities, seeds, overrides, force, parse_maps(maps, opened.catalog))
    outcomes = run_plan(catalog, store, plan, flow, device)
    print_results(outcomes, "Leave one corpus out", output, show_leaks)


def experiment(
    name: Annotated[str | None, typer.Argument(help="Experiment of the catalog; they are listed without one.")] = None,
    corpora: Annotated[
        str | None, typer.Option("--corpora", help="Comma-separated corpora.", show_default="the experiment's")
    ] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Comma-separated feature sets.", show_default="the experiment's")
    ] = None,
    modalities: ModalitiesOption = None,
    fusion: FusionOption = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Comma-separated seeds.", show_default="the experiment's")
    ] = None,
    set_: SetOption = None,
    map_: MapOption = None,
    force: ForceOption = False,
    show_leaks: LeaksOption = False,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = None,
) -> None:
    """Run an experiment of the catalog, as it is or changed, and print its tables, published values beside ours.

    Example: merloco experiment cross_corpus --store demo/store
    Example: merloco experiment iemocap_sessions4 --store demo/store
    Example: merloco experiment single --corpora iemocap --map iemocap=four --fusion late --store demo/store
    """
    import pyarrow as pa

    from merloco.features.catalog import load_catalog

    if name is None:
        known = load_catalog(catalog, store).experiments
        columns = ["experiment", "protocol", "features", "corpora", "about"]
        rows = [(n, e.protocol, ", ".join(e.feature_sets), ", ".join(e.corpora), e.about) for n, e in known.items()]
        show(pa.table([list(column) for column in zip(*rows, strict=True)], columns), output)
        return
    from merloco.flows.experiments.plan import experiment_plan
    from merloco.flows.results.paper import result_tables
    from merloco.flows.results.search import search_table
    from merloco.flows.results.tables import plain_table

    opened = open_store(catalog, store)
    plan = experiment_plan(
        opened,
        name,
        None if seeds is None else _seeds(seeds),
        force,
        corpora=split_list(corpora),
        features=split_list(features),
        modalities=split_list(modalities),
        overrides=parse_settings(set_, fusion=fusion),
        maps=parse_maps(map_, opened.catalog),
    )
    outcomes = run_plan(catalog, store, plan, flow, device)
    if output != "table":
        show(search_table(outcomes) if plan.protocol == "search" else plain_table(outcomes, own=True), output)
        return
    for table in result_tables(plan.protocol, outcomes, show_leaks):
        print_rows(table.columns, table.rows, table.title)
        print("\n".join(table.notes) + "\n")
    reused = sum(outcome.reused for outcome in outcomes)
    print(f"{len(outcomes)} runs, {reused} of them read from the store.")
    others = _other_runs(open_store(catalog, store).root, name, outcomes)
    if others:
        print(f"{others} more of this name in the store are of other seeds, settings or data, and in no table.")
    print(f"\nNext: {next_command('report', name, catalog=catalog, store=store)}")


def _other_runs(root: Path, experiment: str, outcomes: Sequence[RunSummary]) -> int:
    """How many runs of an experiment are none of these; a nullified score belongs to its run."""
    from merloco.features.runs import read_config, run_folders

    shown = {outcome.path for outcome in outcomes}
    others = (f for f in run_folders(root) if f.parent.name == experiment and f not in shown)
    return sum("nullify" not in read_config(folder)["config"] for folder in others)


def run_plan(catalog: str, store: str | None, plan: Plan, flow: bool | None, device: str) -> list[RunSummary]:
    """Train a plan, as a flow where a Prefect API is configured or asked for."""
    import os

    from merloco.flows.experiments.plan import training_settings
    from merloco.flows.experiments.service import execute

    opened = open_store(catalog, store)
    chosen = find_device(device)
    if flow or (flow is None and os.environ.get("PREFECT_API_URL")):
        from merloco.flows.experiments.flow import plan_flow

        return plan_flow(catalog, str(opened.root), plan, chosen)
    most = [training_settings(opened, plan, cell).epochs for cell in plan.cells for _ in plan.seeds]
    with progress_bar(sum(most), "train", "epochs") as bar:
        done: dict[int, int] = {}
        best = 0.0

        def moved(spec: RunSpec, row: dict[str, float]) -> None:
            nonlocal best
            best = max(best, row["val_uar"])
            done[id(spec)] = int(row["epoch"])
            bar.set_postfix_str(f"{len(done)} runs, best validation UAR {best:.3f}", refresh=False)
            bar.update(1)

        def finished(spec: RunSpec | None) -> None:
            """Early stopping saves the rest of a run's epochs; a run in the store saves all of them."""
            bar.total -= most[0] if spec is None else spec.config.epochs - done[id(spec)]

        outcomes = execute(opened, plan, moved, finished, note, chosen)
        bar.total = bar.n
        return outcomes


def _seeds(value: str) -> tuple[int, ...]:
    parts = split_list(value) or []
    if not parts or not all(part.isdigit() for part in parts):
        raise UsageError(f"--seeds {value!r}: expected whole numbers, for example 0,1,2")
    return tuple(int(part) for part in parts)

"""Commands that retrain the fusion: train, loco."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from flows.console import note, progress_bar
from flows.options import (
    CATALOG,
    CatalogOption,
    FeaturesOption,
    FormatOption,
    ModalitiesOption,
    StoreOption,
    modality_list,
    open_store,
    split_list,
)
from pipelines.errors import UsageError

SeedsOption = Annotated[str, typer.Option("--seeds", help="Comma-separated seeds; scores are averaged over them.")]
LossOption = Annotated[
    Literal["balanced", "plain"] | None,
    typer.Option("--loss", help="Cross-entropy weighted by inverse class frequency, or plain.", show_default="catalog"),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Most epochs.", show_default="catalog")]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Learning rate.", show_default="catalog")]
ForceOption = Annotated[bool, typer.Option("--force", help="Train again even if the same run is in the store.")]
LeaksOption = Annotated[bool, typer.Option("--show-leaks", help="Show scores on corpora that an encoder has seen.")]
FlowOption = Annotated[
    bool | None,
    typer.Option("--flow/--no-flow", help="Run as a Prefect flow.", show_default="if PREFECT_API_URL is set"),
]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (train, loco):
        app.command()(command)


def train(
    train_: Annotated[str, typer.Option("--train", help="Comma-separated corpora to train and validate on.")],
    test: Annotated[str, typer.Option("--test", help="Comma-separated corpora to test on.")],
    features: FeaturesOption = "light",
    modalities: ModalitiesOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    learning_rate: RateOption = None,
    seeds: SeedsOption = "0",
    force: ForceOption = False,
    show_leaks: LeaksOption = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = None,
) -> None:
    """Train the fusion on cached features and score it.

    Example: merloco train --train meld --test meld --features light --modalities text
    """
    from flows.retrain import Plan
    from models.protocols import Fold

    fold = Fold(tuple(split_list(train_) or ()), tuple(split_list(test) or ()))
    plan = Plan(
        experiment="train",
        protocol="train",
        feature_set=features,
        folds=(fold,),
        seeds=_seeds(seeds),
        modalities=_modalities(modalities),
        overrides=_overrides(loss=loss, epochs=epochs, learning_rate=learning_rate),
        force=force,
    )
    run_plan(catalog, store, plan, f"Trained on {train_}, tested on {test}", output, flow, show_leaks)


def loco(
    corpora: Annotated[
        str | None, typer.Option("--corpora", help="Comma-separated corpora.", show_default="all")
    ] = None,
    features: FeaturesOption = "light",
    modalities: ModalitiesOption = None,
    loss: LossOption = None,
    epochs: EpochsOption = None,
    learning_rate: RateOption = None,
    seeds: SeedsOption = "0,1,2",
    force: ForceOption = False,
    show_leaks: LeaksOption = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: FlowOption = None,
) -> None:
    """Leave one corpus out: train on all corpora but one, test on that one, for each of them.

    Example: merloco loco --features light --store demo/store
    """
    overrides = _overrides(loss=loss, epochs=epochs, learning_rate=learning_rate)
    run_loco(
        catalog,
        store,
        features,
        split_list(corpora),
        _modalities(modalities),
        _seeds(seeds),
        overrides,
        force,
        output,
        flow,
        show_leaks,
    )


def run_loco(
    catalog: str,
    store: str | None,
    features: str = "light",
    corpora: list[str] | None = None,
    modalities: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    overrides: tuple[tuple[str, Any], ...] = (),
    force: bool = False,
    output: Any = "table",
    flow: bool | None = None,
    show_leaks: bool = False,
) -> None:
    """Plan, train and print leave-one-corpus-out."""
    from flows.retrain import Plan
    from models.protocols import loco_folds

    names = open_store(catalog, store).corpora(corpora)
    plan = Plan("loco", "loco", features, tuple(loco_folds(names)), seeds, modalities, overrides, force)
    run_plan(catalog, store, plan, "Leave one corpus out", output, flow, show_leaks)


def run_plan(
    catalog: str, store: str | None, plan: Any, title: str, output: Any, flow: bool | None, show_leaks: bool = False
) -> None:
    """Train a plan, as a flow where a Prefect API is configured or asked for, and print its table."""
    import os

    from flows.results import print_results
    from flows.retrain import execute

    opened = open_store(catalog, store)
    total = len(plan.folds) * len(plan.seeds)
    with progress_bar(total, "train", "runs") as bar:
        seen: set[str] = set()

        def moved(name: str, row: dict[str, float]) -> None:
            if name not in seen:
                seen.add(name)
                bar.update(len(seen) - 1 - bar.n)
            bar.set_postfix_str(f"{name}: epoch {row['epoch']:.0f}, validation UAR {row['val_uar']:.3f}", refresh=False)

        if flow or (flow is None and os.environ.get("PREFECT_API_URL")):
            from flows.experiment import plan_flow

            outcomes = plan_flow(catalog, str(opened.root), plan)
        else:
            outcomes = execute(opened, plan, moved, note)
        bar.update(total - bar.n)
    print_results(outcomes, title, output, show_leaks)


def _seeds(value: str) -> tuple[int, ...]:
    parts = split_list(value) or []
    if not parts or not all(part.isdigit() for part in parts):
        raise UsageError(f"--seeds {value!r}: expected whole numbers, for example 0,1,2")
    return tuple(int(part) for part in parts)


def _modalities(value: str | None) -> tuple[str, ...] | None:
    names = modality_list(value)
    return None if names is None else tuple(names)


def _overrides(**values: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in sorted(values.items()) if value is not None)

"""Commands that make weights of encoders: finetune, checkpoints convert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from merloco.features.catalog import load_catalog
from merloco.flows.arguments import existing_roots, find_device
from merloco.flows.cli.console import note, progress_bar, show
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    DeviceOption,
    FormatOption,
    RootOption,
    StoreOption,
    next_command,
)

UNITS = {"read": "samples", "train": "batches"}


def finetune(
    modality: Annotated[str, typer.Option("--modality", help="audio, video or text.")],
    corpus: Annotated[str, typer.Option("--corpus", help="An ingested corpus.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="Encoder of the catalog, model folder or hub id.", show_default="that of --features"
        ),
    ] = None,
    features: Annotated[
        str, typer.Option("--features", help="Feature set that gets a variant with the new encoder.")
    ] = "published",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new encoder.", show_default="BASE_CORPUS")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs.")] = 30,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better validation UAR that end it.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows, frames or texts per step.")] = 16,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Of the encoder.", show_default="by modality")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of head, order and dropout.")] = 0,
    root: RootOption = None,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
    flow: Annotated[bool, typer.Option("--flow/--no-flow", help="Run as a Prefect flow, or directly.")] = True,
) -> None:
    """Train an encoder on one corpus and make it known as an encoder, a view and part of a feature set.

    A killed run goes on after its last epoch. The catalog file stays as it is: the store brings its encoders along.

    Example: merloco finetune --modality text --corpus meld --features light --store demo/store
    """
    from merloco.flows.finetune.plan import plan_job
    from merloco.flows.finetune.service import run_job

    settings: dict[str, float] = {"epochs": epochs, "patience": patience, "batch_size": batch_size, "seed": seed}
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    job = plan_job(
        catalog,
        store,
        modality,
        corpus,
        base=base,
        features=features,
        name=name,
        roots=existing_roots(root, load_catalog(catalog, store)),
        device=find_device(device),
        **settings,
    )
    if not job.known_base:
        note(f"what {job.base} has seen before is not known: only {corpus} counts as training data of the new encoder")
    with _bars() as progress:
        if flow:
            from merloco.flows.finetune.flow import finetune_flow

            outcome = finetune_flow(job, progress, note)
        else:
            outcome = run_job(job, progress, note)
    _print(outcome, modality, catalog, store, output)


@contextmanager
def _bars() -> Iterator[Callable[..., None]]:
    """One bar after the other: a stage's begins when its size is known, and ends when the next one's begins."""
    bars: dict[str, Any] = {}
    with ExitStack() as stack:

        def progress(stage: str, done: int, total: int, remark: str = "") -> None:
            if stage not in bars:
                stack.close()
                bars[stage] = stack.enter_context(progress_bar(total, stage, UNITS[stage]))
            bars[stage].set_postfix_str(remark, refresh=False)
            bars[stage].update(done - bars[stage].n)

        yield progress


def _print(outcome: Any, modality: str, catalog: str, store: str | None, output: Any) -> None:
    import pyarrow as pa

    about = outcome.about
    row = {
        "encoder": outcome.name,
        "corpus": about["corpus"],
        "train": about["utterances"]["train"],
        "val": about["utterances"]["val"],
        "left out": sum(about["left_out"].values()),
        "epochs": len(about["history"]) - 1,
        "best epoch": about["best_epoch"],
        "val UAR before": 100 * about["val_uar"]["before"],
        "after": 100 * about["val_uar"]["after"],
    }
    title = "Fine-tuned before, nothing to do" if outcome.reused else f"Fine-tuned from {about['base']}"
    show(pa.Table.from_pylist([row]), output, title)
    if about["left_out"]:
        note("left out: " + ", ".join(f"{status} {count}" for status, count in about["left_out"].items()))
    if output != "table":
        return
    print(f"\nweights: {outcome.folder / 'weights'}")
    print(
        f"leave-one-corpus-out shows '-' where it would be tested on {', '.join(outcome.trained_on)}, its training data"
    )
    words = ("extract", "--features", outcome.feature_set, "--modalities", modality)
    print(f"\nNext: {next_command(*words, catalog=catalog, store=store)}")


checkpoints = typer.Typer(help="Published checkpoints.", no_args_is_help=True, rich_markup_mode=None)


@checkpoints.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="A published .pt, .pth or .bin file.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The .safetensors file to write.", show_default="beside it")
    ] = None,
) -> None:
    """Check a published checkpoint key by key and write it as safetensors under today's names.

    Example: merloco checkpoints convert checkpoints/FER_static_ResNet50_AffectNet.pt
    """
    from merloco.models.checkpoints.convert import convert as convert_checkpoint

    done = convert_checkpoint(file, out or file.with_suffix(".safetensors"))
    print(f"{file} is a {done.kind} checkpoint with {done.tensors} tensors and {done.parameters:,} parameters.")
    print(f"wrote {done.path}  sha256 {done.sha256}")

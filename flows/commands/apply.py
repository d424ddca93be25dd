"""Commands that apply models: predict, transcribe, checkpoints convert."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.console import CELL, Format, note, print_records, print_rows, progress_bar, show
from flows.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    DeviceOption,
    FormatOption,
    RootOption,
    StoreOption,
    existing_roots,
    find_device,
    next_command,
    open_store,
    split_list,
)
from pipelines.errors import DataError, UsageError

checkpoints = typer.Typer(help="Published checkpoints.", no_args_is_help=True, rich_markup_mode=None)


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (predict, transcribe):
        app.command()(command)
    app.add_typer(checkpoints, name="checkpoints")


def predict(
    files: Annotated[list[Path] | None, typer.Argument(help="Video, audio or .txt files.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="A sentence, or the transcript of the one file.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of a run.", show_default="the newest of train or loco")
    ] = None,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Predict the emotion of new files or of a sentence with a trained run and its own feature set.

    Example: merloco predict clip.mp4 --text "You ruined it!" --store demo/store
    """
    from features.runs import find_run, read_config
    from flows.prediction import Prediction, predict_sources

    sources = _sources(files or [], text)
    opened = open_store(catalog, store)
    folder = find_run(opened.root, run, trained=True, default=("loco", "train"))
    outcomes = predict_sources(opened, folder, sources, find_device(device))
    done = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    _print_predictions(done, folder, read_config(folder)["config"], output)
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    for sentence in failed[:-1]:
        note(f"error: {sentence}")
    if failed:
        raise DataError(failed[-1])


def _sources(files: list[Path], text: str | None) -> list:
    from flows.prediction import Source

    if not files and not text:
        raise UsageError("nothing to predict: name files, or give a sentence with --text")
    if text and len(files) > 1:
        raise UsageError(f"--text is the transcript of one file, not of {len(files)}")
    sources = []
    for path in files:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if path.suffix == ".txt":
            sources.append(Source(str(path), text=path.read_text(encoding="utf-8", errors="replace").strip()))
        else:
            sources.append(Source(str(path), path, text))
    return sources or [Source("--text", text=text)]


def _print_predictions(predictions: list, folder: Path, config: dict[str, Any], output: Format) -> None:
    import pyarrow as pa

    from flows.prediction import describe_run

    if not predictions:
        return
    if output != "table":
        rows = [
            {
                "file": p.name,
                "run": folder.name,
                "protocol": config["protocol"],
                "trained_on": config["train"],
                "feature_set": config["feature_set"],
                "emotion": p.emotion,
                "probabilities": p.probabilities,
                "contributions": p.contributions,
                "statuses": p.statuses,
                "n_frames": p.frames,
                "n_face_frames": p.face_frames,
            }
            for p in predictions
        ]
        show(pa.Table.from_pylist(rows), output)
        return
    classes = list(predictions[0].probabilities)
    lines = [[_tail(p.name), p.emotion, *p.probabilities.values()] for p in predictions]
    print(describe_run(folder, config))
    print()
    print_rows(["file", "emotion", *classes], lines, "Probabilities")
    print()
    rows = []
    for p in predictions:
        added = {m: _contribution(p.contributions[m]) if s == "ok" else s for m, s in p.statuses.items()}
        faces = {} if p.frames is None else {"frames with a face": f"{p.face_frames} of {p.frames}"}
        rows.append({"file": _tail(p.name), **added, **faces})
    print_records(rows, "Contribution: what the emotion's probability falls by without it, or why it is not there")


def _contribution(value: float | None) -> str:
    return "alone" if value is None else f"{value:+.3f}"


def _tail(name: str) -> str:
    """The end of a long path, which says more than its beginning."""
    return name if len(name) <= CELL else f"…{name[1 - CELL :]}"


def transcribe(
    model: Annotated[str, typer.Option("--model", help="Whisper: a folder or a hub id.")] = "openai/whisper-small",
    revision: Annotated[str | None, typer.Option("--revision", help="Commit or tag of a hub model.")] = None,
    corpora: CorporaOption = None,
    root: RootOption = None,
    device: DeviceOption = "auto",
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    flow: Annotated[bool, typer.Option("--flow/--no-flow", help="Run as a Prefect flow, or directly.")] = True,
) -> None:
    """Write down samples that have sound and no text; each is heard once and kept with model and revision.

    Example: merloco transcribe --corpora afew --model checkpoints/whisper-small --store demo/store
    """
    from flows.attempts import TasksFailedError, attempt_all
    from flows.build import corpus_root
    from flows.transcription import TranscribeJob, pending_samples, transcribe_corpus

    opened = open_store(catalog, store)
    roots = existing_roots(root, opened.catalog)
    counts = {}
    for name in opened.corpora(split_list(corpora)):
        try:
            folder = corpus_root(opened.catalog, name, roots, opened.root)
        except DataError:
            folder = None
        counts[name] = len(pending_samples(opened.root, name, folder))
    todo = [name for name in counts if counts[name]]
    if not todo:
        print("Nothing to transcribe: every sample has a text, no sound, or was heard before.")
        return
    used = find_device(device)
    jobs = [
        TranscribeJob(
            catalog, str(opened.root), n, str(corpus_root(opened.catalog, n, roots, opened.root)), model, revision, used
        )
        for n in todo
    ]
    failed: TasksFailedError | None = None
    try:
        if flow:
            from flows.transcribe import transcribe_flow

            found = transcribe_flow(jobs)
        else:
            with progress_bar(sum(counts.values()), "transcribe", "samples") as bar:
                found = attempt_all({job.corpus: partial(transcribe_corpus, job, bar.update) for job in jobs})
    except TasksFailedError as error:
        failed = error
        found = {name: result for name, result in error.outcomes.items() if isinstance(result, dict)}
    if found:
        print_records([{"corpus": n, **result} for n, result in found.items()], f"Transcribed with {model}")
    if failed:
        raise failed
    words = ("extract", "--corpora", ",".join(todo), "--modalities", "text")
    print(f"\nNext: {next_command(*words, catalog=catalog, store=store)}")


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
    from models.checkpoints import convert as convert_checkpoint

    done = convert_checkpoint(file, out or file.with_suffix(".safetensors"))
    print(f"{file} is a {done.kind} checkpoint with {done.tensors} tensors and {done.parameters:,} parameters.")
    print(f"wrote {done.path}  sha256 {done.sha256}")

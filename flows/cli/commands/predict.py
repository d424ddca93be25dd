"""The command predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from merloco.flows.arguments import find_device
from merloco.flows.cli.console import MAX_CELL, Format, note, print_records, print_rows, show
from merloco.flows.cli.options import CATALOG, CatalogOption, DeviceOption, FormatOption, StoreOption, open_store
from merloco.pipelines.errors import DataError, first_names

MAX_NAMED = 5
"""Files that a note names."""


def predict(
    files: Annotated[list[Path] | None, typer.Argument(help="Video, audio or .txt files, or folders of them.")] = None,
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
    from merloco.features.runs import find_run, read_config
    from merloco.flows.experiments.prediction import Prediction, predict_sources
    from merloco.flows.experiments.prediction_inputs import find_inputs

    found = find_inputs(files or [], text)
    opened = open_store(catalog, store)
    folder = find_run(opened.root, run, trained=True, default=("loco", "train"))
    if found.skipped:
        note(f"neither media nor text, not predicted: {first_names(found.skipped, MAX_NAMED)}")
    outcomes = predict_sources(opened, folder, found.inputs, find_device(device)) if found.inputs else []
    done = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    _print_predictions(done, folder, read_config(folder)["config"], output)
    failed = [*found.problems, *(outcome for outcome in outcomes if isinstance(outcome, str))]
    for sentence in failed[:-1]:
        note(f"error: {sentence}")
    if failed:
        raise DataError(failed[-1])


def _print_predictions(predictions: list, folder: Path, config: dict[str, Any], output: Format) -> None:
    import pyarrow as pa

    from merloco.flows.experiments.prediction import describe_run

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
    return name if len(name) <= MAX_CELL else f"…{name[1 - MAX_CELL :]}"

"""The command line. Commands live in `commands/`; this file assembles them and turns errors into one sentence."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from merloco.flows.cli.commands.check import check_app
from merloco.flows.cli.commands.compare import compare
from merloco.flows.cli.commands.corpora import labels_app, stats
from merloco.flows.cli.commands.demo import demo
from merloco.flows.cli.commands.export import export
from merloco.flows.cli.commands.extract import extract, plan
from merloco.flows.cli.commands.finetune import checkpoints, finetune
from merloco.flows.cli.commands.ingest import ingest
from merloco.flows.cli.commands.maintenance import delete, gc
from merloco.flows.cli.commands.predict import predict
from merloco.flows.cli.commands.report import report
from merloco.flows.cli.commands.runs import runs_app
from merloco.flows.cli.commands.sql import QueryCommand, sql
from merloco.flows.cli.commands.train import experiment, loco, train
from merloco.flows.cli.commands.transcribe import transcribe
from merloco.flows.cli.commands.workspace import init, kinds
from merloco.flows.cli.interruptions import ClosedPipeError, Commands, InterruptedCommand, closed_pipe_code
from merloco.models.errors import ModelError
from merloco.pipelines.errors import DataError

app = typer.Typer(
    name="merloco",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    *(init, demo, ingest, plan, extract, sql, gc, delete, stats, kinds, train, loco, experiment),
    *(compare, report, predict, transcribe, finetune, export),
):
    app.command(cls=QueryCommand if command is sql else None)(command)
app.add_typer(check_app)
app.add_typer(labels_app)
app.add_typer(runs_app)
app.add_typer(checkpoints, name="checkpoints")


def _print_version(asked: bool) -> None:
    if not asked:
        return
    try:
        print(f"merloco {metadata.version('merloco')}")
    except metadata.PackageNotFoundError:
        print("merloco, not installed: run from its folder")
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Multi-corpus emotion recognition, leave one corpus out: build a feature store, ask it, retrain the fusion."""


EXTRAS = {
    **dict.fromkeys(("prefect", "fastapi"), "flows"),
    **dict.fromkeys(("decord", "cv2", "PIL", "requests", "skimage", "torchvision"), "video"),
    **dict.fromkeys(("huggingface_hub", "tokenizers", "transformers"), "text"),
    "optuna": "search",
    **dict.fromkeys(("matplotlib", "plotly", "jinja2"), "report"),
    **dict.fromkeys(("dask", "distributed", "prefect_dask"), "dask"),
    **dict.fromkeys(("prefect_ray", "ray"), "ray"),
}
"""Module -> the extra of pyproject.toml that installs it."""


def main() -> None:
    """Run the command line: exit 0 on success, 1 on a data problem, 2 on wrong usage, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be no text
    try:
        code = _run()
        sys.stdout.flush()
    except (ClosedPipeError, BrokenPipeError):
        closed = closed_pipe_code()
        if closed is None:
            raise
        code = closed
    sys.exit(code)


def _run() -> int | str | None:
    """Run the command that the arguments name; the exit code."""
    try:
        app()
    except SystemExit as exit_:
        return exit_.code
    except (DataError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"error: this needs the package of the module {error.name!r}, which is not installed: "
            f"run `pip install 'merloco[{extra}]'`",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {str(error.filename)!r}: {error.strerror}", file=sys.stderr)
        return 1
    except InterruptedCommand as interruption:
        print(f"interrupted: {interruption}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    main()

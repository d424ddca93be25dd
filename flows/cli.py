"""The command line. Commands live in flows/commands; this file assembles them and turns errors into one sentence."""

from __future__ import annotations

import os
import sys

import typer

from flows.commands import apply, ask, build, care, compare, corpora, finetune, handover, report, retrain
from models.errors import ModelError
from pipelines.errors import DataError

app = typer.Typer(
    name="merloco",
    help="Multi-corpus emotion recognition, leave one corpus out: build a feature store, ask it, retrain the fusion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (build, ask, care, corpora, retrain, compare, report, apply, finetune, handover):
    module.add_commands(app)


def main() -> None:
    """Run the command line: exit 0 on success, 1 on a data problem, 2 on wrong usage, 130 when interrupted."""
    try:
        app()
    except (DataError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of a pipe (`| head`) has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        if error.filename is None:
            raise
        print(f"error: {str(error.filename)!r}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what was committed stays; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

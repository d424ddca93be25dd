"""How a command ends early: Ctrl-C says what is kept, a pipe whose reader has enough (`| head`) is no error."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from typer.core import TyperGroup

_AGAIN = "run the same command again to go on"
KEPT = {
    "ingest": f"corpora that were read to their end are kept; {_AGAIN}",
    "extract": f"committed shards are kept; {_AGAIN}",
    "transcribe": f"transcripts that were written are kept; {_AGAIN}",
    "finetune": f"epochs that were finished are kept; {_AGAIN}",
    **dict.fromkeys(("train", "loco", "experiment"), f"finished runs are kept; {_AGAIN}"),
    "demo": f"what was finished is kept; {_AGAIN}",
    "delete": "with --yes, what is to be deleted is on its list already; run the same command again to complete it",
    "gc": "what was removed is gone, the rest is as it was; run the same command again to go on",
}
"""Command -> what an interruption leaves, and how to go on."""
UNCHANGED = "nothing in the store was changed; run the same command again to get its answer"
"""The same of commands that only read."""


class InterruptedCommand(Exception):  # noqa: N818 - no fault
    """Ctrl-C: the sentence says what is kept."""


class ClosedPipeError(Exception):
    """Somebody wrote to a pipe without a reader; the cause is the `BrokenPipeError`."""


class Commands(TyperGroup):
    """The command line's group. Typer by itself ends both ways without a word, and `| head` with an exit code of 1."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """Read the arguments, which prints where they ask for help."""
        with _own_endings(None):
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _own_endings(ctx):
            return super().invoke(ctx)


@contextmanager
def _own_endings(ctx: Any) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        name = ctx.invoked_subcommand if ctx else None
        raise InterruptedCommand(KEPT.get(name or "", UNCHANGED)) from None
    except BrokenPipeError as error:
        raise ClosedPipeError from error


def closed_pipe_code() -> int | None:
    """The exit code where nobody reads what this process prints any more; None where somebody does.

    Without a reader of the answer there is nothing left to do. One who closes standard error too has ended a command in
    the middle of its work, which is no success: 141 is what a shell calls a process that a pipe ended.
    """
    answer, notes = _is_closed(sys.stdout), _is_closed(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if _is_closed(stream):  # Python writes out what is left when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 141 if notes else 0 if answer else None


def _is_closed(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))

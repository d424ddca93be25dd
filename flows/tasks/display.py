"""What a Prefect server shows of a flow run: tags to filter by, log lines and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL

from merloco.flows.cli.console import note


def corpus_tags(corpora: Sequence[str]) -> set[str]:
    """Tags of flow and task runs that have to do with some corpora, for example `corpus:meld`."""
    return {f"corpus:{name}" for name in corpora}


def feature_tags(feature_sets: Sequence[str]) -> set[str]:
    """Tags of flow and task runs that make or use feature sets, for example `features:light`."""
    return {f"features:{name}" for name in feature_sets}


def tag_flow_run(tags: set[str]) -> None:
    """Add tags to the flow run under way; a deployment's own stay."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:  # the flow was called as a plain function
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted({*context.flow_run.tags, *tags}))


def record_table(key: str, rows: Sequence[Mapping[str, Any]], about: str) -> None:
    """Keep a table with the flow run where a server is configured; the history of a temporary one ends with it.

    Args:
        key: Name of the table over all runs; what the server does not take in a name becomes a dash.
        rows: Column -> value.
        about: What the table says.
    """
    if PREFECT_API_URL.value() and rows:
        slug = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
        create_table_artifact(table=[dict(row) for row in rows], key=slug, description=about)


def say_and_log(say: Callable[[str], None] = note) -> Callable[[str], None]:
    """A function for sentences to the user: they are said here and kept on the server with the run under way."""
    logger = get_run_logger()

    def both(sentence: str) -> None:
        logger.warning(sentence)
        say(sentence)

    return both

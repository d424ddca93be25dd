"""The command transcribe."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from merloco.flows.arguments import existing_roots, find_device, split_list
from merloco.flows.cli.console import print_records, progress_bar
from merloco.flows.cli.options import (
    CATALOG,
    CatalogOption,
    CorporaOption,
    DeviceOption,
    RootOption,
    StoreOption,
    next_command,
    open_store,
)
from merloco.pipelines.errors import DataError


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
    from merloco.flows.arguments import corpus_root
    from merloco.flows.tasks.attempts import TasksFailedError, attempt_all
    from merloco.flows.transcribe.service import TranscribeJob, pending_samples, transcribe_corpus

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
            from merloco.flows.transcribe.flow import transcribe_flow

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

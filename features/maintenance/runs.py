"""Runs by hand: the tags that somebody gives them, and their removal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merloco.features.runs import TAGS, read_config, run_folders, run_identity, run_tags
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.files.atomic import remove, temporary_name
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.samples.tombstones import locked_tombstones

MAX_TAG = 64


@dataclass(frozen=True, slots=True)
class RemovableRun:
    """A run that can go."""

    folder: Path
    bytes: int
    """What its removal frees: weights that a run of another experiment links to stay on disk."""
    tags: list[str]
    shared: list[str]
    """The same run in other experiments, `experiment/run`, which keep it."""
    why: str


def add_tag(store: Path, folder: Path, tag: str) -> list[str]:
    """Give a run a tag that it keeps when it is trained again; returns all of its tags.

    Raises:
        UsageError: The text cannot be a tag.
    """
    if not tag or tag != tag.strip() or not tag.isprintable() or "," in tag or len(tag) > MAX_TAG:
        raise UsageError(f"{tag!r} cannot be a tag: expected one line of 1 to {MAX_TAG} characters without a comma")
    with locked_tombstones(store, exclusive=True):  # a trainer may be about to replace the run
        tags = sorted({*run_tags(_present(folder)), tag})
        write_json(folder / TAGS, tags)
    return tags


def remove_tag(store: Path, folder: Path, tag: str) -> list[str]:
    """Take a tag from a run; returns those that are left.

    Raises:
        UsageError: The run has no such tag.
    """
    with locked_tombstones(store, exclusive=True):
        tags = run_tags(_present(folder))
        if tag not in tags:
            raise UsageError(f"{folder.parent.name}/{folder.name} has no tag {tag!r}: {suggest(tag, tags)}")
        tags.remove(tag)
        if tags:
            write_json(folder / TAGS, tags)
        else:
            (folder / TAGS).unlink()
    return tags


def _present(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: the run is gone: somebody removed it meanwhile")
    return folder


def removable_runs(store: Path, chosen: Sequence[Path]) -> list[RemovableRun]:
    """What a removal of runs comes to: they and their scores with a modality nullified; nothing is changed.

    A run of another experiment with the same result is a folder of its own and stays.
    """
    configs = {folder: read_config(folder)["config"] for folder in run_folders(store)}
    identities = {folder: run_identity(config) for folder, config in configs.items()}
    trained = {identities[folder]: folder for folder in chosen if "nullify" not in configs[folder]}
    why = dict.fromkeys(chosen, "chosen")
    for folder, config in configs.items():
        whole = {key: value for key, value in config.items() if key != "nullify"}
        if "nullify" in config and (source := trained.get(run_identity(whole))) and source.parent == folder.parent:
            why.setdefault(folder, f"the scores of {source.name} with {', '.join(config['nullify'])} nullified")
    return [
        RemovableRun(
            folder,
            _freed(folder),
            run_tags(folder),
            [
                f"{other.parent.name}/{other.name}"
                for other in configs
                if identities[other] == identities[folder] and other.parent != folder.parent
            ],
            reason,
        )
        for folder, reason in sorted(why.items())
    ]


def _freed(folder: Path) -> int:
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(file.st_size for file in files if file.st_nlink == 1)


def remove_runs(store: Path, runs: Iterable[RemovableRun]) -> None:
    """Remove runs, each as a whole: one whose removal is interrupted is gone, and `merloco gc` takes what is left.

    Raises:
        DataError: The store cannot be written.
    """
    with storage_errors(store), locked_tombstones(store, exclusive=True):
        for run in runs:
            if not run.folder.is_dir():
                continue  # removed by somebody else
            removed = run.folder.with_name(temporary_name(run.folder.name))
            run.folder.rename(removed)
            remove(removed)

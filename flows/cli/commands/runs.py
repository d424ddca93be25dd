"""Commands of what was tried: runs list, show, diff, tag, rm."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merloco.flows.cli.commands.maintenance import YesOption
from merloco.flows.cli.console import note, print_records, show
from merloco.flows.cli.options import CATALOG, CatalogOption, FormatOption, StoreOption, open_store
from merloco.pipelines.errors import UsageError, suggest
from merloco.pipelines.files.space import size_text

if TYPE_CHECKING:
    from merloco.features.maintenance.runs import RemovableRun
    from merloco.flows.results.runs import Difference

runs_app = typer.Typer(
    name="runs",
    help="What was tried: list, show, compare, tag and remove runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, experiment/run, or the beginning of its name.", show_default=False)
]
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]


@runs_app.command("list")
def list_(
    experiment: Annotated[str | None, typer.Option("--experiment", help="Only runs of this experiment.")] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="Only runs that train or test on it.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only runs with this tag.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=DATES, metavar="DATE", help="Only runs trained then or later, in UTC."),
    ] = None,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """List runs, the newest first: when, what, by which protocol, validation and test UAR, tags.

    Every training setting is a column of the view `runs` in SQL.
    Example: merloco runs list --experiment loco --corpus meld --store demo/store
    """
    import pyarrow as pa

    from merloco.flows.results.runs import LISTED_SCHEMA, list_runs

    opened = open_store(catalog, store)
    rows = list_runs(opened.root, experiment, corpus, tag, since)
    if output != "table":
        show(pa.Table.from_pylist(rows, schema=LISTED_SCHEMA), output)
        return
    if not rows:
        note("No run." if since or experiment else "No run: `merloco train` and `merloco loco` make some.")
        return
    print_records([_line(row) for row in rows], "Runs, the newest first; UAR in %, times in UTC")
    note(f"{_count(len(rows))}. `merloco runs show RUN` tells more of one.")


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _line(row: dict[str, Any]) -> dict[str, Any]:
    scores = [f"{corpus} {'leak' if uar is None else _percent(uar)}" for corpus, uar in row["test_uar"]]
    return {
        "trained at": f"{row['trained_at']:%Y-%m-%d %H:%M}",
        "experiment": row["experiment"],
        "protocol": row["protocol"],
        "run": row["run"],
        "name": row["name"],
        "val": _percent(row["validation"]),
        "test": ", ".join(scores) or "-",
        "tags": ", ".join(row["tags"]) or "-",
    }


def _percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{100 * share:.1f}"


@runs_app.command("show")
def show_(
    run: RunArgument,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Print what a run is: its settings, data and scores, and where it lies.

    Example: merloco runs show loco-test-meld-seed0 --store demo/store
    """
    import pyarrow as pa

    from merloco.features.runs import find_run
    from merloco.flows.results.runs import describe_run, scores_of_run
    from merloco.flows.results.text import TITLES

    folder = find_run(open_store(catalog, store).root, run)
    described, scores = describe_run(folder), scores_of_run(folder)
    rows = [dict(zip(("part", "name", "value"), row, strict=True)) for row in described]
    if output != "table":
        rows += [
            {"part": "scores", "name": f"{row['corpus']} {key}", "value": str(value)}
            for row in scores
            for key, value in row.items()
            if key != "corpus" and value is not None
        ]
        show(pa.Table.from_pylist(rows), output)
        return
    print_records(rows, f"{folder.parent.name}/{folder.name}")
    if scores:
        print()
        shares = {*TITLES, "low", "high"}
        lines = [
            {TITLES.get(key, key): _percent(value) if key in shares else value for key, value in row.items()}
            for row in scores
        ]
        print_records(lines, "Test scores in %, and the 95 % interval of the UAR")


@runs_app.command("diff")
def diff(
    first: RunArgument,
    second: RunArgument,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Print in what two runs differ: settings, views, rows, label maps and scores.

    Rows and vectors are named by hashes of their values. Whether scores differ by more than chance, `compare` says.
    Example: merloco runs diff loco-test-meld-seed0 loco-test-meld-seed1 --store demo/store
    """
    import pyarrow as pa

    from merloco.features.runs import find_run, read_config, run_identity
    from merloco.flows.results.runs import differences

    opened = open_store(catalog, store)
    folders = [find_run(opened.root, name) for name in (first, second)]
    if folders[0] == folders[1]:
        raise UsageError(f"{first!r} and {second!r} are the same run: expected two")
    found = differences(*folders)
    if output != "table":
        rows = [{"part": d.part, "name": d.name, "a": _text(d.first), "b": _text(d.second)} for d in found]
        schema = pa.schema([(name, pa.string()) for name in ("part", "name", "a", "b")])
        show(pa.Table.from_pylist(rows, schema=schema), output)
        return
    for letter, folder in zip("AB", folders, strict=True):
        print(f"{letter}  {folder.parent.name}/{folder.name}")
    if found:
        print()
        shown = ((d, _shown(d, d.first), _shown(d, d.second)) for d in found)
        print_records([{"part": d.part, "name": d.name, "A": a, "B": b} for d, a, b in shown])
    if len({run_identity(read_config(folder)["config"]) for folder in folders}) == 1:
        note("The same training under two names: what decides the result is equal.")


def _shown(difference: Difference, value: Any) -> Any:
    """Scores in percent."""
    return _percent(value) if difference.part == "scores" and isinstance(value, float) else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@runs_app.command("tag")
def tag(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="The tag.", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag away instead.")] = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
) -> None:
    """Give a run a tag, which `runs list --tag` and the view `runs` know, or take it away.

    Example: merloco runs tag loco-test-meld-seed0 baseline --store demo/store
    """
    from merloco.features.maintenance.runs import add_tag, remove_tag
    from merloco.features.runs import find_run

    opened = open_store(catalog, store)
    folder = find_run(opened.root, run)
    tags = (remove_tag if remove else add_tag)(opened.root, folder, name)
    print(f"{folder.parent.name}/{folder.name}: {', '.join(tags) or 'no tag'}")


@runs_app.command("rm")
def rm(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs, experiment/run, or beginnings of their names.", show_default=False),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="All runs of this experiment that have no tag.")
    ] = None,
    yes: YesOption = False,
    catalog: CatalogOption = CATALOG,
    store: StoreOption = None,
    output: FormatOption = "table",
) -> None:
    """Remove runs: weights, scores and predictions. The same run in another experiment stays.

    Without --yes nothing is removed.
    Example: merloco runs rm loco-test-meld-seed0 --store demo/store
    """
    import pyarrow as pa

    from merloco.features.maintenance.runs import removable_runs, remove_runs
    from merloco.features.runs import find_run

    if not runs and experiment is None:
        raise UsageError("nothing to remove: give runs, or --experiment NAME")
    opened = open_store(catalog, store)
    chosen = [find_run(opened.root, name) for name in runs or ()]
    if experiment is not None:
        chosen += [folder for folder in _untagged(opened.root, experiment) if folder not in chosen]
    items = removable_runs(opened.root, list(dict.fromkeys(chosen)))
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("where", "tags")),
            ("bytes", pa.int64()),
            *((name, pa.string()) for name in ("why", "stays")),
        ]
    )
    if items or output != "table":
        rows = [_removal(item) for item in items]
        show(pa.Table.from_pylist(rows, schema=schema), output)
    if not items:
        note("Nothing to remove.")
        return
    freed = size_text(sum(item.bytes for item in items))
    if yes:
        remove_runs(opened.root, items)
        note(f"Removed {_count(len(items))}, {freed} freed.")
    else:
        note(f"{_count(len(items))} can go, {freed}. Nothing was removed: run it again with --yes.")


def _untagged(root: Path, experiment: str) -> list[Path]:
    from merloco.features.runs import run_folders, run_tags

    folders = run_folders(root)
    known = {folder.parent.name for folder in folders}
    if experiment not in known:
        raise UsageError(f"no run has the experiment {experiment!r}: {suggest(experiment, known)}")
    untagged = []
    for folder in (folder for folder in folders if folder.parent.name == experiment):
        if tags := run_tags(folder):
            note(f"kept: {experiment}/{folder.name} has the tag {', '.join(tags)}: name it to remove it")
        else:
            untagged.append(folder)
    return untagged


def _removal(item: RemovableRun) -> dict[str, Any]:
    return {
        "where": f"runs/{item.folder.parent.name}/{item.folder.name}",
        "tags": ", ".join(item.tags) or None,
        "bytes": item.bytes,
        "why": item.why,
        "stays": ", ".join(item.shared) or None,
    }

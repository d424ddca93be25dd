"""What help and tables suggest can be pasted."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from merloco.features.store import FeatureStore
from merloco.flows.cli.app import app
from merloco.flows.cli.options import next_command
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.ingest import ingest_corpus
from tests.helpers.command_line import merloco
from tests.helpers.store_files import CATALOG, make_store


def examples(command: click.Command, name: str = "") -> dict[str, str]:
    """Command -> the example of its help, of every command below one."""
    found = {}
    if match := re.search(r"Example: merloco (.+)", command.help or ""):
        found[name] = match[1].strip()
    for child, below in getattr(command, "commands", {}).items():
        found |= examples(below, f"{name} {child}".strip())
    return found


EXAMPLES = examples(typer.main.get_command(app))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_every_command_is_one_that_it_understands(name: str) -> None:
    command: click.Command = typer.main.get_command(app)
    words = shlex.split(EXAMPLES[name])
    assert EXAMPLES[name].startswith(name)
    while getattr(command, "commands", None) and words and words[0] in command.commands:  # type: ignore[attr-defined]
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    command.make_context(name, words)


def test_every_command_has_an_example() -> None:
    assert len(EXAMPLES) >= 19


def test_the_example_of_delete_names_somebody_who_is_in_the_demo(
    capsys: pytest.CaptureFixture, demo_corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERLOCO_CATALOG", str(CATALOG))
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(tmp_path / "demo" / "store", catalog, create=True)
    ingest_corpus("iemocap", catalog.corpus("iemocap"), demo_corpora["iemocap"], store.root)
    monkeypatch.chdir(tmp_path)
    code, _, err = merloco(capsys, *shlex.split(EXAMPLES["delete"]), "--catalog", str(CATALOG))
    assert code == 0 and re.search(r"\d+ samples to delete", err)


def test_the_next_command_repeats_store_and_catalog_and_can_be_pasted() -> None:
    line = next_command("sql", "select 'a b'", catalog="my catalog.yaml", store="my store")
    assert shlex.split(line) == [
        "merloco",
        "sql",
        "select 'a b'",
        "--store",
        "my store",
        "--catalog",
        "my catalog.yaml",
    ]
    assert next_command("report", "loco", catalog="catalog.yaml", store=None) == "merloco report loco"


def test_what_a_command_suggests_runs_as_it_stands(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "my store", n=40)
    monkeypatch.chdir(tmp_path)
    places = ("--store", str(store.root), "--catalog", str(CATALOG))
    out = merloco(capsys, "check", "samples", *places)[1]
    (line,) = [line for line in out.splitlines() if line.startswith("Next: ")]
    code, _, err = merloco(capsys, *shlex.split(line.removeprefix("Next: merloco ")))
    assert code == 0, err

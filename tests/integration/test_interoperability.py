"""Every line of docs/interoperability.md, on a store whose views are as wide as the demo's."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import write_samples
from tests.helpers.store_files import CATALOG, add_sequences, make_store, meld_samples

TEXT = (CATALOG.parent / "docs" / "interoperability.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
EXPORTS = [command for command in COMMANDS if command.startswith("merloco export ")]
QUERIES = [command for command in COMMANDS if command.startswith("duckdb ")]
PEERS = ("datasets", "audformat", "polars", "lancedb", "MMSA")
"""Libraries that may be missing: not all of them install beside merloco."""
WIDTHS = {"prosody": 169, "face_hog": 512, "minilm": 384}
"""View -> width of its segments."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader of the page is: `demo/store` is here."""
    folder = tmp_path_factory.mktemp("reader")
    store = make_store(folder / "demo" / "store", n=60, extracted=False)
    samples = [
        replace(s, audio_path=f"{i}.wav", speaker=f"S{i % 3}", duration=1.0) for i, s in enumerate(meld_samples(60))
    ]
    write_samples(store.root, "meld", to_table(samples))
    for view, width in WIDTHS.items():
        add_sequences(store, view, width)
    return folder


@pytest.fixture(scope="module")
def exports(folder: Path) -> Path:
    """The reader's folder after the page's exports."""
    for command in EXPORTS:
        program = [sys.executable, "-m", "merloco.flows.cli.app", *shlex.split(command)[1:]]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    return folder


def test_every_command_of_the_page_is_tried_here() -> None:
    assert len(EXPORTS) == 5 and len(QUERIES) >= 5 and len(PYTHON) >= 10
    assert sorted(EXPORTS + QUERIES) == sorted(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: re.findall(r"^(?:from|import) (\w+)", block, re.M)[-1])
def test_a_block_runs_as_it_stands(block: str, exports: Path) -> None:
    for name in PEERS:
        if re.search(rf"^(?:from|import) {name}\b", block, re.MULTILINE):
            pytest.importorskip(name)
    environment = {**os.environ, "HF_HOME": str(exports / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", block], cwd=exports, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", QUERIES)
def test_a_query_of_the_command_line_answers(command: str, exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DuckDB's command line runs it, which is no dependency."""
    words = shlex.split(command)
    monkeypatch.chdir(exports)
    database = words[1] if words[1] != "-c" else ":memory:"
    with duckdb.connect(database, read_only=database != ":memory:") as connection:
        assert connection.execute(words[-1]).fetchall()

"""A closed pipe is no error, and Ctrl-C says what is kept and how to go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from merloco.features.store import FeatureStore
from merloco.flows.cli.app import app
from merloco.flows.cli.interruptions import KEPT
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.tombstones import locked_tombstones
from tests.helpers.command_line import meld_root
from tests.helpers.store_files import CATALOG, make_store

MERLOCO = [sys.executable, "-m", "merloco.flows.cli.app"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = make_store(tmp_path_factory.mktemp("store"), n=40)
    return ["--store", str(store.root), "--catalog", str(CATALOG)]


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    "words",
    [
        ["sql", "from samples"],
        *(["sql", "from range(100000)", "--format", output] for output in ("csv", "json", "jsonl", "parquet")),
        ["sql"],
        ["stats"],
        ["plan", "--modalities", "text"],
        ["check"],
        ["check", "samples"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_closed_pipe_is_no_error(places: list[str], words: list[str]) -> None:
    done = subprocess.run([*MERLOCO, *words, *places], stdout=closed_pipe(), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr and b"Broken" not in done.stderr and b"error" not in done.stderr


def test_help_into_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run([*MERLOCO, "--help"], stdout=closed_pipe(), stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_standard_error_is_no_success(places: list[str]) -> None:
    words = ["check", *places]
    assert subprocess.run([*MERLOCO, *words], stdout=closed_pipe(), stderr=closed_pipe(), check=False).returncode == 141


def test_rows_without_end_end_with_their_reader(places: list[str]) -> None:
    query = ["sql", "from range(1000000000000)", "--format", "csv", *places]
    process = subprocess.Popen([*MERLOCO, *query], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"range\n"
    process.stdout.close()
    assert process.wait(120) == 0 and process.stderr.read() == b""


def test_ctrl_c_says_that_a_query_changed_nothing(places: list[str]) -> None:
    query = ["sql", "from range(1000000000000)", "--format", "csv", *places]
    process = subprocess.Popen([*MERLOCO, *query], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == b"interrupted: nothing in the store was changed; run the same command again to get its answer\n"


def test_ctrl_c_in_an_ingest_says_what_is_kept(tmp_path: Path) -> None:
    """The ingest waits for a lock that this test holds, so that it is not at its end when it is interrupted."""
    places = [
        "--root",
        f"meld={meld_root(tmp_path / 'meld')}",
        "--store",
        str(tmp_path / "s"),
        "--catalog",
        str(CATALOG),
    ]
    FeatureStore.open(tmp_path / "s", load_catalog(CATALOG), create=True)
    with locked_tombstones(tmp_path / "s", "meld", exclusive=True):
        process = subprocess.Popen([*MERLOCO, "ingest", "meld", *places, "--no-flow"], stderr=subprocess.PIPE)
        assert process.stderr is not None and process.stderr.read(7) == b"\ringest"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"interrupted: corpora that were read to their end are kept; run the same command again to go on" in err
    assert b"Traceback" not in err


def test_the_commands_that_keep_something_are_commands() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert KEPT.keys() <= names

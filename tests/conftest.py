"""Fixtures that several tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import merloco.flows  # noqa: F401  (sets what Prefect reads when it is first imported)
from merloco.pipelines.demo.build import build_demo
from tests.helpers.kill_server import KillServer
from tests.helpers.prefect_server import prefect_server
from tests.helpers.store_files import CATALOG


def pytest_configure() -> None:
    """Jobs in the background ignore Ctrl-C (SIGINT), which tests send to themselves and to children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo corpora, built once per session: corpus -> root."""
    return build_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def kill_server() -> Iterator[KillServer]:
    """A process that forks children which run merloco and can be killed."""
    server = KillServer(CATALOG.parent)
    yield server
    server.close()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server on loopback: its address."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as address:
        yield address


MARKS = {"api": "server", "kill_server": "slow", "demo_corpora": "slow"}
"""Fixture -> the mark of tests that use it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKS[fixture])

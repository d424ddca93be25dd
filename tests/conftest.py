"""Fixtures that several tests share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import merloco.flows  # noqa: F401  (sets what Prefect reads when it is first imported)
from merloco.flows.api import Store
from merloco.pipelines.demo.build import build_demo
from merloco.pipelines.files.locks import file_lock
from tests.helpers.kill_server import KillServer
from tests.helpers.prefect_server import prefect_server
from tests.helpers.store_files import CATALOG


def pytest_configure() -> None:
    """Set what holds for all tests."""
    # Jobs in the background ignore Ctrl-C, which tests send to themselves and to children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No test depends on the speed of the machine; examples that share a folder overwrite each other's files.
    unhurried = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    settings.register_profile("merloco", deadline=None, suppress_health_check=unhurried)
    settings.load_profile("merloco")


@pytest.fixture(scope="session")
def demo_corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo corpora, built once for all workers of a session: corpus -> root."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with file_lock(folder / "demo.lock"):
        return build_demo(folder / "demo")


@pytest.fixture(scope="session")
def demo_store(demo_corpora: dict[str, Path]) -> Path:
    """A folder with what `merloco demo` makes, for reading: corpora and a store, built once for all workers.

    It has features of the texts of all corpora and of MELD's sound; those of pictures take minutes.
    """
    folder = demo_corpora["meld"].parents[1] / "demo_store"
    with file_lock(folder.with_name("demo_store.lock")):
        if not folder.is_dir():
            made = folder.with_name("demo_store.made")
            store = Store.open(made / "demo" / "store", CATALOG, create=True)
            store.ingest(list(demo_corpora), demo_corpora)
            store.extract("light", modalities=["text"], device="cpu")
            store.extract("light", ["meld"], ["audio"], device="cpu")
            (made / "demo" / "corpora").symlink_to(demo_corpora["meld"].parent)
            made.rename(folder)
    return folder


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

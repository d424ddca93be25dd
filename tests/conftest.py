"""Fixtures that several tests share."""

from pathlib import Path

import pytest

from pipelines.demo import build_demo


@pytest.fixture(scope="session")
def demo_corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo corpora, built once per session: corpus -> root."""
    return build_demo(tmp_path_factory.mktemp("demo"))

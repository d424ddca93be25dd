"""The documentation says what is there: its generated page is up to date, its links and paths lead somewhere."""

import re
from pathlib import Path

import pytest

from merloco.pipelines.catalog.reference import reference

WORKSPACE = Path(__file__).parents[2]
PAGES = [WORKSPACE / "README.md", WORKSPACE / "CONTRIBUTING.md", *sorted((WORKSPACE / "docs").rglob("*.md"))]


def test_the_catalog_reference_is_that_of_the_models() -> None:
    assert (WORKSPACE / "docs" / "catalog.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:pipelines|features|models|flows|tests|docs)/[\w./]*)`", text):
        assert (WORKSPACE / path).exists(), path


def test_no_sentence_of_the_code_cites_a_document_that_is_not_here() -> None:
    for path in WORKSPACE.glob("*/**/*.py"):
        if path.relative_to(WORKSPACE).parts[0] in ("pipelines", "features", "models", "flows"):
            for name in re.findall(r"\b([\w/]+\.md)[ :]+(?:section )?\d", path.read_text(encoding="utf-8")):
                assert (WORKSPACE / name).exists(), f"{path} cites {name}"

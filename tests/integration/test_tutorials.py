"""The tutorials do as typed what they show."""

import os
import shutil
from pathlib import Path

import pytest

from merloco.features.store import FeatureStore
from tests.helpers.pages import PageRun, assert_shown
from tests.helpers.store_files import CATALOG

TUTORIALS = CATALOG.parent / "docs" / "tutorials"


@pytest.fixture
def reader(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, demo_store: Path) -> PageRun:
    """In an empty folder, beside a folder `models/` and a file `features.py` that have nothing to do with merloco."""
    monkeypatch.chdir(tmp_path)
    for name in ("MERLOCO_STORE", "MERLOCO_CATALOG", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    Path("models").mkdir()
    Path("features.py").write_text("raise SystemExit('not the module that was meant')\n")

    def demo() -> None:
        """What is read only is linked, what a page adds to is a copy."""
        shutil.copytree(demo_store / "demo", "demo", symlinks=True)

    return PageRun(capsys, monkeypatch, {"merloco demo": demo})


@pytest.mark.parametrize("page", ["sql", "scikit-learn-and-pytorch"])
def test_pages_on_the_demo(page: str, reader: PageRun, demo_store: Path) -> None:
    os.symlink(demo_store / "demo", "demo")
    reader.go_through(TUTORIALS / f"{page}.md")


def test_a_corpus_an_encoder_and_a_study_of_five_corpora(reader: PageRun) -> None:
    """As typed in an empty folder; the study in Python gives the scores of the command line."""
    for page in ("own-corpus", "own-encoder", "loco-study"):
        session = reader.go_through(TUTORIALS / f"{page}.md")
    typed = FeatureStore.open("demo/store").sql(
        "select corpus, avg(value) from metrics join runs using (run) where experiment = 'loco' and split = 'test' "
        "and metric = 'uar' and list_contains(test, corpus) group by corpus"
    )
    assert session["scores"].groupby("corpus")["uar"].mean().to_dict() == pytest.approx(dict(typed.fetchall()))
    assert len(Path("report-five.html").read_bytes()) > 1_000_000


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("mean  12.41  x\n----  -----  -\n", True),
        ("mean 12.5 y", False),
        ("mean 15.9 x", False),
        ("mean 12.4 x\nmore", False),
    ],
)
def test_what_a_page_shows_is_compared_but_for_spaces_and_small_differences(printed: str, same: bool) -> None:
    if same:
        assert_shown(printed, "mean 12.40 x\n", "page:1")
    else:
        with pytest.raises(AssertionError, match="page:1"):
            assert_shown(printed, "mean 12.40 x\n", "page:1")


def test_every_tutorial_is_run() -> None:
    pages = {path.stem for path in TUTORIALS.glob("*.md")}
    assert pages == {"own-corpus", "own-encoder", "sql", "scikit-learn-and-pytorch", "loco-study"}

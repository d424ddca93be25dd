"""A store keeps the catalog that it was last built with, and opens from anywhere by it."""

import os
import shutil
from pathlib import Path

import pytest

from merloco.features.catalog import kept_differences, load_catalog
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.kept import kept_path
from merloco.pipelines.errors import DataError
from tests.helpers.command_line import meld_root, merloco, the_sentence
from tests.helpers.plugin_files import write_workspace
from tests.helpers.store_files import CATALOG, make_store


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_moved_store_opens_and_answers_without_a_catalog(tmp_path: Path, elsewhere: Path) -> None:
    make_store(tmp_path / "store", n=40)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    store = FeatureStore.open(tmp_path / "moved")
    assert store.catalog.file == kept_path(tmp_path / "moved")
    assert store.sql("select count(*) from minilm where pooled is not null").fetchall() == [(36,)]
    assert store.sql("select count(distinct emotion) from labels").fetchall() == [(4,)]


def test_the_command_line_uses_it_where_no_catalog_is_at_hand(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture
) -> None:
    root = meld_root(tmp_path / "meld")
    places = ("--store", str(tmp_path / "store"))
    arguments = ("ingest", "meld", "--root", f"meld={root}", "--no-flow", *places)
    code, _, err = merloco(capsys, *arguments)
    assert code == 1 and "keeps none" in the_sentence(err)
    assert merloco(capsys, *arguments, "--catalog", str(CATALOG))[0] == 0
    assert merloco(capsys, "sql", "select count(*) from samples", "--format", "csv", *places)[1].split() == [
        "count_star()",
        "3",
    ]
    assert merloco(capsys, *arguments)[0] == 0
    assert kept_differences(load_catalog(CATALOG), tmp_path / "store") == []


def test_variables_are_filled_in_paths_are_absolute_and_what_was_extended_is_in_it(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELD_ROOT", "release")
    monkeypatch.setenv("MERLOCO_CHECKPOINTS", "${weights}")
    Path("own.yaml").write_text("extends: merloco\nviews: {mine: {encoder: minilm}}\n")
    FeatureStore.open(tmp_path / "store", "own.yaml", create=True)
    monkeypatch.delenv("MELD_ROOT")
    monkeypatch.chdir(tmp_path)
    catalog = FeatureStore.open("store").catalog
    assert catalog.corpora["meld"].root == str(elsewhere / "release") and catalog.corpora["afew"].root == ""
    assert catalog.encoders["audio_published"].checkpoint == str(elsewhere / "${weights}" / "audio.pt")
    assert catalog.views["mine"].encoder == "minilm"
    assert catalog.label_order == load_catalog(CATALOG).label_order


def test_it_is_written_by_builds_only_and_only_when_it_changed(tmp_path: Path, elsewhere: Path) -> None:
    store = FeatureStore.open(tmp_path / "store", CATALOG, create=True)
    before = kept_path(store.root).stat()
    FeatureStore.open(tmp_path / "store", CATALOG, create=True)
    FeatureStore.open(tmp_path / "store").keep_catalog()
    assert kept_path(store.root).stat().st_ino == before.st_ino
    Path("own.yaml").write_text("extends: merloco\nviews: {mine: {encoder: minilm}}\n")
    FeatureStore.open(tmp_path / "store", "own.yaml")
    assert kept_path(store.root).stat().st_ino == before.st_ino
    FeatureStore.open(tmp_path / "store", "own.yaml").keep_catalog()
    assert "mine" in FeatureStore.open(tmp_path / "store").catalog.views


def test_a_catalog_by_name_wins_and_what_differs_is_one_line(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "store", n=40)
    Path("own.yaml").write_text(
        "extends: merloco\ncorpora: {meld: {root: other, map: three, maps: {three: {labels: "
        "{joy: happy, neutral: drop, sadness: drop, anger: drop}}}}}\n"
        "views: {prosody: {step: 1.0}, new: {encoder: minilm}}\n"
    )
    code, out, err = merloco(
        capsys, "sql", "select count(emotion) as n from labels", "--format", "csv",
        "--store", str(tmp_path / "store"), "--catalog", "own.yaml",
    )  # fmt: skip
    assert code == 0 and out.split() == ["n", "10"]
    (line,) = [line for line in err.splitlines() if "differs" in line]
    assert line.endswith("own.yaml counts, and differs from what the store was last built with: "
                         "3 (corpora.meld.map, corpora.meld.maps, views.prosody.step)")  # fmt: skip
    assert "differs" not in merloco(capsys, "sql", "select 1", "--store", str(tmp_path / "store"))[2]


def test_an_older_store_opens_with_a_catalog_and_says_what_to_do_without(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture
) -> None:
    make_store(tmp_path / "store", n=40)
    kept_path(tmp_path / "store").unlink()
    assert FeatureStore.open(tmp_path / "store", str(CATALOG)).corpora() == ["meld"]
    code, _, err = merloco(capsys, "sql", "select 1", "--store", str(tmp_path / "store"))
    assert code == 1 and "keeps none (one that is older does not): name the catalog" in the_sentence(err)


def test_a_broken_one_is_one_sentence(tmp_path: Path, elsewhere: Path) -> None:
    make_store(tmp_path / "store", n=40)
    kept_path(tmp_path / "store").write_text("corpora: [")
    with pytest.raises(DataError, match=r"store/catalog\.yaml:\d: broken YAML"):
        FeatureStore.open(tmp_path / "store")
    assert FeatureStore.open(tmp_path / "store", CATALOG).corpora() == ["meld"]


def test_without_the_plugins_of_its_maker_a_store_answers_all_the_same(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture
) -> None:
    catalog = write_workspace(tmp_path / "work", "plugin_that_goes")
    places = ("--store", str(tmp_path / "store"), "--no-flow", "--catalog", str(catalog))
    assert merloco(capsys, "ingest", "mine", "--root", f"mine={tmp_path / 'work' / 'release'}", *places)[0] == 0
    assert merloco(capsys, "extract", "--features", "own", *places)[0] == 0
    kept = kept_path(tmp_path / "store")
    kept.write_text(kept.read_text().replace("plugin_that_goes", "plugin_that_went"))
    query = ("sql", "select count(pooled) as n from letters", "--format", "csv", "--store", str(tmp_path / "store"))
    code, out, err = merloco(capsys, *query)
    assert code == 0 and out.split() == ["n", "40"]
    assert "the newest folder answers" in err and "module 'plugin_that_went' not found" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_store_that_cannot_be_written_opens(tmp_path: Path, elsewhere: Path) -> None:
    make_store(tmp_path / "store", n=40)
    for path in (tmp_path / "store").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "store").chmod(0o555)
    try:
        assert FeatureStore.open(tmp_path / "store").sql("select count(*) from samples").fetchall() == [(40,)]
    finally:
        for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
            path.chmod(0o755)

"""Data cards: what they say, that their plots are pictures, and that their bytes depend on the data alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from merloco.features.cards.corpus import ACCESS, write_card
from merloco.features.cards.plots import plot_histogram
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.checks.findings import SampleFinding, write_findings
from merloco.pipelines.samples.schema import Sample
from merloco.pipelines.statistics.counts import stats
from tests.helpers.corpora_files import counted, meld_store, merloco, needs_meld, store_of
from tests.helpers.store_files import CATALOG

SAMPLES = [
    replace(sample, duration=1.0 + i, text=f"line {i} of a talk", speaker=f"speaker {i % 3}")
    for i, sample in enumerate(counted("meld", {"train": {"joy": 6, "anger": 4}, "test": {"fear": 2}}))
]


def card(store: FeatureStore, folder: Path, corpus: str = "meld") -> str:
    [comparison] = stats(store.root, store.catalog, [corpus])
    return write_card(store, comparison, folder).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_card_counts_classes_splits_lengths_and_words(tmp_path: Path) -> None:
    text = card(store_of(tmp_path / "store", *SAMPLES), tmp_path / "cards")
    assert text.startswith("# Data card: meld\n\n12 samples. Label map `seven`: MELD's own seven classes.")
    assert "| train | 0 | 6 | 0 | 0 | 0 | 0 | 4 | 10 |" in section(text, "Classes")
    assert "| train | 10 | 10 | 10 | 3 |" in section(text, "Splits")
    assert "| test | 2 | 11 | 11.5 | 11.5 | 12 |" in section(text, "Durations")
    assert "| train | 10 | 5 | 5 | 5 | 5 |" in section(text, "Text")
    assert "| joy | happy | label | 6 | 0 | 6 |" in section(text, "Label map")
    assert "12 samples against 13708: a miniature" in section(text, "Statistics")


def test_every_plot_that_the_card_shows_is_a_picture_with_content(tmp_path: Path) -> None:
    text = card(store_of(tmp_path / "store", *SAMPLES), tmp_path / "cards")
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert shown == ["meld/classes.png", "meld/durations.png", "meld/words.png"]
    for name in shown:
        pixels = np.asarray(Image.open(tmp_path / "cards" / name).convert("RGB"))
        assert pixels.shape[:2] == (360, 800) and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_the_same_store_gives_the_same_bytes_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", *SAMPLES)
    for name in ("a", "b"):
        card(store, tmp_path / name)
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second and len(first) == 4
    assert str(tmp_path) not in first[Path("meld.md")].decode()


def test_a_corpus_without_lengths_or_text_says_so(tmp_path: Path) -> None:
    text = card(store_of(tmp_path / "store", *counted("afew", {"train": {"Angry": 2}})), tmp_path / "cards", "afew")
    assert section(text, "Text").strip() == "Not known for any sample."
    assert section(text, "Durations").strip().startswith("Not known for any sample; `merloco stats --media --cards`")
    assert sorted(path.name for path in (tmp_path / "cards" / "afew").iterdir()) == ["classes.png"]


def test_several_emotions_per_sample_are_counted_by_presence(tmp_path: Path) -> None:
    intensities = dict.fromkeys(("happy", "sad", "anger", "surprise", "disgust", "fear"), 0.0)
    sample = Sample("mosei/train/a", "mosei", "train", intensities=intensities | {"happy": 1.0, "sad": 1.0})
    text = card(store_of(tmp_path / "store", sample), tmp_path / "cards", "mosei")
    assert "A sample can have several." in section(text, "Classes")
    assert "| train | 1 | 1 | 0 | 0 | 0 | 0 | 1 |" in section(text, "Classes")


def test_findings_are_those_of_the_last_check(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", *SAMPLES)
    assert "run `merloco check samples meld`" in section(card(store, tmp_path / "cards"), "Findings")
    write_findings(store.root, "meld", [])
    assert "found nothing" in section(card(store, tmp_path / "cards"), "Findings")
    finding = SampleFinding("meld", "shared_text", "warning", 2, ("meld/train/a",), "a | b occurs twice")
    write_findings(store.root, "meld", [finding])
    row = section(card(store, tmp_path / "cards"), "Findings").strip().splitlines()[-1]
    assert row == "| warning | shared_text | 2 | a \\| b occurs twice |"


def test_the_last_bin_of_a_histogram_takes_the_tail(tmp_path: Path) -> None:
    values = {"train": [float(n) for n in range(100)] + [10_000.0], "test": []}
    plot_histogram(tmp_path / "h.png", values, "duration (s)", whole=False)
    assert Image.open(tmp_path / "h.png").size == (800, 360)


def test_every_corpus_of_the_catalog_has_an_access_sentence() -> None:
    assert set(ACCESS) == set(load_catalog(CATALOG).corpora)


def test_the_command_writes_a_card_per_corpus(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", *SAMPLES, *counted("afew", {"train": {"Angry": 2}}))
    code, _, err = merloco(capsys, store, "stats", "--cards", str(tmp_path / "cards"))
    assert code == 0 and err.count("wrote") == 2
    assert sorted(path.name for path in (tmp_path / "cards").glob("*.md")) == ["afew.md", "meld.md"]


@needs_meld
def test_the_card_of_the_real_meld_annotations(tmp_path: Path) -> None:
    text = card(meld_store(tmp_path / "store"), tmp_path / "cards")
    assert "| paper, Table 1 | 12:04 | 0.2 | 304.9 | 3.2 | 9989 | 1109 | 2610 | 7 | 1426.9 | 1427.0 |" in text
    assert "| test | 2610 | 2610 | 280 | 100 |" in section(text, "Splits")
    assert "| annotation rows found | 13708 |" in section(text, "Ingest audit")

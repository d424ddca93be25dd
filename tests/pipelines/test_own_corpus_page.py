"""What docs/own-corpus.md shows works as typed."""

import re
from pathlib import Path

import pytest

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import parse_corpus
from merloco.pipelines.corpora.table.ids import sample_id_of
from tests.helpers.store_files import CATALOG
from tests.helpers.table_corpora import touch, write_table

PAGE = (CATALOG.parent / "docs" / "own-corpus.md").read_text(encoding="utf-8")
REST = "encoders: {}\nviews: {}\nfeature_sets: {}\n"
TABLE, FOLDER = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_table_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, first = re.findall(r"labels\.csv +(\S+)\n.* +(\S+)\n", PAGE)[0]
    others = (f"clips/rec_{i}.wav;{label};s{i};d{i};0;1.5;no" for i, label in enumerate(("anger", "boredom"), start=1))
    write_table(tmp_path / "data" / "mine", header, first, *others)
    touch(tmp_path / "data" / "mine", [f"clips/rec_{i}.wav" for i in range(3)])
    (tmp_path / "catalog.yaml").write_text(TABLE + REST)
    monkeypatch.delenv("MINE_ROOT", raising=False)
    entry = load_catalog(tmp_path / "catalog.yaml").corpus("mine")
    parsed = parse_corpus("mine", entry, tmp_path / entry.root)
    assert not parsed.errors and {s.split for s in parsed.samples} == {"train", "val", "test"}
    sample = parsed.samples[0]
    assert sample.sample_id == "mine/d0/clips/rec_0/t0-1500" and sample.audio_status == "ok" and sample.text == "hello"


def test_the_folder_and_the_id_of_the_page(tmp_path: Path) -> None:
    touch(tmp_path, ["dev/anger/s1_a.wav"])
    (tmp_path / "catalog.yaml").write_text(FOLDER + REST)
    entry = load_catalog(tmp_path / "catalog.yaml").corpus("mine")
    (sample,) = parse_corpus("mine", entry, tmp_path).samples
    assert (sample.split, sample.label, sample.speaker) == ("val", "anger", "s1")
    name, made = re.findall(r"\(`(rec 0)` is `(\S+)`\)", PAGE)[0]
    assert sample_id_of("mine", ["d0", name]) == f"mine/d0/{made}"

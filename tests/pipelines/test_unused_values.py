"""Values of a corpus entry that did nothing are said by the ingest."""

from pathlib import Path

import pytest

from merloco.pipelines.catalog.entries import MediaRules, MultiLabel, Validation
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.catalog.unused_values import unused_values
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import Sample
from tests.helpers.command_line import meld_root, merloco
from tests.helpers.store_files import CATALOG

ENTRIES = load_catalog(CATALOG).corpora
SAMPLE = Sample("meld/train/dia0_utt0", "meld", "train", label="joy")


def test_ids_of_no_sample_are_noted_at_ingest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = meld_root(tmp_path / "meld")
    rules = MediaRules(known_bad={"meld/train/dia0_utt0": "x", "meld/train/dia0_utt9": "x"}, over_long=("meld/a/b",))
    entry = ENTRIES["meld"].model_copy(update={"media_rules": rules})
    audit = ingest_corpus("meld", entry, root, tmp_path / "store")
    note = "catalog: 2 of 3 ids of media_rules are of no sample here (first: known_bad meld/train/dia0_utt9)"
    assert note in audit.notes
    arguments = ("--root", f"meld={root}", "--store", str(tmp_path / "s"), "--catalog", str(CATALOG), "--no-flow")
    assert "13 of 13 ids of media_rules are of no sample here" in merloco(capsys, "ingest", "meld", *arguments)[1]


@pytest.mark.parametrize(
    ("corpus", "changes", "key"),
    [
        ("meld", {"validation": Validation()}, "validation"),
        ("mosei", {"reported": "validation"}, "reported"),
        ("mosei", {"media_rules": MediaRules(max_seconds=3.0)}, "media_rules"),
    ],
)
def test_a_key_that_the_parser_does_not_read_is_noted(corpus: str, changes: dict, key: str) -> None:
    entry = ENTRIES[corpus].model_copy(update=changes)
    sentences = unused_values(entry, [])
    assert f"catalog: {key} changes nothing, the parser {corpus} does not read it" in sentences
    assert not [s for s in unused_values(ENTRIES[corpus], [SAMPLE]) if "does not read" in s]


def test_a_multi_section_without_intensities_is_noted() -> None:
    seven = ENTRIES["meld"].maps["seven"].model_copy(update={"multi": MultiLabel()})
    entry = ENTRIES["meld"].model_copy(update={"maps": {"seven": seven}, "media_rules": MediaRules()})
    assert unused_values(entry, [SAMPLE]) == [
        "catalog: map 'seven' has a `multi` section, but no sample has intensities: it changes nothing"
    ]

"""Options of a corpus are its parser's: declared there, checked when the catalog is loaded, handed over."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus, register_parser
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.hashing import sha256_text
from merloco.pipelines.samples.ingest import release_state
from merloco.pipelines.samples.schema import Sample
from tests.helpers.store_files import CATALOG

TEXT = CATALOG.read_text(encoding="utf-8")
SECTION = "parser: iemocap"


class Inner(BaseModel):
    depth: int = 1


class Loose(BaseModel):
    """A plugin's model as pydantic makes it by default: lists, conversions, no word about unknown keys."""

    columns: list[str] = []
    inner: Inner = Inner()


@register_parser("loose", options=Loose)
def parse_loose(entry: CorpusEntry, root: Path, options: Loose) -> Parsed:
    return Parsed([Sample(f"loose/a/{column}", "loose", "train") for column in options.columns])


def load(tmp_path: Path, lines: str, parser: str = "iemocap"):
    path = tmp_path / "catalog.yaml"
    path.write_text(TEXT.replace(SECTION, f"parser: {parser}\n{lines}"), encoding="utf-8")
    return load_catalog(path)


@pytest.mark.parametrize(
    ("parser", "lines", "line", "sentence"),
    [
        ("iemocap", "    options: {test_sesion: 2}", 1, "options.test_sesion' of the parser iemocap: did you mean"),
        ("iemocap", "    options:\n      tags: strip\n      test_session: 9", 3, "expected 5 or less, found 9"),
        ("iemocap", "    options: {tags: no}", 1, "options.tags: expected 'strip' or 'keep', found the text 'no'"),
        ("iemocap", "    options: [tags]", 1, r"options: expected a mapping \(key: value\), found a list"),
        ("meld", "    options: {tags: keep}", 1, "options.tags': the parser meld has no options"),
        ("loose", "    options: {colums: [a]}", 1, r"of the parser loose: did you mean 'columns'\?"),
        ("loose", "    options: {inner: {depth: x}}", 1, "corpora.iemocap.options.inner.depth: "),
        ("losse", "    options: {columns: [a]}", 0, r"unknown parser 'losse': did you mean 'loose'\?"),
        ("iemocap", "    test_session: 2", 1, "'corpora.iemocap.test_session' is an option of the parser iemocap:"),
        ("iemocap", "    tags: keep", 1, "expected it in corpora.iemocap.options"),
        ("loose", "    columns: [a]", 1, "is an option of the parser loose: expected it in corpora.iemocap.options"),
        ("meld", "    test_session: 2", 1, "unknown key 'corpora.iemocap.test_session': "),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_sentence_with_its_line(
    tmp_path: Path, parser: str, lines: str, line: int, sentence: str
) -> None:
    at = TEXT[: TEXT.index(SECTION)].count("\n") + 1 + line
    with pytest.raises(DataError, match=rf"catalog\.yaml:{at}: .*{sentence}") as error:
        load(tmp_path, lines, parser)
    assert "\n" not in str(error.value)


def test_any_pydantic_model_is_taken_and_its_values_reach_the_parser(tmp_path: Path) -> None:
    entry = load(tmp_path, "    options: {columns: [a, b]}", "loose").corpus("iemocap")
    assert [s.sample_id for s in parse_corpus("loose", entry, tmp_path).samples] == ["loose/a/a", "loose/a/b"]


def test_an_entry_made_in_python_is_checked_too(tmp_path: Path) -> None:
    entry = load_catalog(CATALOG).corpus("iemocap").model_copy(update={"options": {"tags": "none"}})
    with pytest.raises(DataError, match=re.escape("parser 'iemocap': options.tags: expected 'strip' or 'keep'")):
        parse_corpus("iemocap", entry, tmp_path)


def test_an_option_is_part_of_what_an_ingest_was_and_its_default_is_not_news(tmp_path: Path) -> None:
    entry = load_catalog(CATALOG).corpus("iemocap")
    states = [
        release_state(entry.model_copy(update={"options": options}), tmp_path)
        for options in ({}, {"test_session": 5}, {"test_session": 4})
    ]
    assert states[0] == states[1] != states[2]


def test_the_shipped_corpora_keep_their_identity_from_before_there_were_options(tmp_path: Path) -> None:
    entries = load_catalog(CATALOG).corpora
    states = "".join(release_state(entries[name], tmp_path) for name in ("iemocap", "meld", "mosei", "afew"))
    assert sha256_text(states) == "585376e1964be9cc6791ea658da90e14b3966a80672284c6b93cab2cbbdeab37"


def test_the_catalog_loads_no_parser_without_options_and_no_reader_of_tables() -> None:
    code = (
        "import sys; from merloco.pipelines.catalog.loader import load_catalog; load_catalog('catalog.yaml');"
        "print(*sorted(name[26:] for name in sys.modules if name.startswith('merloco.pipelines.corpora.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CATALOG.parent)
    assert done.stdout.split() == ["base", "cells", "table", "table.options", "table.parser", "table.patterns"]

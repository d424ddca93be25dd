"""A catalog may extend another: mappings by key, null takes out, and an error names the file that it stands in."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.catalog.document import document_text, read_document
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.catalog.source import BUILTIN
from merloco.pipelines.errors import DataError
from tests.helpers.store_files import CATALOG

TEXT = CATALOG.read_text(encoding="utf-8")


def load(folder: Path, text: str):
    (folder / "catalog.yaml").write_text(text, encoding="utf-8")
    return load_catalog(folder / "catalog.yaml")


def test_the_catalog_that_comes_along_is_the_one_of_the_workspace() -> None:
    assert BUILTIN.read_bytes() == CATALOG.read_bytes()


def test_what_stands_in_the_own_file_counts_and_the_rest_is_as_shipped(tmp_path: Path) -> None:
    shipped = load_catalog(CATALOG)
    own = load(
        tmp_path,
        "extends: merloco\ncorpora: {meld: {root: here}}\n"
        "views: {prosody: {step: ~}, quick: {encoder: prosody, window: 1.0}}\nexperiments: {grid: ~}\n",
    )
    assert own.corpora["meld"] == shipped.corpora["meld"].model_copy(update={"root": "here"})
    assert (own.views["prosody"].step, own.views["prosody"].window) == (None, 4.0)
    assert own.views["quick"].window == 1.0 and own.views["minilm"] == shipped.views["minilm"]
    assert own.experiments.keys() == shipped.experiments.keys() - {"grid"}


def test_a_chain_of_files_in_other_folders(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.yaml").write_text("extends: merloco\nstore: labs\nviews: {a: {encoder: prosody}}\n")
    own = load(tmp_path, "extends: lab/lab.yaml\nviews: {a: {fps: 5.0}, b: {encoder: minilm}}\n")
    assert (own.store, own.views["a"].encoder, own.views["b"].encoder) == ("labs", "prosody", "minilm")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extends: merloco\nviews: {minilm: {encodr: x}}\n", r"catalog\.yaml:2: unknown key 'views.minilm.encodr'"),
        (
            "extends: merloco\nviews:\n  prosody:\n    step: 9\n",
            r"catalog\.yaml:3: .*a step of 9 s with a window",
        ),
        ("extends: merloco\nencoders: {minilm: ~}\n", r"builtin\.yaml:\d+: views.minilm: unknown encoder 'minilm'"),
        ("extends: merloco\nviewz: {}\n", r"catalog\.yaml:2: unknown key 'viewz': did you mean 'views'"),
        ("extneds: merloco\n", r"catalog\.yaml:1: unknown key 'extneds': did you mean 'extends'"),
        ("extends: merlico\n", r"catalog\.yaml:1: extends: '.*merlico' not found: expected merloco, or a file"),
        ("store: x\nextends: 3\n", r"catalog\.yaml:2: extends: expected merloco, or a file"),
        ("extends: ~\n", r"catalog\.yaml:1: extends: expected merloco, or a file"),
        ("extends: catalog.yaml\n", r"catalog\.yaml:1: extends: 'catalog.yaml' comes back to a file"),
        ("extends: merloco\ncorpora: {nobody: ~}\n", r"catalog\.yaml:2: corpora.nobody: expected a mapping"),
    ],
)
def test_a_wrong_value_is_said_with_the_file_that_has_it(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["no", "1e3", "0o17", "010", "<<", "~", "1:30", "2024-01-01", ".inf", "=", "- a", "#", ""]),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_a_value_that_is_written_reads_as_itself(tmp_path_factory: pytest.TempPathFactory, value: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(document_text(value), encoding="utf-8")
    assert read_document(path).value == value

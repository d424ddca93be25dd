"""A catalog's values: numbers are numbers, names are names, every sentence has its line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.pipelines.catalog.document import read_document
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError

CATALOG = Path(__file__).parents[2] / "catalog.yaml"
TEXT = CATALOG.read_text(encoding="utf-8")


def read(tmp_path: Path, text: str) -> object:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    return read_document(tmp_path / "c.yaml").value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, word) for word in ("yes", "no", "on", "off", "y", "N", "Yes", "OFF")),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("Null", None)),
        *(("10", 10), ("-3", -3), ("0", 0), ("0x1F", 31), ("0o17", 15), ("1e-4", 1e-4), ("1.0e-4", 1e-4), (".5", 0.5)),
        *(("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("12:30:45.6", "12:30:45.6")),
        *(("'10'", "10"), ('"010"', "010"), ("!!str 010", "010"), ("0x", "0x"), ("=", "=")),
        (".inf", float("inf")),
    ],
)
def test_values_are_those_of_the_core_schema(tmp_path: Path, written: str, value: object) -> None:
    found = read(tmp_path, f"a: {written}\n")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "name", ["no", "yes", "on", "off", "null", "~", "1", "010", "1.0", "true", "2024-01-01", "1:30"]
)
def test_every_key_is_a_name_as_it_is_written(tmp_path: Path, name: str) -> None:
    assert list(read(tmp_path, f"{name}: x\n")) == [name]
    (tmp_path / "catalog.yaml").write_text(TEXT.replace("{neutral: neutral, joy:", f"{{{name}: neutral, joy:"))
    assert load_catalog(tmp_path / "catalog.yaml").corpus("meld").maps["seven"].labels[name] == "neutral"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 010\n", r":2: 010 begins with a zero: write 10, or quote it if it is a name"),
        ("a: 1\nb: [1, 007.5]\n", r":2: 007.5 begins with a zero: write 7.5"),
        ("a: 1\nb: 2\n'a': 3\n", r":3: broken YAML: key 'a' is there twice, first in line 1"),
        ("a:\n  no: 1\n  x: 2\n  no: 3\n", r":4: .*key 'no' is there twice, first in line 2"),
        ("a: 1\nb: !thing x\n", r":2: broken YAML: unknown tag '!thing'"),
        ("a: 1\n? [b]\n: x\n", r":2: a list or mapping as a key: expected a name"),
        ("a: 1\nb: &b [*b]\n", r":2: the alias stands for a value that it is part of itself"),
        ("a: 1\n<<: 3\n", r":2: `<<` takes over the keys of mappings"),
        ("a: " + "9" * 5000, r":1: '9+' is no number that can be read"),
        ("a: " + "[" * 900 + "]" * 900, "too deep for a catalog"),
        ("a: " + "[" * 50000, "maximum nesting depth"),
        ("a: \x07", "control characters"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
            "more than 100,000 values",
        ),
    ],
)
def test_what_no_catalog_can_mean_is_a_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_another_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes("store: x\n".encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_document(tmp_path / "c.yaml")


def test_aliases_and_merged_mappings_work(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\nmore: {<<: [{a: 7}, *base]}\n"
    assert read(tmp_path, text) == {"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 3}, "more": {"a": 7, "b": 2}}


def test_the_line_of_a_value_is_that_of_the_innermost_one_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a:\n  b:\n    - x\n    - y\n")
    document = read_document(tmp_path / "c.yaml")
    assert [document.place(at)[1] for at in (("a", "b", 1), ("a", "b", 9), ("a", "no"), ("no",))] == [4, 2, 1, 1]


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20))
def test_any_text_in_quotes_is_itself(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("c")
    assert read(folder, yaml.safe_dump({"a": text}, default_style='"')) == {"a": text}
    assert read(folder, yaml.safe_dump({text: "b"}, default_style='"')) == {text: "b"}


PIECES = [
    "yes",
    "010",
    "1:30",
    "null",
    "[",
    "]",
    "{",
    "}",
    ":",
    "- ",
    "&a ",
    "*a",
    "!!int ",
    "\t",
    "'",
    '"',
    "#",
    "|",
    "%",
]


@settings(max_examples=150)
@given(st.data())
def test_a_mangled_catalog_is_read_or_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 30))
        text = text[:start] + data.draw(st.sampled_from(["", *PIECES])) + text[start + length :]
    path = tmp_path_factory.mktemp("c") / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_catalog(path)
    except DataError as error:
        assert "\n" not in str(error)

"""What a catalog may say of a corpus without code, and the sentences on what it may not."""

from pathlib import Path

import pytest

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.corpora.table.options import TableOptions
from merloco.pipelines.errors import DataError

CATALOG = """corpora:
  mine:
    parser: table
    root: data
    options: {}
    map: all
    maps:
      all: {{labels: {{joy: happy}}}}
encoders: {{}}
views: {{}}
feature_sets: {{}}
"""
GOOD = "{file: l.csv, columns: {name: id, label: emotion}}"


def load(folder: Path, options: str) -> Catalog:
    (folder / "catalog.yaml").write_text(CATALOG.format(options), encoding="utf-8")
    return load_catalog(folder / "catalog.yaml")


@pytest.mark.parametrize(
    "options",
    [
        GOOD,
        "{files: [a.csv, b.csv], columns: {media: path, intensities: [joy, anger]}}",
        "{files: {train: a.csv, dev: [b.csv, c.csv], none: d.csv}, columns: {dialogue: d, turn: t}}",
        "{pattern: '{speaker}_{label}', splits: {by: speaker, test: [s1], val: 0.1}}",
        "{pattern: ['a/{speaker}_{label}.wav', 'b/{speaker}_{label}.mp4'], values: {label: {'01': joy}}}",
    ],
)
def test_what_may_be_said(tmp_path: Path, options: str) -> None:
    said = load(tmp_path, options).corpora["mine"].options
    assert TableOptions.model_validate(said).model_fields_set == said.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{values: {label: {a: b}}}", "nothing to read: expected one of file, files and pattern"),
        ("{file: l.csv}", "columns is missing"),
        ("{file: l.csv, pattern: '{x}.wav', columns: {name: id}}", "file and pattern: expected one of file"),
        ("{pattern: '{x}.wav', columns: {name: id}}", "a pattern has fields"),
        ("{file: l.csv, colums: {name: id}}", "colums' of the parser table: did you mean 'columns'?"),
        ("{file: l.csv, columns: {name: id, lable: e}}", "options.columns.lable': did you mean 'label'?"),
        ("{file: l.csv, columns: {label: e}}", "nothing names an utterance"),
        ("{file: l.csv, columns: {media: a, video: b}}", "media beside audio or video"),
        ("{file: l.csv, columns: {name: a, label: b, intensities: [c]}}", "label and intensities: expected one"),
        ("{files: {tran: l.csv}, columns: {name: id}}", "unknown split 'tran': did you mean 'train'?"),
        ("{files: 3, columns: {name: id}}", "files: expected a mapping (key: value), found 3"),
        ("{pattern: '{lable}_{x}.wav'}", "field 'lable': did you mean 'label'?"),
        ("{pattern: '{a}{b}.wav'}", "nothing stands between {b} and the field before it"),
        ("{pattern: 'a.wav'}", "has no field"),
        ("{pattern: '{a.wav'}", "a brace without its other one"),
        ("{pattern: '{a:x}.wav'}", "{a:x}: expected a name, or name:letters"),
        ("{pattern: '../{a}.wav'}", "expected a path below the root"),
        ("{pattern: '{a}/*.wav'}", "expected a path below the root"),
        ("{pattern: '{a}.wav', values: {b: {c: d}}}", "values: 'b' is none of a"),
        (
            "{pattern: '{modality}_{a}.wav', values: {modality: {'1': sound}}}",
            "modality 'sound': expected one of audio",
        ),
        ("{pattern: '{a}.wav', splits: {by: speker, test: 0.1}}", "splits.by: expected 'speaker', 'dialogue' or"),
        ("{pattern: '{a}.wav', splits: {test: 1.5}}", "a share of 1.5: expected a number between 0 and 1"),
        ("{pattern: '{a}.wav', splits: {test: s5}}", "test: 's5': expected a share such as 0.2, or a list of names"),
        ("{pattern: '{a}.wav', splits: {test: [5]}}", "5 among names: quote it"),
        ("{pattern: '{a}.wav', splits: {test: 0.6, val: 0.4}}", "leave nothing to train on"),
        ("{pattern: '{a}.wav', splits: {test: [a], val: [a]}}", "'a' is in test and in val"),
        ("{pattern: '{a}.wav', splits: {by: random, test: [a]}}", "names need `by: speaker` or `by: dialogue`"),
        ("{pattern: '{a}.wav', splits: {by: speaker}}", "splits: expected test, val or both"),
    ],
)
def test_what_may_not_is_one_sentence_with_its_line(tmp_path: Path, options: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, options)
    assert said in str(error.value) and "catalog.yaml:5: " in str(error.value) and "\n" not in str(error.value)

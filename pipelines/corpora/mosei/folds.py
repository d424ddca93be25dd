"""CMU-MOSEI's standard folds, read from a file beside the data.

The official lists come with the CMU Multimodal SDK as `cmu_mosei_std_folds.py`; a copy of that file in the root is
parsed as text, never run. A table with the columns `video` and `split` does as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from merloco.pipelines.corpora.annotation_tables import read_table
from merloco.pipelines.corpora.base import Parsed
from merloco.pipelines.corpora.cells import split_of, unknown_split
from merloco.pipelines.corpora.folders import find_entry
from merloco.pipelines.errors import DataError

FOLDS_FILE = "cmu_mosei_std_folds.py"
FOLDS_TABLE = "folds.csv"
COLUMNS = ("video", "split")
"""Of the table."""
LISTS = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}


def read_folds(root: Path, parsed: Parsed) -> dict[str, str] | None:
    """Video id -> split, or None where the root has no fold file; `parsed` gets how a table was read.

    Raises:
        DataError: The file is there but does not hold the lists.
    """
    for folder in (root, root / "Labels", root / "Raw", root / "Raw" / "Labels"):
        if (file := find_entry([folder], FOLDS_FILE)) is not None:
            return _from_python(file)
        if (file := find_entry([folder], FOLDS_TABLE)) is not None:
            return _from_table(file, parsed)
    return None


def _from_python(path: Path) -> dict[str, str]:
    expected = f"expected the lists {', '.join(LISTS)}"
    try:
        tree = ast.parse(path.read_bytes())
        lists = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in LISTS
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path.name}: not a list of folds ({error}): {expected}") from None
    for name in LISTS:
        if not isinstance(lists.get(name), (list, tuple, set)):
            raise DataError(f"{path.name}: no list {name}: {expected}")
    return _without_overlap(path, ((str(video), LISTS[name]) for name in LISTS for video in lists[name]))


def _from_table(path: Path, parsed: Parsed) -> dict[str, str]:
    table = read_table(path, COLUMNS)
    table.require(COLUMNS)
    pairs = []
    for number, row in table.rows():
        if isinstance(row, str) or not row["video"].strip():
            problem = row if isinstance(row, str) else "the video is empty"
            raise DataError(f"{path.name}:{number}: {problem}; expected a video and train, val or test")
        split = split_of(row["split"])
        if split is None:
            raise DataError(f"{path.name}:{number}: {unknown_split(row['split'])}")
        pairs.append((row["video"].strip(), split))
    parsed.add_reading(path.name, table.remarks)
    return _without_overlap(path, pairs)


def _without_overlap(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    folds: dict[str, str] = {}
    for video, split in pairs:
        if folds.setdefault(video, split) != split:
            raise DataError(f"{path.name}: video {video!r} is in {folds[video]} and in {split}; expected one fold")
    return folds

"""CMU-MOSEI's standard folds, read from a file beside the data.

The official lists come with the CMU Multimodal SDK as `cmu_mosei_std_folds.py`; a copy of that file in the root is
parsed as text, never run. A table with the columns `video` and `split` does as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from merloco.pipelines.corpora.annotation_files import read_rows
from merloco.pipelines.errors import DataError

FOLDS_FILE = "cmu_mosei_std_folds.py"
FOLDS_TABLE = "folds.csv"
LISTS = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}
NAMES = {"train": "train", "val": "val", "valid": "val", "dev": "val", "test": "test"}
CODES = {"0": "train", "1": "val", "2": "test", "3": "none"}
"""Numbers that a common label table uses for the folds."""


def read_folds(root: Path) -> dict[str, str] | None:
    """Video id -> split, or None where the root has no fold file.

    Raises:
        DataError: The file is there but does not hold the lists.
    """
    for folder in (root, root / "Labels", root / "Raw", root / "Raw" / "Labels"):
        if (folder / FOLDS_FILE).is_file():
            return _from_python(folder / FOLDS_FILE)
        if (folder / FOLDS_TABLE).is_file():
            return _from_table(folder / FOLDS_TABLE)
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


def _from_table(path: Path) -> dict[str, str]:
    header, rows = read_rows(path)
    if not {"video", "split"} <= set(header):
        raise DataError(f"{path.name}: expected the columns video and split")
    pairs = []
    for number, cells in rows:
        row = {} if isinstance(cells, str) else dict(zip(header, cells, strict=False))
        name = row.get("split", "").strip().lower()
        if name not in NAMES or not row["video"].strip():
            raise DataError(f"{path.name}:{number}: split {name!r}: expected a video and train, val or test")
        pairs.append((row["video"].strip(), NAMES[name]))
    return _without_overlap(path, pairs)


def _without_overlap(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    folds: dict[str, str] = {}
    for video, split in pairs:
        if folds.setdefault(video, split) != split:
            raise DataError(f"{path.name}: video {video!r} is in {folds[video]} and in {split}; expected one fold")
    return folds

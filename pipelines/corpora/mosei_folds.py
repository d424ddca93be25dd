"""CMU-MOSEI's standard folds, read from a file beside the data (corpora.md 3.5).

The official lists come with the CMU Multimodal SDK as `cmu_mosei_std_folds.py`; a copy of that file in the root is
parsed as text, never run. A table with the columns `video` and `split` does as well.
"""

from __future__ import annotations

import ast
import csv
from pathlib import Path

from pipelines.errors import DataError

FOLDS_FILE = "cmu_mosei_std_folds.py"
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
        if (folder / "folds.csv").is_file():
            return _from_table(folder / "folds.csv")
    return None


def _from_python(path: Path) -> dict[str, str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists = {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in LISTS
        }
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{path.name}: not a list of folds ({error}): expected {', '.join(LISTS)}") from None
    if set(lists) != set(LISTS):
        raise DataError(f"{path.name}: expected the lists {', '.join(LISTS)}, found {', '.join(lists) or 'none'}")
    return {str(video): LISTS[name] for name, videos in lists.items() for video in videos}


def _from_table(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or not {"video", "split"} <= set(rows[0]):
        raise DataError(f"{path.name}: expected the columns video and split")
    folds = {}
    for number, row in enumerate(rows, start=2):
        name = str(row["split"]).strip().lower()
        if name not in NAMES:
            raise DataError(f"{path.name}:{number}: split {name!r}: expected train, val or test")
        folds[str(row["video"])] = NAMES[name]
    return folds

"""Walking folders with what they link to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk_once(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows linked folders, each folder once; the list of folders may be changed as there."""
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        yield folder, folders, files

"""Folders of a release: found in any case, and a root that is one level too high or too low."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from merloco.pipelines.errors import DataError

LEVELS_ABOVE = 3
"""Folders above a root in which the release is looked for, to say where it is."""


def find_entry(places: Iterable[Path], name: str) -> Path | None:
    """The first entry `name` of some folders, in any case where none is exact; `a/b` is the entry b of a folder a."""
    for place in places:
        if (place / name).exists():
            return place / name
        path: Path | None = place
        for part in name.split("/"):
            path = _child(path, part) if path else None
        if path is not None:
            return path
    return None


def _child(folder: Path, name: str) -> Path | None:
    if (folder / name).exists():
        return folder / name
    same = [path for path in folder.iterdir() if path.name.casefold() == name.casefold()] if folder.is_dir() else []
    return same[0] if len(same) == 1 else None


def find_release(root: Path, holds: Callable[[Path], bool], expected: str, notes: list[str]) -> Path:
    """The folder of a release: the root, or the only folder in it that holds one, which a note says.

    Raises:
        DataError: There is none, or there are several. The sentence names them, or a folder above that holds one;
            else it is `expected`.
    """
    if holds(root):
        return root
    inside = _folders_in(root)
    below = [path for path in inside if holds(path)]
    if len(below) == 1:
        notes.append(f"the release is in {below[0].name}/ of the root")
        return below[0]
    below = below or [path for folder in inside for path in _folders_in(folder) if holds(path)]
    if below:
        names = ", ".join(repr(str(path)) for path in below[:3])
        raise DataError(f"{expected}; folders in it are releases: give one of them as the root: {names}")
    above = folder_above(root, holds)
    if above is not None:
        raise DataError(f"{expected}; a folder above it is the release: give {str(above)!r} as the root")
    raise DataError(expected)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # a folder that cannot be listed holds nothing that could be read
        return []


def folder_above(root: Path, holds: Callable[[Path], bool]) -> Path | None:
    """The nearest folder above a root for which `holds` is true."""
    for folder in list(root.absolute().parents)[:LEVELS_ABOVE]:
        with suppress(OSError):  # a folder that cannot be listed is none to name
            if holds(folder):
                return folder
    return None

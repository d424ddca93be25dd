"""Media files by the paths that a table gives: with any known ending, in any case, never outside the root."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from merloco.pipelines.corpora.clips import ending_rank, is_video, media_files, named_orphans
from merloco.pipelines.corpora.folders import find_entry
from merloco.pipelines.errors import first_names
from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS


class MediaFile(NamedTuple):
    """The file of a cell."""

    path: str | None
    """Relative to the root; where it is missing, where it was expected; null where that is outside the root."""
    found: bool
    is_video: bool
    problem: str | None = None
    """Why the cell can be no path."""


NO_FILE = MediaFile(None, False, False)


@dataclass(slots=True)
class MediaFolders:
    """Media below a folder of the root; a folder is listed when the first path leads into it."""

    root: Path
    folder: Path
    """Where paths begin."""
    _listed: dict[str, list[Path]] = field(default_factory=dict)
    _found: dict[tuple[str, bool | None], MediaFile] = field(default_factory=dict)
    _used: set[Path] = field(default_factory=set)
    _missing: dict[str, None] = field(default_factory=dict)
    _renamed: dict[str, None] = field(default_factory=dict)

    def find(self, cell: str, video: bool | None = None) -> MediaFile:
        """The file that a cell names.

        Args:
            cell: A path relative to the folder, or one that lies below the root; its ending may be another one or lack.
            video: Only pictures (true), sound before pictures (false), or pictures before sound.
        """
        if not cell.strip():
            return NO_FILE
        key = cell.strip(), video
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, cell: str, video: bool | None) -> MediaFile:
        path = self._relative(cell)
        if path is None:
            problem = f"{cell!r} leads out of the corpus root; expected a path below it"
            return MediaFile(None, False, False, problem)
        exact = self.root / path
        if not (os.path.isfile(exact) and (video is not True or is_video(exact))):
            exact = self._similar(path, video) or exact
        found = os.path.isfile(exact) and (video is not True or is_video(exact))
        where = exact.relative_to(self.root).as_posix()
        if found:
            self._used.add(exact)
            if where != path:
                self._renamed[where] = None
        else:
            self._missing[path] = None
        return MediaFile(where, found, is_video(exact))

    def _relative(self, cell: str) -> str | None:
        """A cell as a path relative to the root, null where it leads out of it."""
        cell = cell if "/" in cell else cell.replace("\\", "/")
        base = self.folder.relative_to(self.root).as_posix()
        if os.path.isabs(cell):
            path = os.path.relpath(posixpath.normpath(cell), self.root)
        else:
            path = posixpath.normpath(posixpath.join(base, cell))
        return None if "\0" in path or path.split("/")[0] == ".." or posixpath.isabs(path) else path

    def _similar(self, path: str, video: bool | None) -> Path | None:
        """The file of the same stem with another ending or in another case, if it is the only one."""
        parent, name = posixpath.split(path)
        stem = _stem(name)
        if parent not in self._listed:
            self._listed[parent] = media_files(find_entry([self.root], parent) if parent else self.root)
        same = [p for p in self._listed[parent] if p.stem.casefold() == stem.casefold() and (is_video(p) or not video)]
        stems = {p.stem for p in same}
        if len(stems) > 1:
            same = [p for p in same if p.stem == stem]
        return min(same, key=lambda p: (is_video(p) if video is False else not is_video(p), *_rank(p)), default=None)

    def name_of(self, cell: str) -> str:
        """What a path calls an utterance: without its ending, the same on every machine."""
        path = self._relative(cell)
        if path is None:
            return _stem(posixpath.basename(cell))
        base = self.folder.relative_to(self.root).as_posix()
        return _stem(path.removeprefix(f"{base}/"))

    def notes(self) -> Iterator[str]:
        """Files under another name than the table's, and files of no row where rows miss theirs."""
        if self._renamed:
            yield f"media under another name or ending than the table's: {first_names(sorted(self._renamed))}"
        orphans = sorted(
            path.relative_to(self.root).as_posix()
            for paths in self._listed.values()
            for path in paths
            if path not in self._used
        )
        if self._missing:
            missing = sorted(self._missing)
            yield f"media files of rows that are not there: {first_names(missing)}"
            if orphans:
                stems = [_stem(posixpath.basename(path)) for path in missing]
                yield f"media files of no row, not used: {named_orphans(orphans, stems)}"


def _stem(path: str) -> str:
    """A path without the ending of a media file; a dot in another name is no ending."""
    stem, ending = posixpath.splitext(path)
    return stem if ending.lower() in (*VIDEO_ENDINGS, *AUDIO_ENDINGS) else path


def _rank(path: Path) -> tuple[int, str]:
    return ending_rank(path, VIDEO_ENDINGS[0])

"""Media files of a release: by stem, in any case, with any known ending.

Where several files have one stem, the released ending is taken, then the others in the order of `VIDEO_ENDINGS` or
`AUDIO_ENDINGS`, then the first name; a note says so. Names that begin with `.` (the `._` stubs of macOS) are no media.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from merloco.pipelines.errors import FIRST_NAMES, first_names
from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS

MIN_LIKENESS = 0.6


def media_files(folder: Path | None) -> list[Path]:
    """Media files in a folder, sorted by name."""
    if folder is None or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_media(entry.name) and entry.is_file())
    return [folder / name for name in names]


def is_media(name: str) -> bool:
    """Whether a file's name is one of media."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in (*VIDEO_ENDINGS, *AUDIO_ENDINGS)


def is_video(path: Path) -> bool:
    """Whether a media file's ending is one of pictures."""
    return path.suffix.lower() in VIDEO_ENDINGS


def ending_rank(path: Path, released: str) -> tuple[int, str]:
    """Order of preference among files of one stem: the released ending first."""
    ending = path.suffix.lower()
    order = (released, *VIDEO_ENDINGS, *AUDIO_ENDINGS)
    return order.index(ending), path.name


@dataclass(slots=True)
class MediaIndex:
    """Files of a kind by stem, relative to a root."""

    exact: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    """Files whose stem another file has."""
    _folded: dict[str, list[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Stems that were asked for and found."""

    @classmethod
    def of(cls, paths: Iterable[Path], root: Path, released: str) -> MediaIndex:
        """Index some files; `released` is the ending that the release has."""
        index = cls()
        for path in sorted(paths, key=lambda path: ending_rank(path, released)):
            relative = path.relative_to(root).as_posix()
            if path.stem in index.exact:
                index.unused.append(relative)
            else:
                index.exact[path.stem] = relative
                index._folded.setdefault(path.stem.casefold(), []).append(path.stem)
        return index

    def claim(self, stems: Iterable[str]) -> None:
        """Say which stems there are, so that none is given the file of another one that differs in case."""
        self.taken.update(self.exact.keys() & set(stems))

    def find(self, stem: str) -> str | None:
        """The file of a stem: of the same case, else the only one of another case that no other stem has taken."""
        if stem not in self.exact:
            others = [other for other in self._folded.get(stem.casefold(), ()) if other not in self.taken]
            if len(others) != 1:
                return None
            stem = others[0]
        self.taken.add(stem)
        return self.exact[stem]

    def notes(self, what: str, missing: Sequence[str]) -> Iterator[str]:
        """Files that were not used: beside another of their stem or, where some are `missing`, with no known stem."""
        if self.unused:
            yield f"{what}: not used beside a file of the same name: {first_names(self.unused)}"
        orphans = sorted(self.exact[stem] for stem in self.exact.keys() - self.taken)
        if orphans and missing:
            yield (
                f"{what}: files of no annotated name, not used: {named_orphans(orphans, missing)}; "
                f"missing: {first_names(missing)}"
            )


def named_orphans(orphans: Sequence[str], missing: Collection[str]) -> str:
    """How many orphans, and the first ones, each with the likeliest of the names whose file is missing."""
    by_numbers: dict[tuple[int, ...], list[str]] = {}
    for name in missing:
        by_numbers.setdefault(_numbers(name), []).append(name)
    words = []
    for orphan in orphans[:FIRST_NAMES]:
        stem = os.path.splitext(os.path.basename(orphan))[0]
        same = by_numbers.get(_numbers(stem), []) if _numbers(stem) else []
        close = same if len(same) == 1 else difflib.get_close_matches(stem, missing, n=1, cutoff=MIN_LIKENESS)
        words.append(f"{orphan}, likeliest the missing {close[0]}" if close else orphan)
    if len(orphans) > FIRST_NAMES:
        words.append("...")
    return f"{len(orphans)} ({'; '.join(words) if missing else ', '.join(words)})"


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d{1,12}", name, re.ASCII))

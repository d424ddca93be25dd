"""The clips of one part of MELD, by dialogue and utterance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merloco.pipelines.corpora.clips import ending_rank, is_video, media_files, named_orphans
from merloco.pipelines.corpora.folders import find_entry
from merloco.pipelines.errors import first_names

CLIP_FOLDERS = {
    "train": ("train_splits", "train_splits_complete"),
    "dev": ("dev_splits_complete", "dev_splits"),
    "test": ("output_repeated_splits_test", "test_splits", "test_splits_complete"),
}
"""Part -> its folder of clips in the release, then what copies call it."""
ENDING = ".mp4"
_CLIP = re.compile(
    r"(?:(?P<corrected>final_videos_test)|(?P<part>train|dev|val|test)[_-])?dia(\d{1,9})[_ -]*utt(\d{1,9})",
    re.ASCII | re.IGNORECASE,
)

Key = tuple[int, int]
"""Dialogue and utterance."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The media of one utterance, relative to the root; where they are missing, where they were expected."""

    video: str | None
    audio: str | None
    has_video: bool
    has_audio: bool


@dataclass(slots=True)
class PartClips:
    """Clips of one part; the corrected cut (`final_videos_test`) wins over the first one."""

    part: str
    folder: Path | None
    root: Path
    videos: dict[Key, Path]
    sounds: dict[Key, Path]
    """Files of sound alone, for utterances without a video."""
    unused: list[str]
    """Files beside another one of their utterance."""
    others: list[str]
    """Media files whose name is no dialogue and utterance."""

    @classmethod
    def of(cls, places: list[Path], part: str, names: tuple[str, ...], root: Path) -> PartClips:
        """List the clips of a part; `names` are what a prefix of a clip's name may call it."""
        folder = next((found for name in CLIP_FOLDERS[part] if (found := find_entry(places, name))), None)
        clips = cls(part, folder, root, {}, {}, [], [])
        ranked = []
        for path in media_files(folder):
            match = _CLIP.fullmatch(path.stem)
            if match is None or (match["part"] and match["part"].lower() not in names):
                clips.others.append(path.name)
                continue
            key = int(match[3]), int(match[4])
            plain = f"{match['corrected'] or ''}dia{key[0]}_utt{key[1]}" == path.stem
            ranked.append((not match["corrected"], *ending_rank(path, ENDING)[:1], not plain, path.name, key, path))
        for corrected, *_, key, path in sorted(ranked, key=lambda entry: entry[:4]):
            files = clips.videos if is_video(path) else clips.sounds
            first = files.setdefault(key, path)
            if first is not path and first.name.lower().startswith("final_videos_test") == (not corrected):
                clips.unused.append(path.name)
        return clips

    def find(self, key: Key) -> Clip:
        """The clip of an utterance."""
        video, sound = self.videos.get(key), self.sounds.get(key)
        name = "dia{}_utt{}{}".format(*key, ENDING)
        expected = self.folder / name if self.folder else None
        return Clip(
            self._relative(video or expected),
            self._relative(video or sound or expected),
            video is not None,
            video is not None or sound is not None,
        )

    def _relative(self, path: Path | None) -> str | None:
        return path.relative_to(self.root).as_posix() if path else None

    def notes(self, annotated: Sequence[Key]) -> Iterator[str]:
        """What the audit says of the files: packed, under other names, beside one another, of no row."""
        found = self.videos.keys() | self.sounds.keys()
        archive = find_entry([self.root, self.root / "MELD.Raw"], f"{self.part}.tar.gz")
        if self.folder is None and archive is not None:
            yield f"{archive.name} is not unpacked: no clip of {self.part} was found"
        renamed = [
            path.name
            for key, path in sorted((self.sounds | self.videos).items())
            if path.name.removeprefix("final_videos_test") != "dia{}_utt{}{}".format(*key, ENDING)
        ]
        if renamed:
            yield f"{self.part}: clips under another name or ending than the release's: {first_names(renamed)}"
        if self.unused:
            yield f"{self.part}: clips beside another one of their utterance, not used: {first_names(self.unused)}"
        orphans = ["dia{}_utt{}".format(*key) for key in sorted(found - set(annotated))] + self.others
        missing = ["dia{}_utt{}".format(*key) for key in annotated if key not in found]
        if orphans and missing and self.folder is not None:
            yield (
                f"{self.part}: clips without an annotation row, not used: {named_orphans(orphans, missing)}; "
                f"rows without a clip: {first_names(missing)}"
            )
        elif orphans:
            yield f"{self.part}: clips without an annotation row, not used: {named_orphans(orphans, ())}"


def unused_folders(places: Sequence[Path]) -> list[Path]:
    """Folders with clips whose name is that of no part."""
    known = {name for names in CLIP_FOLDERS.values() for name in names}
    below = [path for place in places for path in sorted(place.iterdir()) if path.is_dir() and path not in places]
    return [
        path
        for path in dict.fromkeys(below)
        if path.name.lower() not in known and any(_CLIP.fullmatch(clip.stem) for clip in media_files(path))
    ]

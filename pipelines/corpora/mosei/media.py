"""CMU-MOSEI's media: full videos and sounds, cut by interval, and ready-made clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merloco.pipelines.corpora.clips import MediaIndex, is_video, media_files
from merloco.pipelines.corpora.folders import find_entry
from merloco.pipelines.samples.schema import Sample

FULL_VIDEOS = ("Videos/Full/Combined", "Video/Combined")
CLIPS = ("Videos/Segmented/Combined",)
AUDIO = ("Audio/Full/WAV_16000", "Audio/WAV_16000")


def first_folder(root: Path, *names: str) -> Path | None:
    """The first folder of some names in a release or in its `Raw/`."""
    return next((found for name in names if (found := find_entry((root, root / "Raw"), name)) is not None), None)


@dataclass(frozen=True, slots=True)
class MoseiMedia:
    """Media by stem, listed once."""

    folder: str
    """The release below the root, with a slash behind; nothing where it is the root."""
    full: MediaIndex
    clips: MediaIndex
    audio: MediaIndex

    @classmethod
    def of(cls, base: Path, root: Path, videos: Iterable[str]) -> MoseiMedia:
        """List the media of a release at `base`, below `root`, whose labels name some `videos`."""
        names = list(videos)

        def listed(released: str, *folders: str) -> MediaIndex:
            paths = media_files(first_folder(base, *folders))
            index = MediaIndex.of((p for p in paths if released == ".wav" or is_video(p)), root, released)
            index.claim(names)
            return index

        folder = "" if base == root else f"{base.relative_to(root).as_posix()}/"
        return cls(folder, listed(".mp4", *FULL_VIDEOS), listed(".mp4", *CLIPS), listed(".wav", *AUDIO))

    def columns(self, video: str, clip: str, begin: float, end: float) -> dict[str, Any]:
        """Columns of a sample: full video and wav by interval; a ready-made clip where the full video is absent."""
        interval = {"video_start": begin, "video_end": end}
        if (path := self.full.find(video)) is not None:
            columns = {"video_path": path, "video_status": "ok", **interval}
        elif (path := self.clips.find(clip)) is not None:
            columns = {"video_path": path, "video_status": "ok"}
        else:
            path = f"{self.folder}Videos/Full/Combined/{video}.mp4"
            columns = {"video_path": path, "video_status": "missing_media", **interval}
        if (path := self.audio.find(video)) is not None:
            return {**columns, "audio_path": path, "audio_start": begin, "audio_end": end}
        return columns | {key.replace("video", "audio"): value for key, value in columns.items()}

    def notes(self, samples: Iterable[Sample]) -> Iterator[str]:
        """Files that were not used, beside what is missing."""
        without = [s.sample_id.split("/") for s in samples if s.video_status == "missing_media"]
        videos, clips = sorted({v for _, v, _ in without}), sorted(f"{v}_{clip}" for _, v, clip in without)
        yield from self.full.notes("full videos", videos)
        yield from self.clips.notes("ready-made clips", clips)
        yield from self.audio.notes("sounds", videos)

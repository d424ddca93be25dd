"""CMU-MOSEI: labelled segments of full-length videos, multi-label intensities.

::

    CMU_MOSEI_Labels.csd                                    in the root or in Raw/; else Data_*.csv, or Labels/*.csv
    [Raw/]Transcript/Segmented/Combined/<video>.txt         <video>___<clip>___<start>___<end>___<text>
    [Raw/]Videos/Full/Combined/<video>.mp4                  cut by interval
    [Raw/]Videos/Segmented/Combined/<video>_<clip>.mp4      where the full video is absent
    [Raw/]Audio/Full/WAV_16000/<video>.wav
    cmu_mosei_std_folds.py                                  the standard folds

Labels and transcripts are joined by video and interval, never by row number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import Parsed, RowError, duplicate, register_parser
from merloco.pipelines.corpora.mosei.csd import read_csd
from merloco.pipelines.corpora.mosei.folds import CODES, FOLDS_FILE, FOLDS_TABLE, NAMES, read_folds
from merloco.pipelines.corpora.mosei.labels import EMOTIONS, LabelRow, csv_files, read_table, read_workers, table_kind
from merloco.pipelines.corpora.mosei.transcripts import Segment, read_transcripts
from merloco.pipelines.corpora.splits import number_turns
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

TOLERANCE = 0.011
"""Seconds by which intervals of labels and transcripts may differ: sources round to milliseconds or less."""
CSD = "CMU_MOSEI_Labels.csd"
OTHER = "no_emotions"
TRANSCRIPTS = ("Transcript/Segmented/Combined", "Transcript/Combined")
_VIDEO = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Media:
    """Relative paths of the media, listed once."""

    full: dict[str, str]
    clips: dict[str, str]
    audio: dict[str, str]


@register_parser("mosei")
def parse_mosei(entry: CorpusEntry, root: Path) -> Parsed:
    """Parse a CMU-MOSEI release; a root with annotations but without media is accepted.

    Raises:
        DataError: No label source under the root.
    """
    parsed = Parsed()
    places = [root, root / "Raw", root / "Labels", root / "Raw" / "Labels"]
    rows = list(_labels(places, root, parsed))
    transcripts = dict(read_transcripts(_first_folder(root, *TRANSCRIPTS), root, parsed))
    if not transcripts:
        source = "texts are those of the label table" if any(row.text for row in rows) else "samples have no text"
        parsed.notes.append(f"no segmented transcripts: {source}, and ids come from start and end times")
    media = _find_media(root)
    folds = read_folds(root)
    if folds is None and not any(row.split for row in rows):
        parsed.notes.append(f"no fold list: every split is none; put {FOLDS_FILE} of the CMU SDK into the root")
    samples: dict[str, Sample] = {}
    first: dict[str, tuple[str, int]] = {}
    for row in rows:
        sample = _sample(row, transcripts.get(row.video, []), media, folds)
        if isinstance(sample, RowError):
            parsed.errors.append(sample)
        elif sample.sample_id in samples:
            parsed.errors.append(duplicate(row.file, row.line, sample.sample_id, first[sample.sample_id]))
        else:
            samples[sample.sample_id] = sample
            first[sample.sample_id] = row.file, row.line
    _note_unlabelled(transcripts, samples, parsed)
    parsed.samples = number_turns(samples.values(), lambda s: (s.start or 0.0, s.sample_id))
    return parsed


def _labels(places: list[Path], root: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the best label source: the .csd, then a common label table, then the raw worker CSVs."""
    folders = [place for place in places if place.is_dir()]
    named = [p for folder in folders for p in sorted(folder.glob("*Labels*.csd")) if not p.name.startswith(".")]
    if named:
        csd = next((path for path in named if path.name == CSD), named[0])
        parsed.notes.append(f"labels from {csd.relative_to(root).as_posix()}")
        yield from read_csd(csd, parsed)
        return
    kinds: dict[str, list[Path]] = {}
    for path in (p for folder in folders for p in csv_files(folder) if p.name != FOLDS_TABLE):
        kinds.setdefault(table_kind(path), []).append(path)
    parsed.notes += [
        f"{path.relative_to(root).as_posix()} has no column for an emotion: not used" for path in kinds.get(OTHER, [])
    ]
    exports = kinds.get("labels", [])
    if exports:
        parsed.notes.append("labels from " + _listed(exports, root))
        for path in exports:
            yield from read_table(path, parsed)
        return
    batches = kinds.get("workers", [])
    if not batches:
        instead = f" ({kinds[OTHER][0].name} has no column for an emotion)" if OTHER in kinds else ""
        raise DataError(
            f"no CMU-MOSEI labels under {str(root)!r}{instead}: expected {CSD}, a table with the columns video, "
            f"start_time, end_time, sentiment, {', '.join(EMOTIONS)}, or the worker tables Raw/Labels/*.csv"
        )
    parsed.notes.append("labels averaged over the workers of " + _listed(batches, root))
    yield from read_workers(batches, parsed)


def _listed(paths: list[Path], root: Path) -> str:
    names = [path.relative_to(root).as_posix() for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first_folder(root: Path, *names: str) -> Path | None:
    return next((base / name for base in (root, root / "Raw") for name in names if (base / name).is_dir()), None)


def _find_media(root: Path) -> _Media:
    def listed(pattern: str, *folders: str) -> dict[str, str]:
        folder = _first_folder(root, *folders)
        paths = sorted(folder.glob(pattern)) if folder else []
        return {p.stem: p.relative_to(root).as_posix() for p in paths if not p.name.startswith(".")}

    return _Media(
        full=listed("*.mp4", "Videos/Full/Combined", "Video/Combined"),
        clips=listed("*.mp4", "Videos/Segmented/Combined"),
        audio=listed("*.wav", "Audio/Full/WAV_16000", "Audio/WAV_16000"),
    )


def _match(row: LabelRow, segments: list[Segment]) -> Segment | None:
    """The transcript segment of a label row: by clip number where there is one, else by interval."""
    if row.clip is not None:
        return next((s for s in segments if s.clip == row.clip), None)
    start, end = row.start or 0.0, row.end or 0.0

    def distance(segment: Segment) -> float:
        # One of the sources may have clamped a negative start.
        return max(abs(max(segment.start, 0.0) - max(start, 0.0)), abs(segment.end - end))

    best = min(segments, key=distance, default=None)
    return best if best is not None and distance(best) <= TOLERANCE else None


def _sample(row: LabelRow, segments: list[Segment], media: _Media, folds: dict[str, str] | None) -> Sample | RowError:
    if not _VIDEO.fullmatch(row.video):
        return RowError("bad_row", row.file, row.line, f"video id {row.video!r}; expected letters, digits, '_' and '-'")
    segment = _match(row, segments)
    start, end = (segment.start, segment.end) if segment else (row.start, row.end)
    if start is None or end is None:
        return RowError("no_interval", row.file, row.line, f"{row.video} clip {row.clip} is in no transcript")
    if end <= max(start, 0.0):
        return RowError("bad_interval", row.file, row.line, f"{row.video}: the segment {start}-{end} s is empty")
    marks, native = [], {"sentiment": row.values["sentiment"]}
    intensities: dict[str, float] = {}
    for name in EMOTIONS:
        intensities[name] = min(max(row.values[name], 0.0), 3.0)
        if intensities[name] != row.values[name]:
            native[name] = row.values[name]
            marks.append("out_of_range")
    if start < 0:
        marks.append("negative_start")
        native["start"] = start
    begin = max(start, 0.0)
    text = (segment.text if segment else None) or row.text
    if segment is None and text is None:
        marks.append("no_transcript")
    clip = segment.clip if segment else f"t{round(begin * 1000)}-{round(end * 1000)}"  # starts alone recur in a video
    code = row.split or ""
    split = folds.get(row.video, "none") if folds is not None else CODES.get(code, NAMES.get(code.lower(), "none"))
    return Sample(
        sample_id=f"mosei/{row.video}/{clip}",
        corpus="mosei",
        split=split,
        intensities=intensities,
        dialogue=row.video,
        speaker=row.video,
        start=begin,
        end=end,
        duration=round(end - begin, 4),
        text=text,
        text_source="transcript" if text else "none",
        text_status="ok" if text else "no_text",
        marks=tuple(dict.fromkeys(marks)),
        native=native,
        **_media_columns(row.video, f"{row.video}_{clip}", begin, end, media),
    )


def _media_columns(video: str, clip: str, begin: float, end: float, media: _Media) -> dict[str, Any]:
    """Full video and wav by interval first; a ready-made clip where the full video is absent."""
    interval = {"video_start": begin, "video_end": end}
    if video in media.full:
        columns = {"video_path": media.full[video], "video_status": "ok", **interval}
    elif clip in media.clips:
        columns = {"video_path": media.clips[clip], "video_status": "ok"}
    else:
        columns = {"video_path": f"Videos/Full/Combined/{video}.mp4", "video_status": "missing_media", **interval}
    if video in media.audio:
        return {**columns, "audio_path": media.audio[video], "audio_start": begin, "audio_end": end}
    return columns | {key.replace("video", "audio"): value for key, value in columns.items()}


def _note_unlabelled(transcripts: dict[str, list[Segment]], samples: dict[str, Sample], parsed: Parsed) -> None:
    segments = [f"mosei/{video}/{s.clip}" for video, members in transcripts.items() for s in members]
    count = sum(sample_id not in samples for sample_id in segments)
    if count:
        parsed.notes.append(f"{count} transcript segments have no label: not used")

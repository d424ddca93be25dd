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

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import NoOptions, Parsed, RowError, compare_total, duplicate, register_parser
from merloco.pipelines.corpora.folders import find_release, folder_above
from merloco.pipelines.corpora.mosei.csd import read_csd
from merloco.pipelines.corpora.mosei.folds import FOLDS_FILE, FOLDS_TABLE, read_folds
from merloco.pipelines.corpora.mosei.labels import (
    EMOTIONS,
    LabelRow,
    csv_files,
    read_label_tables,
    read_workers,
    table_kind,
)
from merloco.pipelines.corpora.mosei.media import MoseiMedia, first_folder
from merloco.pipelines.corpora.mosei.transcripts import Segment, nearest, read_transcripts
from merloco.pipelines.corpora.mosei.units import check_intervals
from merloco.pipelines.corpora.splits import number_turns
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

CSD = "CMU_MOSEI_Labels.csd"
SEGMENTS = {"all labels": 23259}
"""Labelled segments of the release."""
OTHER = "no_emotions"
TRANSCRIPTS = ("Transcript/Segmented/Combined", "Transcript/Combined")
VARYING = ("intensities", "start", "end", "duration", "speaker", "dialogue", "split")
_VIDEO = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Sources:
    """What under a folder may hold labels."""

    csd: Path | None
    tables: dict[str, list[Path]]
    """Kind -> tables."""

    @property
    def usable(self) -> bool:
        return self.csd is not None or "labels" in self.tables or "workers" in self.tables


@register_parser("mosei")
def parse_mosei(entry: CorpusEntry, root: Path, options: NoOptions) -> Parsed:
    """Parse a CMU-MOSEI release; a root with annotations but without media is accepted.

    Raises:
        DataError: No label source under the root, a table that cannot be right (a column that is missing or stands
            twice, an unknown split, rows that disagree), or intervals in another unit than seconds.
    """
    parsed = Parsed(varying=VARYING)
    listed: dict[Path, _Sources] = {}

    def sources(folder: Path) -> _Sources:
        if folder not in listed:
            listed[folder] = _find_sources(folder)
        return listed[folder]

    base = find_release(root, lambda folder: sources(folder).usable, _no_labels(root, sources(root)), parsed.notes)
    rows = list(_labels(sources(base), root, parsed))
    transcripts = dict(read_transcripts(first_folder(base, *TRANSCRIPTS), root, parsed))
    if transcripts:
        parsed.varying += ("text",)
    else:
        source = "texts are those of the label table" if any(row.text for row in rows) else "samples have no text"
        parsed.notes.append(f"no segmented transcripts: {source}, and ids come from start and end times")
        _note_folder_above(base, rows, parsed)
    videos = list(dict.fromkeys(row.video for row in rows))
    media = MoseiMedia.of(base, root, videos)
    check_intervals(rows, transcripts, lambda video: root / path if (path := media.full.find(video)) else None)
    folds = read_folds(base, parsed)
    if folds is None and not any(row.split for row in rows):
        parsed.notes.append(f"no fold list: every split is none; put {FOLDS_FILE} of the CMU SDK into the root")
    differing = [row for row in rows if folds is not None and row.split and row.split != folds.get(row.video, "none")]
    if differing:
        parsed.notes.append(
            f"the fold list is taken, which differs from the split of {len(differing)} rows "
            f"(first: {differing[0].file}:{differing[0].line})"
        )
    samples: dict[str, Sample] = {}
    for row in rows:
        sample = _sample(row, transcripts.get(row.video, []), media, folds)
        if isinstance(sample, RowError):
            parsed.errors.append(sample)
        elif sample.sample_id in samples:
            parsed.errors.append(duplicate(row.file, row.line, sample.sample_id, parsed.places[sample.sample_id]))
        else:
            samples[sample.sample_id] = sample
            parsed.places[sample.sample_id] = row.file, row.line
    _note_unlabelled(transcripts, samples, parsed)
    parsed.samples = number_turns(samples.values(), lambda s: (s.start or 0.0, s.sample_id))
    parsed.notes += media.notes(parsed.samples)
    compare_total(parsed, SEGMENTS, "segments")
    return parsed


def _find_sources(folder: Path) -> _Sources:
    places = [place for place in (folder, *(folder / p for p in ("Raw", "Labels", "Raw/Labels"))) if place.is_dir()]
    named = [p for place in places for p in sorted(place.glob("*Labels*.csd")) if not p.name.startswith(".")]
    tables: dict[str, list[Path]] = {}
    if not named:
        for path in (p for place in places for p in csv_files(place) if p.name.lower() != FOLDS_TABLE):
            tables.setdefault(table_kind(path), []).append(path)
    return _Sources(next((path for path in named if path.name == CSD), next(iter(named), None)), tables)


def _no_labels(root: Path, sources: _Sources) -> str:
    other = sources.tables.get(OTHER)
    instead = f" ({other[0].name} has no column for an emotion)" if other else ""
    return (
        f"no CMU-MOSEI labels under {str(root)!r}{instead}: expected {CSD}, a table with the columns video, "
        f"start_time, end_time, {', '.join(EMOTIONS)}, or the worker tables Raw/Labels/*.csv"
    )


def _labels(sources: _Sources, root: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of the best label source: the .csd, then the common label tables, then the raw worker CSVs."""
    if sources.csd is not None:
        parsed.notes.append(f"labels from {sources.csd.relative_to(root).as_posix()}")
        yield from read_csd(sources.csd, parsed)
        return
    parsed.notes += [
        f"{path.relative_to(root).as_posix()} has no column for an emotion: not used"
        for path in sources.tables.get(OTHER, [])
    ]
    exports, batches = (sources.tables.get(kind, []) for kind in ("labels", "workers"))
    if exports:
        parsed.notes.append("labels from " + _listed(exports, root))
        yield from read_label_tables(exports, parsed)
    else:
        parsed.notes.append("labels averaged over the workers of " + _listed(batches, root))
        yield from read_workers(batches, parsed)


def _listed(paths: list[Path], root: Path) -> str:
    names = [path.relative_to(root).as_posix() for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _note_folder_above(root: Path, rows: list[LabelRow], parsed: Parsed) -> None:
    """Say where the transcripts are, if the root is the folder of the labels alone.

    Raises:
        DataError: The rows have no interval without transcripts.
    """
    above = folder_above(root, lambda folder: first_folder(folder, *TRANSCRIPTS) is not None)
    if above is None:
        return
    sentence = f"transcripts are in a folder above: give {str(above)!r} as the root"
    if all(row.start is None for row in rows):
        raise DataError(f"{str(root)!r} has labels without intervals: {sentence}")
    parsed.notes.append(sentence)


def _match(row: LabelRow, segments: list[Segment]) -> Segment | None:
    """The transcript segment of a label row: by clip number where there is one, else by interval."""
    if row.clip is not None:
        return next((s for s in segments if s.clip == row.clip), None)
    return nearest(segments, row.start or 0.0, row.end or 0.0)


def _sample(
    row: LabelRow, segments: list[Segment], media: MoseiMedia, folds: dict[str, str] | None
) -> Sample | RowError:
    if not _VIDEO.fullmatch(row.video):
        return RowError("bad_row", row.file, row.line, f"video id {row.video!r}; expected letters, digits, '_' and '-'")
    segment = _match(row, segments)
    start, end = (segment.start, segment.end) if segment else (row.start, row.end)
    if start is None or end is None:
        return RowError("no_interval", row.file, row.line, f"{row.video} clip {row.clip} is in no transcript")
    if end <= max(start, 0.0):
        return RowError("bad_interval", row.file, row.line, f"{row.video}: the segment {start}-{end} s is empty")
    marks, native = [], {name: row.values[name] for name in ("sentiment",) if name in row.values}
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
    split = folds.get(row.video, "none") if folds is not None else row.split or "none"
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
        **media.columns(row.video, f"{row.video}_{clip}", begin, end),
    )


def _note_unlabelled(transcripts: dict[str, list[Segment]], samples: dict[str, Sample], parsed: Parsed) -> None:
    segments = [f"mosei/{video}/{s.clip}" for video, members in transcripts.items() for s in members]
    count = sum(sample_id not in samples for sample_id in segments)
    if count:
        parsed.notes.append(f"{count} transcript segments have no label: not used")

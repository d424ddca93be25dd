"""MELD: three annotation CSVs and three clip folders.

::

    MELD.Raw/                                  the root, or a folder above it
      train_sent_emo.csv  (or train/...)       one row per utterance; rows drive, never files
      dev_sent_emo.csv    (or dev/...)
      test_sent_emo.csv   (or test/...)
      train_splits/dia<D>_utt<U>.mp4           (or train/train_splits/...)
      dev_splits_complete/dia<D>_utt<U>.mp4
      output_repeated_splits_test/             dia<D>_utt<U>.mp4, final_videos_testdia<D>_utt<U>.mp4, ._*.mp4

Identifiers repeat across the three parts, so ids and dialogues carry the part's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from merloco.pipelines.catalog.entries import CorpusEntry, MediaRules
from merloco.pipelines.corpora.annotation_tables import Row, read_table
from merloco.pipelines.corpora.base import (
    NoOptions,
    Parsed,
    RowError,
    compare_total,
    disagreement,
    duplicate,
    register_parser,
)
from merloco.pipelines.corpora.cells import Rewritten, known_label, time_reader, whole_number
from merloco.pipelines.corpora.folders import find_entry, find_release, folder_above
from merloco.pipelines.corpora.media_rules import with_media_rules
from merloco.pipelines.corpora.meld_clips import CLIP_FOLDERS, PartClips, unused_folders
from merloco.pipelines.corpora.splits import number_turns
from merloco.pipelines.corpora.units import check_lengths
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

PARTS = {"train": "train", "dev": "val", "test": "test"}
UTTERANCES = {"train": 9989, "dev": 1109, "test": 2610}
"""Rows of the release."""
COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
REQUIRED = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
"""Columns that something uses; the others are kept where they are there."""
IDS = ("Dialogue_ID", "Utterance_ID")
TIMES = ("StartTime", "EndTime")
VARYING = ("label", "start", "end", "duration", "speaker", "dialogue", "text", "split")
# Bytes of cp1252 that were taken for Latin-1 become C1 control characters; the no-break space becomes a space.
_C1 = {code: bytes([code]).decode("cp1252", errors="replace") for code in range(0x80, 0xA0)} | {0xA0: " "}


@register_parser("meld")
def parse_meld(entry: CorpusEntry, root: Path, options: NoOptions) -> Parsed:
    """Parse a MELD release; a root with annotations but without clips is accepted.

    Raises:
        DataError: No annotation file, one without a column that is used or with a column twice, rows for one utterance
            that disagree, or times in another unit.
    """
    parsed = Parsed(varying=VARYING)
    names = ", ".join(f"{part}_sent_emo.csv" for part in PARTS)
    expected = f"no MELD annotation under {str(root)!r}: expected {names} there, or in MELD.Raw/"
    base = find_release(root, lambda folder: any(_files(folder).values()), expected + _other_files(root), parsed.notes)
    places = _places(base)
    labels = {label for label_map in entry.maps.values() for label in label_map.labels}
    for part, file in _files(base).items():
        if file is None:
            above = folder_above(root, partial(_has_part, part))
            where = f" (it is in a folder above: give {str(above)!r} as the root)" if above else ""
            parsed.notes.append(f"{part}_sent_emo.csv not found: the {PARTS[part]} split is empty{where}")
            continue
        rows = list(_read_rows(file, part, root, labels, parsed))
        clips = PartClips.of(places, part, (part, PARTS[part]), root)
        parsed.samples += [
            _with_media(s, clips, entry.media_rules) for s in number_turns(rows, lambda s: s.native["Utterance_ID"])
        ]
        parsed.notes += clips.notes([_key(sample) for sample in rows])
    for folder in unused_folders(places):
        expected_names = ", ".join(names[0] for names in CLIP_FOLDERS.values())
        parsed.notes.append(f"clips in {folder.relative_to(root).as_posix()}/ not used: expected {expected_names}")
    compare_total(parsed, UTTERANCES, "utterances")
    return parsed


def _places(folder: Path) -> list[Path]:
    return [
        place
        for base in (folder, folder / "MELD.Raw")
        for place in (base, *(base / p for p in PARTS))
        if place.is_dir()
    ]


def _files(folder: Path) -> dict[str, Path | None]:
    """Part -> its annotation file."""
    places = _places(folder)
    return {part: find_entry(places, f"{part}_sent_emo.csv") for part in PARTS}


def _has_part(part: str, folder: Path) -> bool:
    return _files(folder)[part] is not None


def _other_files(root: Path) -> str:
    """What lies under a root instead of the annotation: a spreadsheet or an archive that was not unpacked."""
    endings = (".xlsx", ".xls", ".ods", ".tsv", ".gz", ".zip", ".tar", ".csv")
    found = sorted(p.name for p in root.iterdir() if p.suffix.lower() in endings and not p.name.startswith("."))
    return f"; found {', '.join(found[:3])}" if found else ""


def _key(sample: Sample) -> tuple[int, int]:
    return sample.native["Dialogue_ID"], sample.native["Utterance_ID"]


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the rows of one file read."""

    part: str
    labels: set[str]
    """Native names of the catalog's maps."""
    seconds: Callable[[str], float | None]
    rewritten: Rewritten


def _read_rows(file: Path, part: str, root: Path, labels: set[str], parsed: Parsed) -> Iterator[Sample]:
    name = file.relative_to(root).as_posix()
    table = read_table(file, COLUMNS, name)
    table.require(REQUIRED)
    rows = list(table.rows())
    seconds, form = time_reader(row[c] for _, row in rows if isinstance(row, dict) for c in TIMES)
    reading = _Reading(part, labels, seconds, Rewritten())
    seen: dict[str, Sample] = {}
    for number, cells in rows:
        row = cells if isinstance(cells, str) else {column: _repaired(cell) for column, cell in cells.items()}
        sample = row if isinstance(row, str) else _sample(row, reading)
        if isinstance(sample, str) or isinstance(row, str):
            parsed.errors.append(RowError("bad_row", name, number, str(sample)))
            continue
        where = parsed.places.setdefault(sample.sample_id, (name, number))
        first = seen.setdefault(sample.sample_id, sample)
        if first is not sample:
            differing = _difference(first, sample)
            if differing:
                raise DataError(disagreement(name, number, sample.sample_id, where, *differing))
            parsed.errors.append(duplicate(name, number, sample.sample_id, where))
            continue
        for column, value in zip(TIMES, (sample.start, sample.end), strict=True):
            if value is None:
                problem = f"{column} is {row[column]!r}; expected a time such as 00:16:16,059"
                parsed.errors.append(RowError("bad_time", name, number, problem))
        yield sample
    lengths = {
        "{}:{}".format(*parsed.places[s.sample_id]): s.end - s.start
        for s in seen.values()
        if s.start is not None and s.end is not None
    }
    check_lengths(lengths, "EndTime", "StartTime", typical=3.2, limits=(0.05, 60.0))
    parsed.add_reading(name, [*table.remarks, *([form] if form else []), *reading.rewritten.notes()])


def _repaired(cell: str) -> str:
    return cell if cell.isascii() else cell.translate(_C1)


def _sample(row: Row, reading: _Reading) -> Sample | str:
    """One row as a sample, or what is wrong with it."""
    numbers: dict[str, int] = {}
    for column in IDS:
        number = whole_number(row[column])
        if number is None:
            return f"{column} is {row[column]!r}; expected a whole number"
        numbers[column] = number
        if not row[column].isdigit():
            reading.rewritten.add("ids taken as whole numbers", repr(row[column]))
    label = known_label(row["Emotion"], reading.labels)
    if not label:
        return "Emotion is empty; expected a label"
    if label != row["Emotion"]:
        reading.rewritten.add("labels in another spelling", f"{row['Emotion']!r} taken as {label!r}")
    start, end = (reading.seconds(row[column]) for column in TIMES)
    duration = None if start is None or end is None else round(end - start, 3)
    text = " ".join(row["Utterance"].split())
    part = reading.part
    return Sample(
        sample_id=f"meld/{part}/dia{numbers['Dialogue_ID']}_utt{numbers['Utterance_ID']}",
        corpus="meld",
        split=PARTS[part],
        label=label,
        dialogue=f"{part}/dia{numbers['Dialogue_ID']}",
        speaker=row["Speaker"].strip() or None,
        start=start,
        end=end,
        duration=duration if duration and duration > 0 else None,
        text=text or None,
        text_status="ok" if text else "no_text",
        text_source="transcript" if text else "none",
        marks=() if duration is None or duration > 0 else ("bad_interval",),
        native={column: numbers.get(column, row[column]) for column in row if column not in ("Utterance", "Emotion")},
    )


def _difference(first: Sample, second: Sample) -> tuple[str, object, object] | None:
    """The first thing in which two rows of one utterance differ, but for their running number."""
    for name in ("label", "text", "speaker", "start", "end"):
        if getattr(first, name) != getattr(second, name):
            return name, getattr(first, name), getattr(second, name)
    for column in first.native:
        one, other = first.native[column], second.native.get(column)
        if column not in ("Sr No.", *TIMES) and one != other:
            return column, one, other
    return None


def _with_media(sample: Sample, clips: PartClips, rules: MediaRules) -> Sample:
    clip = clips.find(_key(sample))
    with_clip = replace(
        sample,
        video_path=clip.video,
        audio_path=clip.audio,
        video_status="ok" if clip.has_video else "missing_media",
        audio_status="ok" if clip.has_audio else "missing_media",
    )
    return with_media_rules(with_clip, rules)

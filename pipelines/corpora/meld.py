"""MELD: three annotation CSVs and three clip folders.

::

    MELD.Raw/                                  the root, or the folder above it
      train_sent_emo.csv  (or train/...)       one row per utterance; rows drive, never files
      dev_sent_emo.csv    (or dev/...)
      test_sent_emo.csv   (or test/...)
      train_splits/dia<D>_utt<U>.mp4           (or train/train_splits/...)
      dev_splits_complete/dia<D>_utt<U>.mp4
      output_repeated_splits_test/             dia<D>_utt<U>.mp4, final_videos_testdia<D>_utt<U>.mp4, ._*.mp4

Identifiers repeat across the three parts, so ids and dialogues carry the part's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from merloco.pipelines.catalog.entries import CorpusEntry, MediaRules
from merloco.pipelines.corpora.annotation_files import read_rows
from merloco.pipelines.corpora.base import Parsed, RowError, duplicate, register_parser
from merloco.pipelines.corpora.splits import number_turns
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample

PARTS = {"train": "train", "dev": "val", "test": "test"}
CLIP_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
COLUMNS = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
)
# Anchored: AppleDouble stubs (._dia0_utt0.mp4) must not match.
_CLIP = re.compile(r"^(final_videos_test)?dia(\d+)_utt(\d+)\.mp4$")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_TIME = re.compile(r"^(\d{1,2}):(\d{2}):(\d{2}),(\d{1,3})$", re.ASCII)
# Bytes of cp1252 that were taken for Latin-1 become C1 control characters; the no-break space becomes a space.
_C1 = {code: bytes([code]).decode("cp1252", errors="replace") for code in range(0x80, 0xA0)} | {0xA0: " "}


@register_parser("meld")
def parse_meld(entry: CorpusEntry, root: Path) -> Parsed:
    """Parse a MELD release; a root with annotations but without clips is accepted.

    Raises:
        DataError: No annotation file, or one without an expected column.
    """
    parsed = Parsed()
    places = [root, root / "MELD.Raw", *(root / p for p in PARTS), *(root / "MELD.Raw" / p for p in PARTS)]
    files = {part: _first_file(places, f"{part}_sent_emo.csv") for part in PARTS}
    if not any(files.values()):
        expected = ", ".join(f"{part}_sent_emo.csv" for part in PARTS)
        raise DataError(f"no MELD annotation under {str(root)!r}: expected {expected} there, or in MELD.Raw/")
    for part, file in files.items():
        if file is None:
            parsed.notes.append(f"{part}_sent_emo.csv not found: the {PARTS[part]} split is empty")
            continue
        folder = _clip_folder(places, part)
        clips = _clips(folder)
        rows = list(_read_rows(file, part, root, parsed))
        parsed.samples += [
            _with_media(s, clips, root, folder, entry.media_rules)
            for s in number_turns(rows, lambda s: s.native["Utterance_ID"])
        ]
        orphans = sorted(set(clips) - {(s.native["Dialogue_ID"], s.native["Utterance_ID"]) for s in rows})
        if orphans:
            names = ", ".join([*(f"dia{d}_utt{u}" for d, u in orphans[:3]), *["..."][: len(orphans) > 3]])
            parsed.notes.append(f"{part}: clips without an annotation row, not used: {len(orphans)} ({names})")
    return parsed


def _first_file(places: list[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _clip_folder(places: list[Path], part: str) -> Path | None:
    return next((p / CLIP_FOLDERS[part] for p in places if (p / CLIP_FOLDERS[part]).is_dir()), None)


def _clips(folder: Path | None) -> dict[tuple[int, int], Path]:
    """(dialogue, utterance) -> clip; the corrected cut (`final_videos_test`) wins over the first one."""
    clips: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.name) if folder else []:
        match = _CLIP.match(path.name)
        if match and (match[1] or (int(match[2]), int(match[3])) not in clips):
            clips[int(match[2]), int(match[3])] = path
    return clips


def _read_rows(file: Path, part: str, root: Path, parsed: Parsed) -> Iterator[Sample]:
    name = file.relative_to(root).as_posix()
    header, lines = read_rows(file)
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DataError(f"{name}: column {missing[0]!r} is missing: expected the columns {', '.join(COLUMNS)}")
    seen: dict[str, tuple[str, int]] = {}
    for number, cells in lines:
        sample: Sample | str
        if isinstance(cells, str):
            sample = cells
        elif len(cells) != len(header):
            sample = f"{len(cells)} cells; expected {len(header)}"
        else:
            sample = _sample({c: cell.translate(_C1) for c, cell in zip(header, cells, strict=True)}, part)
        if isinstance(sample, str):
            parsed.errors.append(RowError("bad_row", name, number, sample))
        elif sample.sample_id in seen:
            parsed.errors.append(duplicate(name, number, sample.sample_id, seen[sample.sample_id]))
        else:
            seen[sample.sample_id] = name, number
            yield sample


def _sample(row: dict[str, str], part: str) -> Sample | str:
    """One row as a sample, or what is wrong with it."""
    numbers = {}
    for column in ("Dialogue_ID", "Utterance_ID"):
        if not _NUMBER.fullmatch(row[column]):
            return f"{column} is {row[column]!r}; expected a whole number"
        numbers[column] = int(row[column])
    if not row["Emotion"].strip():
        return "Emotion is empty; expected a label"
    start, end = seconds(row["StartTime"]), seconds(row["EndTime"])
    duration = None if start is None or end is None else round(end - start, 3)
    text = " ".join(row["Utterance"].split())
    marks = () if duration is None or duration > 0 else ("bad_interval",)
    return Sample(
        sample_id=f"meld/{part}/dia{numbers['Dialogue_ID']}_utt{numbers['Utterance_ID']}",
        corpus="meld",
        split=PARTS[part],
        label=row["Emotion"].strip(),
        dialogue=f"{part}/dia{numbers['Dialogue_ID']}",
        speaker=row["Speaker"].strip() or None,
        start=start,
        end=end,
        duration=duration if duration and duration > 0 else None,
        text=text or None,
        text_status="ok" if text else "no_text",
        text_source="transcript" if text else "none",
        marks=marks,
        native={column: numbers.get(column, row[column]) for column in row if column not in ("Utterance", "Emotion")},
    )


def seconds(text: str) -> float | None:
    """`H:MM:SS,mmm` -> seconds of the episode; None where it is no time.

    Three rows of the release have two digits behind the comma; the times around them fit when a zero was lost in
    front (`,28` is 28 ms).
    """
    match = _TIME.match(text.strip())
    if not match:
        return None
    hours, minutes, secs, millis = (int(part) for part in match.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000


def _with_media(
    sample: Sample, clips: dict[tuple[int, int], Path], root: Path, folder: Path | None, rules: MediaRules
) -> Sample:
    clip = clips.get((sample.native["Dialogue_ID"], sample.native["Utterance_ID"]))
    marks = list(sample.marks)
    status = "ok" if clip else "missing_media"
    if sample.sample_id in rules.known_bad:
        marks.append("known_bad")
        status = "known_bad"
    length = sample.duration
    if sample.sample_id in rules.near_empty or (length and rules.min_seconds and length < rules.min_seconds):
        marks.append("near_empty")
    if sample.sample_id in rules.over_long or (length and rules.max_seconds and length > rules.max_seconds):
        marks.append("over_long")
    name = f"{sample.sample_id.rsplit('/', 1)[1]}.mp4"
    path = clip or (folder / name if folder else None)
    relative = path.relative_to(root).as_posix() if path else None
    sample = replace(sample, marks=tuple(marks), video_path=relative, audio_path=relative)
    return replace(sample, video_status=status, audio_status=status)

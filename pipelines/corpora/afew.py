"""AFEW: film clips in one folder per emotion.

::

    Train_AFEW/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/<9 digits>.avi     or Train/...
    Val_AFEW/...                                                                  or Val/...
    Test_AFEW/<9 digits>.avi (no labels; name and depth of the folder vary)
    Train_AFEW/Train_6.xml, Val_AFEW/Val_6.xml                                    read when they parse

The official validation part is what papers report on: it is split `test` here, and validation is carved out of the
training part, by film time (clips of the same 60 s block of film time stay together, for they may show one scene; which
film a clip is from is not known, so a block mixes films) or by utterance. The nine digits are HHMMSSmmm, the start of
the clip in its film. They repeat across parts, so ids carry the part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.corpora.base import NoOptions, Parsed, RowError, duplicate, register_parser
from merloco.pipelines.corpora.clips import ending_rank, is_video
from merloco.pipelines.corpora.folders import find_entry, find_release
from merloco.pipelines.corpora.splits import carve_validation
from merloco.pipelines.errors import DataError, first_names
from merloco.pipelines.media.endings import AUDIO_ENDINGS, VIDEO_ENDINGS
from merloco.pipelines.samples.schema import Sample

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
PARTS = {"Train": "train", "Val": "test"}
"""Labelled part of the release -> our split."""
CLIPS = {"Train": 773, "Val": 383}
"""Clips of the release."""
TRAIN_CLASSES = dict(zip(EMOTIONS, (133, 74, 81, 150, 144, 117, 74), strict=True))
"""Training clips per class; those of the validation part differ between copies of the release."""
ALIGNED = "AlignedFaces_LBPTOP_Points"
"""Features that the release brings along; no clips."""
BLOCK = 60.0
"""Seconds of film time in a block whose training clips stay together."""
_STEM = re.compile(r"\d{9}", re.ASCII)


@register_parser("afew")
def parse_afew(entry: CorpusEntry, root: Path, options: NoOptions) -> Parsed:
    """Parse an AFEW release; parts that are missing are noted, a test part has no labels.

    Raises:
        DataError: No part of the release under the root, or a validation that AFEW cannot give.
    """
    parsed = Parsed(varying=("label", "start", "split"))
    expected = (
        f"no AFEW clips under {str(root)!r}: expected Train_AFEW/ and Val_AFEW/ (or Train/, Val/) "
        f"with the folders {', '.join(EMOTIONS)}"
    )
    only_test = any(_clips(_test_folders(root), root, []))
    base = root if only_test else find_release(root, _is_release, expected, parsed.notes)
    folders = {part: _part_folder(base, part) for part in PARTS}
    unused: list[str] = []
    for part, folder in folders.items():
        if folder is None:
            parsed.notes.append(f"{part}_AFEW not found: the {PARTS[part]} split is empty")
            continue
        described = _read_xml(folder, root, parsed)
        samples = list(_samples(_emotion_folders(folder), root, part, described, unused, parsed))
        parsed.samples += samples
        _other_folders(folder, root, parsed)
        _compare(part, folder.name, Counter(sample.label for sample in samples), parsed)
    parsed.samples += _samples(_test_folders(base), root, "Test", {}, unused, parsed)
    if not parsed.samples and not parsed.errors:
        raise DataError(f"no .avi clip in the emotion folders under {str(root)!r}: expected <9 digits>.avi there")
    if unused:
        parsed.notes.append(f"files beside a clip of the same name, not used: {first_names(unused)}")
    training = [sample for sample in parsed.samples if sample.split == "train"]
    if entry.validation and training:
        if entry.validation.by == "dialogue":
            raise DataError(
                "AFEW validation by 'dialogue': its clips have none; expected by: film_time or by: utterance"
            )
        blocks = {s.sample_id: s.sample_id if s.start is None else f"{s.start // BLOCK:.0f}" for s in training}
        carve_validation(parsed, blocks, entry.validation, "block of clips", "them")
    return parsed


def film_time(stem: str) -> float | None:
    """Start of a clip in its film in seconds, from its name HHMMSSmmm; None where the digits are no time."""
    if not _STEM.fullmatch(stem):
        return None
    hours, minutes, seconds, millis = int(stem[:2]), int(stem[2:4]), int(stem[4:6]), int(stem[6:])
    return None if minutes > 59 or seconds > 59 else hours * 3600 + minutes * 60 + seconds + millis / 1000


def _is_release(folder: Path) -> bool:
    return any(_part_folder(folder, part) for part in PARTS)


def _part_folder(root: Path, part: str) -> Path | None:
    folders = (find_entry([root], name) for name in (f"{part}_AFEW", part))
    return next((folder for folder in folders if folder is not None and _emotion_folders(folder)), None)


def _emotion_folders(folder: Path) -> list[Path]:
    found = (find_entry([folder], emotion) for emotion in EMOTIONS)
    return [path for path in found if path is not None and path.is_dir()]


def _test_folders(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower().startswith("test")]


def _clips(folders: list[Path], root: Path, unused: list[str]) -> Iterator[tuple[Path, str]]:
    """Clips under some folders, sorted, each with its path relative to the root; `._` stubs are none.

    Of files with one name the released ending is taken; the others are `unused`.
    """
    for folder in folders:
        named: dict[Path, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            known = path.suffix.lower() in (*VIDEO_ENDINGS, *AUDIO_ENDINGS)
            if known and not path.name.startswith(".") and path.is_file():
                named.setdefault(path.with_suffix(""), []).append(path)
        for paths in named.values():
            first, *others = sorted(paths, key=lambda path: ending_rank(path, ".avi"))
            unused += [path.relative_to(root).as_posix() for path in others]
            yield first, first.relative_to(root).as_posix()


def _samples(
    folders: list[Path],
    root: Path,
    part: str,
    described: dict[str, dict[str, Any]],
    unused: list[str],
    parsed: Parsed,
) -> Iterator[Sample]:
    """Clips of one part; a part other than Train and Val has no labels."""
    first: dict[str, str] = {}
    names = {emotion.casefold(): emotion for emotion in EMOTIONS}
    for path, where in _clips(folders, root, unused):
        if not _STEM.fullmatch(path.stem):
            problem = f"clip name {path.name!r}; expected nine digits HHMMSSmmm.avi"
            parsed.errors.append(RowError("bad_row", where, 0, problem))
            continue
        if path.stem in first:
            parsed.errors.append(duplicate(where, 0, f"clip {path.stem}", (first[path.stem], 0)))
            continue
        first[path.stem] = where
        folder = next((above.name for above in path.parents if above in folders), path.parent.name)
        yield Sample(
            sample_id=f"afew/{part.lower()}/{path.stem}",
            corpus="afew",
            split=PARTS.get(part, "none"),
            label=names.get(folder.casefold(), folder) if part in PARTS else None,
            start=film_time(path.stem),
            video_path=where,
            audio_path=where,
            video_status="ok" if is_video(path) else "missing_media",
            text_source="none",
            text_status="no_text",
            native={"split": part, **described.get(path.stem, {})},
        )


def _other_folders(folder: Path, root: Path, parsed: Parsed) -> None:
    """Clips of a labelled part that lie in no emotion folder have no label."""
    known = [*_emotion_folders(folder), folder / ALIGNED]
    others = [path for path in sorted(folder.iterdir()) if path.is_dir() and path not in known]
    for _, where in _clips(others, root, []):
        message = f"no emotion folder; expected one of {', '.join(EMOTIONS)}"
        parsed.errors.append(RowError("unknown_folder", where, 0, message))


def _compare(part: str, folder: str, counts: Counter[str | None], parsed: Parsed) -> None:
    """Note what differs from the release: a copy with fewer clips is usable, but its scores do not compare."""
    total = sum(counts.values())
    if total != CLIPS[part]:
        parsed.notes.append(f"{folder}: {total} of the {CLIPS[part]} clips of the release")
    elif part == "Train" and counts != TRAIN_CLASSES:
        other = ", ".join(
            f"{name} {counts[name]} (release {n})" for name, n in TRAIN_CLASSES.items() if counts[name] != n
        )
        parsed.notes.append(f"{folder} has other class counts than the release: {other}")


def _read_xml(folder: Path, root: Path, parsed: Parsed) -> dict[str, dict[str, Any]]:
    """Clip name -> `{"xml": ...}`. The schema is not documented, so an element that names one clip describes it."""
    described: dict[str, dict[str, Any]] = {}
    for file in sorted(path for path in folder.glob("*.xml") if not path.name.startswith(".")):
        try:
            tree = ElementTree.fromstring(file.read_bytes())
        except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
            parsed.notes.append(f"{file.relative_to(root).as_posix()} is not readable XML ({error}): not used")
            continue
        for element in tree.iter():
            own = [*element.attrib.values(), *((child.text or "").strip() for child in element)]
            names = {stem for value in own if _STEM.fullmatch(stem := value.removesuffix(".avi"))}
            if len(names) == 1:
                described.setdefault(names.pop(), {"xml": _fields(element)})
    return described


def _fields(element: ElementTree.Element) -> dict[str, str | list[str]]:
    """Attributes and texts of an element and all below it, by name; a name that recurs has a list."""
    values: dict[str, list[str]] = {}
    for node in element.iter():
        for name, value in (*node.attrib.items(), (node.tag, (node.text or "").strip())):
            if value:
                values.setdefault(name, []).append(value)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in sorted(values.items())}

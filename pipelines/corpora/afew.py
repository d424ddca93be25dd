"""AFEW: film clips in one folder per emotion (corpora.md 4).

::

    Train_AFEW/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/<9 digits>.avi     or Train/...
    Val_AFEW/...                                                                  or Val/...
    Test_AFEW/<9 digits>.avi (no labels; in subfolders in some copies)
    Train_AFEW/Train_6.xml, Val_AFEW/Val_6.xml                                    read when they parse

The official validation part is what papers report on: it is split `test` here, and validation is carved out of train.
The nine digits are HHMMSSmmm, the start of the clip in its film. They repeat across parts, so ids carry the part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipelines.catalog import CorpusEntry
from pipelines.corpora import Parsed, RowError, register_parser
from pipelines.errors import DataError
from pipelines.schema import Sample
from pipelines.splits import carve_validation

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
PARTS = {"train": "train", "val": "test"}
NEIGHBOURHOOD = 60.0
"""Seconds of film time within which training clips stay together: they may show the same scene."""
_STEM = re.compile(r"^(\d{2})(\d{2})(\d{2})(\d{3})$")


@register_parser("afew")
def parse_afew(entry: CorpusEntry, root: Path) -> Parsed:
    """Parse an AFEW release; a test part without labels is accepted.

    Raises:
        DataError: Neither a training nor a validation part with class folders under the root.
    """
    parsed = Parsed()
    folders = {part: _part_folder(root, part) for part in PARTS}
    if not any(folders.values()):
        raise DataError(
            f"no AFEW clips under {str(root)!r}: expected Train_AFEW/ and Val_AFEW/ (or Train/, Val/) "
            f"with the folders {', '.join(EMOTIONS)}"
        )
    for part, folder in folders.items():
        if folder is None:
            parsed.notes.append(f"{part.title()}_AFEW not found: the {PARTS[part]} split is empty")
            continue
        described = _read_xml(folder, parsed, root)
        for emotion in EMOTIONS:
            for path in _clips(folder / emotion, root, parsed):
                parsed.samples.append(_sample(path, root, part, PARTS[part], emotion, described))
    parsed.samples += _unlabelled(root, parsed)
    if entry.validation is not None:
        groups = {s.sample_id: f"{(s.start or 0.0) // NEIGHBOURHOOD:.0f}" for s in parsed.samples if s.split == "train"}
        chosen = carve_validation(groups, entry.validation)
        parsed.samples = [replace(s, split="val") if s.sample_id in chosen else s for s in parsed.samples]
    return parsed


def _part_folder(root: Path, part: str) -> Path | None:
    candidates = [root / name for name in (f"{part.title()}_AFEW", part.title())]
    return next((p for p in candidates if any((p / emotion).is_dir() for emotion in EMOTIONS)), None)


def _clips(folder: Path, root: Path, parsed: Parsed) -> Iterator[Path]:
    for path in sorted(folder.glob("*.avi")):
        if path.name.startswith("."):
            continue
        if film_time(path.stem) is None:
            message = f"clip name {path.name!r}; expected nine digits HHMMSSmmm.avi"
            parsed.errors.append(RowError("bad_row", path.relative_to(root).as_posix(), 0, message))
            continue
        yield path


def film_time(stem: str) -> float | None:
    """Start of a clip in its film in seconds, from its name; None for a name that is no time."""
    match = _STEM.match(stem)
    if not match:
        return None
    hours, minutes, seconds, millis = (int(part) for part in match.groups())
    return None if minutes > 59 or seconds > 59 else hours * 3600 + minutes * 60 + seconds + millis / 1000


def _sample(
    path: Path, root: Path, part: str, split: str, label: str | None, described: dict[str, dict[str, Any]]
) -> Sample:
    relative = path.relative_to(root).as_posix()
    return Sample(
        sample_id=f"afew/{part}/{path.stem}",
        corpus="afew",
        split=split,
        label=label,
        start=film_time(path.stem),
        video_path=relative,
        audio_path=relative,
        text_source="none",
        text_status="no_text",
        native={"split": part.title(), **described.get(path.stem, {})},
    )


def _unlabelled(root: Path, parsed: Parsed) -> Iterator[Sample]:
    """Clips of a test part: no labels are released, and the folder's name varies between copies."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower().startswith("test")):
        seen: set[str] = set()
        for path in sorted(folder.rglob("*.avi")):
            if path.name.startswith("."):
                continue
            if film_time(path.stem) is None or path.stem in seen:
                message = f"test clip {path.name!r}; expected nine digits HHMMSSmmm.avi, once"
                parsed.errors.append(RowError("bad_row", path.relative_to(root).as_posix(), 0, message))
                continue
            seen.add(path.stem)
            yield _sample(path, root, "test", "none", None, {})


def _read_xml(folder: Path, parsed: Parsed, root: Path) -> dict[str, dict[str, Any]]:
    """Clip name -> what the XML says of it. Its schema is not documented, so anything that names a clip is kept."""
    described: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.xml")):
        try:
            tree = ElementTree.fromstring(file.read_text(encoding="utf-8", errors="replace"))
        except ElementTree.ParseError as error:
            parsed.notes.append(f"{file.relative_to(root).as_posix()} does not parse ({error}): not used")
            continue
        for element in tree.iter():
            values = {**element.attrib, **{child.tag: (child.text or "").strip() for child in element}}
            name = next((Path(v).stem for v in values.values() if film_time(Path(v).stem) is not None), None)
            if name is not None:
                described.setdefault(name, {"xml": {key: value for key, value in sorted(values.items()) if value}})
    return described

"""IEMOCAP: dialogues of two actors, labels by evaluators, split-screen video (corpora.md 1).

::

    IEMOCAP_full_release/Session{1..5}/
      dialog/EmoEvaluation/<dialog>.txt        labels, votes, VAD: the only label files read
      dialog/transcriptions/<dialog>.txt       <utterance> [start-end]: text
      dialog/avi/DivX/<dialog>.avi             both actors side by side
      dialog/wav/<dialog>.wav
      sentences/wav/<dialog>/<utterance>.wav
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.catalog import CorpusEntry
from pipelines.corpora import Parsed, RowError, register_parser
from pipelines.errors import DataError
from pipelines.schema import Sample
from pipelines.splits import carve_validation

TEST_SESSION = "5"
_UTTERANCE = re.compile(r"^Ses0([1-5])([FM])_(?:impro|script)\d\d[a-z]?(?:_\d[a-z]?)?_([FM])([X\d]{2}\d)$")
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_SUMMARY = re.compile(rf"^\[{_NUMBER} - {_NUMBER}\]\t(\w+)\t(\w+)\t\[{_NUMBER}, {_NUMBER}, {_NUMBER}\]$")
_VOTE = re.compile(r"^([CA])-([EFM]\d*):\t(.*)$")
_ATTRIBUTE = re.compile(r"\b(val|act|dom)\s+(\d+(?:\.\d+)?)")
_INTERVAL = re.compile(rf"^\[{_NUMBER}-{_NUMBER}$")
_TAG = re.compile(r"\[[A-Za-z]+\]")


@dataclass(slots=True)
class _Block:
    """One block of an EmoEvaluation file: summary line and votes."""

    utterance: str
    label: str
    start: float
    end: float
    native: dict[str, Any] = field(default_factory=dict)


@register_parser("iemocap")
def parse_iemocap(entry: CorpusEntry, root: Path) -> Parsed:
    """Parse an IEMOCAP release; a root with annotations but without media is accepted.

    Raises:
        DataError: No EmoEvaluation file under the root.
    """
    if not any((root / f"Session{n}").is_dir() for n in range(1, 6)) and (root / "IEMOCAP_full_release").is_dir():
        root = root / "IEMOCAP_full_release"
    files = [p for p in sorted(root.glob("Session*/dialog/EmoEvaluation/*.txt")) if not p.name.startswith(".")]
    if not files:
        raise DataError(f"no IEMOCAP labels under {str(root)!r}: expected Session1/dialog/EmoEvaluation/<dialog>.txt")
    parsed = Parsed()
    media = _media_files(root)
    seen: set[str] = set()
    for file in files:
        texts = _transcription(root, file, parsed)
        samples = []
        for line, block in _blocks(file, root, parsed):
            if block.utterance in seen:
                where = file.relative_to(root).as_posix()
                parsed.errors.append(
                    RowError("duplicate_row", where, line, f"{block.utterance} occurs twice: first kept")
                )
                continue
            seen.add(block.utterance)
            samples.append(_sample(block, file, texts, media))
        ordered = sorted(samples, key=lambda s: (s.start, s.sample_id))
        parsed.samples += [replace(sample, turn=turn) for turn, sample in enumerate(ordered)]
    parsed.samples = _with_validation(parsed.samples, entry)
    return parsed


def _media_files(root: Path) -> set[str]:
    """Relative paths of all media, in one pass: asking for ten thousand files one by one is slow on network disks."""
    patterns = ("dialog/avi/DivX/*.avi", "dialog/wav/*.wav", "sentences/wav/*/*.wav")
    found = (path for pattern in patterns for path in root.glob(f"Session*/{pattern}"))
    return {path.relative_to(root).as_posix() for path in found if not path.name.startswith(".")}


def _blocks(file: Path, root: Path, parsed: Parsed) -> Iterator[tuple[int, _Block]]:
    where = file.relative_to(root).as_posix()
    block: _Block | None = None
    begun = 0
    for number, raw in enumerate(file.read_text(encoding="latin-1").split("\n"), start=1):
        line = raw.strip()
        if line.startswith("["):
            if block is not None:
                yield begun, block
            block, begun = None, number
            made = _summary(line, file.stem)
            if isinstance(made, str):
                parsed.errors.append(RowError("bad_row", where, number, made))
            else:
                block = made
        elif block is not None and (match := _VOTE.match(line)):
            _add_vote(block, *match.groups())
    if block is not None:
        yield begun, block


def _summary(line: str, dialogue: str) -> _Block | str:
    match = _SUMMARY.match(line)
    if not match:
        return f"{line[:60]!r}; expected [start - end]<TAB>utterance<TAB>label<TAB>[V, A, D]"
    start, end, utterance, label, *vad = match.groups()
    if not _UTTERANCE.match(utterance) or utterance.rsplit("_", 1)[0] != dialogue:
        return f"utterance {utterance!r}; expected {dialogue}_<F or M><three digits>"
    if float(end) <= float(start):
        return f"{utterance} ends at {end} s, not after its start at {start} s"
    native: dict[str, Any] = {"votes": {}, "comments": {}, "attributes": {}}
    native |= dict(zip(("valence", "activation", "dominance"), map(float, vad), strict=True))
    return _Block(utterance, label, float(start), float(end), native)


def _add_vote(block: _Block, kind: str, voter: str, rest: str) -> None:
    values, _, comment = rest.rpartition("\t")
    comment = comment.strip().removeprefix("(").removesuffix(")").strip()
    if kind == "C":
        block.native["votes"][voter] = [vote.strip() for vote in values.split(";") if vote.strip()]
    else:
        found = {name: float(value) for name, value in _ATTRIBUTE.findall(values)}
        block.native["attributes"][voter] = {name: found.get(name) for name in ("val", "act", "dom")}
    if comment:
        block.native["comments"][f"{kind}-{voter}"] = comment


def _transcription(root: Path, labels: Path, parsed: Parsed) -> dict[str, str]:
    """Utterance -> text of the dialogue that a label file belongs to."""
    file = labels.parent.parent / "transcriptions" / labels.name
    if not file.is_file():
        parsed.notes.append(f"{file.relative_to(root).as_posix()} not found: its utterances have no text")
        return {}
    where = file.relative_to(root).as_posix()
    texts: dict[str, str] = {}
    for number, raw in enumerate(file.read_text(encoding="latin-1").split("\n"), start=1):
        head, separator, text = raw.strip().partition("]:")
        name, _, interval = head.partition(" ")
        if "_" not in name:  # a bare speaker tag: the release has such lines
            continue
        if not separator or not _UTTERANCE.match(name) or not _INTERVAL.match(interval.strip()):
            message = f"{raw.strip()[:60]!r}; expected utterance [start-end]: text"
            parsed.errors.append(RowError("bad_transcript", where, number, message))
        elif "X" in name.rsplit("_", 1)[1]:
            message = f"{name} is an overlap turn without a label"
            parsed.errors.append(RowError("overlap_turn", where, number, message))
        else:
            texts.setdefault(name, text.strip())
    return texts


def _sample(block: _Block, file: Path, texts: dict[str, str], media: set[str]) -> Sample:
    dialogue, turn = block.utterance.rsplit("_", 1)
    session = block.utterance[4]
    folder = f"Session{session}"
    released = texts.get(block.utterance)
    text = " ".join(_TAG.sub(" ", released or "").split())
    native = dict(block.native)
    if released and text != released:
        native["transcript"] = released
    avi = f"{folder}/dialog/avi/DivX/{dialogue}.avi"
    audio, interval = _audio(folder, dialogue, block, media)
    return Sample(
        sample_id=f"iemocap/{dialogue}/{block.utterance}",
        corpus="iemocap",
        split="test" if session == TEST_SESSION else "train",
        label=block.label,
        dialogue=dialogue,
        # The letter behind the session is the actor who wears the markers; the speaker's is the last part's.
        speaker=f"Ses0{session}_{turn[0]}",
        start=block.start,
        end=block.end,
        duration=round(block.end - block.start, 4),
        video_path=avi,
        video_start=block.start,
        video_end=block.end,
        # The actor with the markers sits on the left half.
        video_side="left" if dialogue.split("_")[0][-1] == turn[0] else "right",
        video_status="ok" if avi in media else "missing_media",
        audio_path=audio,
        audio_start=interval[0],
        audio_end=interval[1],
        audio_status="ok" if audio in media else "missing_media",
        text=text or None,
        text_source="transcript" if text else "none",
        text_status="ok" if text else "no_text",
        native=native,
    )


def _audio(folder: str, dialogue: str, block: _Block, media: set[str]) -> tuple[str, tuple[float | None, float | None]]:
    """Sentence wav first; where it is missing, the dialogue's wav or avi by interval."""
    sentence = f"{folder}/sentences/wav/{dialogue}/{block.utterance}.wav"
    if sentence in media:
        return sentence, (None, None)
    for whole in (f"{folder}/dialog/wav/{dialogue}.wav", f"{folder}/dialog/avi/DivX/{dialogue}.avi"):
        if whole in media:
            return whole, (block.start, block.end)
    return sentence, (None, None)


def _with_validation(samples: list[Sample], entry: CorpusEntry) -> list[Sample]:
    """Carve validation out of sessions 1-4, drawn from the rows that the active map keeps."""
    if entry.validation is None:
        return samples
    from pipelines.labels import apply_map
    from pipelines.schema import to_table

    training = [sample for sample in samples if sample.split == "train"]
    label_map = entry.maps[entry.map]
    known = [sample for sample in training if sample.label in label_map.labels]
    kept = apply_map(to_table(known), "iemocap", label_map) if known else None
    usable = set(kept.filter(kept["emotion"].is_valid())["sample_id"].to_pylist()) if kept is not None else set()
    by_utterance = entry.validation.by == "utterance"
    pool = [sample for sample in training if not by_utterance or sample.sample_id in usable]
    chosen = carve_validation({s.sample_id: s.dialogue or s.sample_id for s in pool}, entry.validation)
    return [replace(sample, split="val") if sample.sample_id in chosen else sample for sample in samples]

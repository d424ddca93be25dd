"""What was heard in samples that have no text: `transcripts/<corpus>.jsonl`, a line per sample, the newest last.

Lines are only added, a batch at a time and flushed to the disk, so that a kill costs the batch in hand; an unfinished
last line does not exist. Of the lines of one sample the last one with the sample's interval holds.

A transcript belongs to a content. Every line carries the sha256 of the file in which it was heard, and the file's size
and time at that moment. Reading trusts the lines, for the media may be on a disk that is not mounted. `ingest` (of a
release that has changed) and `transcribe` compare each file's size and time with the sample's last line. Where they
differ, the file is hashed: a content that was heard before gets its text again, by a new line; any other gets a line
without a text, so that it is heard again. A file that is not there is no other content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from merloco.pipelines.errors import BrokenFileError
from merloco.pipelines.files.atomic import atomic_path, sync_folder
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.files.space import storage_errors
from merloco.pipelines.samples.schema import Sample

ASR = "asr"
"""The `text_source` of a text that was heard, and the key of its origin in `native`."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is known to be said in one sample."""

    sample_id: str
    start: float | None
    end: float | None
    """The interval of the file that was heard."""
    text: str | None = None
    no_speech: bool = False
    model: str | None = None
    """Null: another content is in the file now, and nobody has heard it yet."""
    revision: str | None = None
    bytes: int | None = None
    modified: int | None = None
    """Size and modification time (ns) of the file."""
    sha256: str | None = None
    """Of the file's content; null in what was taken over from a store of an older version."""

    @property
    def place(self) -> tuple[str, float | None, float | None]:
        """What a line is about."""
        return self.sample_id, self.start, self.end

    @property
    def state(self) -> tuple[int | None, int | None]:
        """Size and time of the file."""
        return self.bytes, self.modified


Hasher = Callable[[Path], str]


def transcripts_path(store: Path, corpus: str) -> Path:
    """Where the transcripts of a corpus lie."""
    return store / "transcripts" / f"{corpus}.jsonl"


def file_state(path: Path) -> tuple[int, int] | None:
    """Size and modification time (ns) of a file; None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def read_transcripts(store: Path, corpus: str) -> list[Transcript]:
    """All lines, the oldest first.

    Raises:
        BrokenFileError: A line is none that merloco wrote.
    """
    path = transcripts_path(store, corpus)
    try:
        *lines, _unfinished = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    transcripts = []
    for number, line in enumerate(lines, start=1):
        try:
            transcripts.append(Transcript(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise BrokenFileError(f"{path}:{number}: not a transcript ({error}): remove the line") from None
    return transcripts


def _jsonl(transcripts: Iterable[Transcript]) -> str:
    return "".join(json.dumps(asdict(t), ensure_ascii=False) + "\n" for t in transcripts)


def append_transcripts(store: Path, corpus: str, transcripts: Iterable[Transcript]) -> None:
    """Add lines and flush them to the disk, inside `locked_tombstones(store, exclusive=True)`.

    Raises:
        DataError: The file system is full or read-only; the file is then as it was.
    """
    content = _jsonl(transcripts).encode()
    if not content:
        return
    path = transcripts_path(store, corpus)
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.is_file()
        with path.open("a+b", buffering=0) as handle:
            whole = _whole_size(handle)
            handle.truncate(whole)  # what a killed writer left unfinished
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[handle.write(rest) :]
                os.fsync(handle.fileno())
            except OSError:
                with suppress(OSError):
                    handle.truncate(whole)
                raise
        if new:
            sync_folder(path.parent)


def _whole_size(handle: Any) -> int:
    """Bytes up to the end of the last finished line."""
    size = int(handle.seek(0, os.SEEK_END))
    handle.seek(max(size - 1, 0))
    if handle.read(1) in (b"", b"\n"):
        return size
    handle.seek(0)
    return int(handle.read(size).rfind(b"\n")) + 1


def drop_transcripts(store: Path, corpus: str, ids: Collection[str]) -> int:
    """Take the lines of some samples out, inside `locked_tombstones(store, exclusive=True)`; returns how many."""
    lines = read_transcripts(store, corpus)
    remaining = [line for line in lines if line.sample_id not in ids]
    if len(remaining) < len(lines):
        with atomic_path(transcripts_path(store, corpus)) as temporary:
            temporary.write_text(_jsonl(remaining), "utf-8")
    return len(lines) - len(remaining)


def join_transcripts(store: Path, corpus: str, table: pa.Table) -> pa.Table:
    """A samples table with what was heard in the samples for which the release has no text.

    They get the text, `text_source` `asr`, and model and revision in `native`.
    """
    last = {t.place: t for t in read_transcripts(store, corpus)}
    if not any(t.model for t in last.values()):
        return table
    columns = {name: table[name].to_pylist() for name in ("text", "text_source", "text_status", "native")}
    places = zip(*(table[name].to_pylist() for name in ("sample_id", "audio_start", "audio_end")), strict=True)
    for row, place in enumerate(places):
        transcript = last.get(place)
        if transcript is None or transcript.model is None or columns["text_source"][row] != "none":
            continue
        origin = {"model": transcript.model, "revision": transcript.revision, "no_speech": transcript.no_speech}
        columns["text"][row] = transcript.text
        columns["text_source"][row] = ASR
        columns["text_status"][row] = "ok" if transcript.text else "no_text"
        native = {**json.loads(columns["native"][row]), ASR: origin}
        columns["native"][row] = json.dumps(native, ensure_ascii=False, sort_keys=True)
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def compare_media(
    transcripts: Sequence[Transcript], samples: Iterable[Sample], root: Path, hash_file: Hasher = sha256_file
) -> list[Transcript]:
    """New lines for samples whose file is not the one that was heard, of all lines of a corpus.

    For a content that was heard before, its text with the file's new size and time; for another, a line without.
    """
    lines: dict[tuple[str, float | None, float | None], list[Transcript]] = {}
    for transcript in transcripts:
        lines.setdefault(transcript.place, []).append(transcript)
    added = []
    for sample in samples:
        known = lines.get((sample.sample_id, sample.audio_start, sample.audio_end))
        if not known or known[-1].bytes is None or sample.audio_path is None:
            continue
        path = root / sample.audio_path
        state = file_state(path)
        if state is None or state == known[-1].state:
            continue
        same = next((t for t in reversed(known) if t.state == state), None)
        if same is None:
            content = hash_file(path)
            same = next((t for t in reversed(known) if t.sha256 == content), None)
            same = same or Transcript(*known[-1].place, sha256=content)
        added.append(replace(same, bytes=state[0], modified=state[1]))
    return added


def stored_transcripts(samples: Iterable[Sample], root: Path) -> list[Transcript]:
    """Lines for texts that an older version of merloco wrote into the samples table itself.

    Their files are taken to be those that were heard.
    """
    transcripts = []
    for sample in samples:
        origin: Mapping[str, Any] | None = sample.native.get(ASR)
        if sample.text_source != ASR or origin is None:
            continue
        size, modified = (file_state(root / sample.audio_path) if sample.audio_path else None) or (None, None)
        place = sample.sample_id, sample.audio_start, sample.audio_end
        no_speech, model = bool(origin.get("no_speech")), str(origin.get("model"))
        transcripts.append(Transcript(*place, sample.text, no_speech, model, origin.get("revision"), size, modified))
    return transcripts

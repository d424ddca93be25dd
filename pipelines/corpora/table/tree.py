"""Corpora that are folders of media: the names of files and folders say everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merloco.pipelines.corpora.base import Parsed, RowError, duplicate
from merloco.pipelines.corpora.cells import NO_SPLIT, known_label, split_of, unknown_split, whole_number
from merloco.pipelines.corpora.clips import ending_rank, is_media, is_video
from merloco.pipelines.corpora.table.ids import NO_PART, sample_id_of
from merloco.pipelines.corpora.table.options import FIELDS, MODALITY_VALUES, TableOptions
from merloco.pipelines.corpora.table.patterns import MODALITY, Pattern
from merloco.pipelines.errors import DataError, first_names
from merloco.pipelines.files.walk import walk_once
from merloco.pipelines.media.endings import VIDEO_ENDINGS
from merloco.pipelines.samples.schema import Sample


@dataclass(frozen=True, slots=True)
class _File:
    """A media file whose path fits a pattern."""

    path: str
    """Relative to the root."""
    fields: dict[str, str]
    """Field -> what stands in the path."""
    meaning: dict[str, str]
    """Field -> what that stands for."""
    names: tuple[str, ...]

    def gives(self, kind: str) -> bool:
        """Whether it is read for its `audio` or `video`."""
        held = self.meaning.get(MODALITY)
        if held not in MODALITY_VALUES:
            held = "audio_video" if is_video(Path(self.path)) else "audio"
        return kind in held.split("_") and (kind == "audio" or is_video(Path(self.path)))


def read_tree(corpus: str, root: Path, options: TableOptions, labels: set[str], parsed: Parsed) -> None:
    """Read a folder tree: its samples, and as errors the files that are none.

    Files that differ in the field `modality`, in folders without a field, or in their ending are one utterance: its
    sound and its pictures.

    Raises:
        DataError: No file fits a pattern.
    """
    files = list(_media_paths(root))
    patterns = options.patterns
    base = _base(files, patterns)
    if base is None:
        found = f"{len(files):,} media files, the first {files[0]}" if files else "no media file"
        raise DataError(f"no path under {str(root)!r} fits {_listed(options.pattern)}: found {found}")
    if base:
        parsed.notes.append(f"the release is in {base} of the root")
    unmatched: list[str] = []
    utterances: dict[str, list[_File]] = {}
    for path in files:
        match = next((m for p in patterns if path.startswith(base) and (m := p.match(path.removeprefix(base)))), None)
        if match is None:
            unmatched.append(path)
            continue
        meaning = {name: options.values.get(name, {}).get(value, value) for name, value in match.fields.items()}
        part = () if len(match.name) > 1 else (meaning.get("dialogue") or meaning.get("speaker") or NO_PART,)
        file = _File(path, match.fields, meaning, (*part, *match.name))
        utterances.setdefault(sample_id_of(corpus, file.names), []).append(file)
    if unmatched:
        parsed.notes.append(f"media files that fit no pattern, not used: {first_names(unmatched)}")
    unused: list[str] = []
    for sample_id, members in sorted(utterances.items()):
        chosen = _members(sample_id, members, root, parsed)
        sample = _sample(corpus, sample_id, chosen, labels, options)
        if isinstance(sample, RowError):
            parsed.errors.append(sample)
            continue
        unused += sorted({file.path for file in chosen} - {sample.audio_path, sample.video_path})
        parsed.places[sample_id] = chosen[0].path, 0
        parsed.samples.append(sample)
    if unused:
        parsed.notes.append(f"files beside another one of their utterance, not used: {first_names(unused)}")


def _media_paths(root: Path) -> Iterator[str]:
    for folder, folders, names in walk_once(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_media(name):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _base(files: Sequence[str], patterns: Sequence[Pattern]) -> str | None:
    """What of the paths lies above the patterns: nothing, or the only folder of the root that has a fitting file."""

    def fits(path: str) -> bool:
        return any(pattern.match(path) for pattern in patterns)

    if any(fits(path) for path in files):
        return ""
    bases = {f"{folder}/" for folder, slash, below in (path.partition("/") for path in files) if slash and fits(below)}
    return bases.pop() if len(bases) == 1 else None


def _listed(patterns: Sequence[str]) -> str:
    return (
        f"the pattern {patterns[0]!r}"
        if len(patterns) == 1
        else f"any of the patterns {', '.join(map(repr, patterns))}"
    )


def _members(sample_id: str, files: list[_File], root: Path, parsed: Parsed) -> list[_File]:
    """The files of one utterance, pictures first; those that are another one's are errors."""
    first, *others = sorted(files, key=lambda file: (ending_rank(Path(file.path), VIDEO_ENDINGS[0])[0], file.path))
    members = [first]
    for file in others:
        same = next((member for member in members if _same_kind(member, file)), None)
        problem = _contradiction(first, file) or (same and "expected a field in what differs")
        if same and (root / same.path).stat().st_size == (root / file.path).stat().st_size:
            parsed.errors.append(duplicate(file.path, 0, sample_id, (same.path, 0)))
        elif problem:
            sentence = f"{file.path} gives the sample id {sample_id}, as {first.path} does, which is kept; {problem}"
            parsed.errors.append(RowError("same_id", file.path, 0, sentence))
        else:
            members.append(file)
    return members


def _contradiction(first: _File, other: _File) -> str | None:
    if other.names != first.names:
        return "expected names that differ in letters and digits"
    for name in sorted(first.fields.keys() & other.fields.keys() - {MODALITY}):
        if first.fields[name] != other.fields[name]:
            return f"{name} is {first.fields[name]!r} there and {other.fields[name]!r} here"
    return None


def _same_kind(one: _File, other: _File) -> bool:
    """Whether two files in different folders are of the same kind: one utterance has one folder of each."""
    differ = one.path.rpartition("/")[0] != other.path.rpartition("/")[0]
    kinds = ((is_video(Path(file.path)), file.fields.get(MODALITY)) for file in (one, other))
    return differ and len(set(kinds)) == 1


def _sample(
    corpus: str, sample_id: str, files: list[_File], labels: set[str], options: TableOptions
) -> Sample | RowError:
    first, meaning = files[0], files[0].meaning
    word, turn = meaning.get("split", ""), meaning.get("turn")
    split = split_of(word)
    if split is None and word.casefold() not in NO_SPLIT:
        return RowError("bad_row", first.path, 0, f"{unknown_split(word)}, or none or 3 for no split")
    number = None if turn is None else whole_number(turn)
    if turn is not None and number is None:
        return RowError("bad_row", first.path, 0, f"turn is {turn!r}; expected a whole number")
    text = meaning.get("text")
    if "text" in options.values and first.fields.get("text") not in options.values["text"]:
        text = None  # a code that nothing explains is no text
    video = next((file.path for file in files if file.gives("video")), None)
    # Sound of its own is taken before that of a video.
    sounds = sorted((is_video(Path(file.path)), position) for position, file in enumerate(files) if file.gives("audio"))
    audio = files[sounds[0][1]].path if sounds else None
    return Sample(
        sample_id=sample_id,
        corpus=corpus,
        split=split or "none",
        label=known_label(meaning["label"], labels) if "label" in meaning else None,
        dialogue=meaning.get("dialogue"),
        speaker=meaning.get("speaker"),
        turn=number,
        text=text,
        text_status="ok" if text else "no_text",
        text_source="transcript" if text else "none",
        native={name: value if name in FIELDS else meaning[name] for name, value in first.fields.items()},
        video_path=video,
        audio_path=audio,
        video_status="ok" if video else "missing_media",
        audio_status="ok" if audio else "missing_media",
    )

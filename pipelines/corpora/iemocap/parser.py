"""IEMOCAP: dialogues of two actors, labels by evaluators, split-screen video.

::

    IEMOCAP_full_release/Session{1..5}/
      dialog/EmoEvaluation/<dialogue>.txt      labels, votes, ratings: the only label files read
      dialog/transcriptions/<dialogue>.txt     <utterance> [start-end]: text
      dialog/avi/DivX/<dialogue>.avi           both actors side by side
      dialog/wav/<dialogue>.wav
      sentences/wav/<dialogue>/<utterance>.wav

Session 5 is the test part, as in the field and the paper, unless the option `test_session` says otherwise; experiments
of the protocol `folds` leave each session out at training time. Validation is carved out of the other sessions: by
dialogue (whole dialogues, about a fraction of all labelled utterances), or by utterance, where `size` and `fraction`
count only utterances that the corpus's active label map keeps: `size: 581` under `six_lineage` gives the paper's 5229
and 581.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from merloco.pipelines.catalog.entries import CorpusEntry, Entry
from merloco.pipelines.corpora.base import Parsed, RowError, compare_total, register_parser
from merloco.pipelines.corpora.clips import MediaIndex, is_video, media_files
from merloco.pipelines.corpora.folders import find_entry, find_release
from merloco.pipelines.corpora.iemocap.labels import DIALOGUE, EmoEvaluation, Remarks, read_evaluations
from merloco.pipelines.corpora.iemocap.transcripts import Turn, read_transcription, spoken
from merloco.pipelines.corpora.splits import carve_validation
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import Sample, to_table

RELEASE = "IEMOCAP_full_release"
DIALOGUES = {1: 28, 2: 30, 3: 32, 4: 30, 5: 31}
"""Session -> dialogues in the release."""
UTTERANCES = {"all sessions": 10039}
"""Labelled utterances of the release."""
VARYING = ("label", "start", "end", "duration", "speaker", "dialogue", "text", "split")
ONLY_TAGS = "only_tags"
"""Mark of an utterance whose transcript is tags alone, such as `[BREATHING]`; `native` has the tags."""
SAME_TIME = 0.01
"""Seconds by which label and transcript may disagree about an interval; in the release they are equal."""


class IemocapOptions(Entry):
    """Options of the parser `iemocap`."""

    test_session: int = Field(5, ge=1, le=5)
    """Session that is the test part. An ingest with another one changes splits only, and no feature is computed again;
    to leave each session out in turn needs none (experiments with `folds: {by: session}`)."""
    tags: Literal["strip", "keep"] = "strip"
    """Whether bracket tags such as [LAUGHTER] are taken out of the text; `native` always has them."""


@register_parser("iemocap", options=IemocapOptions)
def parse_iemocap(entry: CorpusEntry, root: Path, options: IemocapOptions) -> Parsed:
    """Parse an IEMOCAP release; a root with annotations but without media is accepted.

    Raises:
        DataError: No EmoEvaluation file under the root, or a validation that IEMOCAP cannot give.
    """
    expected = (
        f"no IEMOCAP labels under {str(root)!r}: expected Session1/dialog/EmoEvaluation/<dialogue>.txt there "
        f"or under {RELEASE}/"
    )
    parsed, remarks = Parsed(varying=VARYING), Remarks()
    base = root / RELEASE if _is_release(root / RELEASE) else find_release(root, _is_release, expected, parsed.notes)
    media = {session: _Media.of(folder, root) for session, folder in _sessions(base)}
    transcriptions = {file.stem: file for _, file in _files(base, "transcriptions")}
    complete = dict.fromkeys(DIALOGUES, 0)
    for session, file in _files(base, "EmoEvaluation"):
        where = file.relative_to(root).as_posix()
        if not DIALOGUE.fullmatch(file.stem) or not file.stem.startswith(f"Ses0{session}"):
            expected = f"expected a dialogue of session {session}: Ses0{session}F_impro01, ..."
            parsed.errors.append(RowError("bad_file", where, 0, f"label file of {file.stem!r}; {expected}"))
            continue
        complete[session] += 1
        evaluations = read_evaluations(file, where, parsed, remarks)
        turns = _turns(transcriptions.pop(file.stem, None), evaluations, where, root, parsed, remarks)
        ordered = sorted(evaluations, key=lambda evaluation: (evaluation.start, evaluation.utterance))
        for position, evaluation in enumerate(ordered):
            turn = turns.get(evaluation.utterance)
            text = "" if turn is None else turn.text if options.tags == "keep" else spoken(turn.text)
            sample = _sample(evaluation, turn, text, position, session, media[session])
            parsed.samples.append(replace(sample, split="test") if session == options.test_session else sample)
    for file in transcriptions.values():
        remarks.setdefault("transcriptions have no label file", []).append(file.relative_to(root).as_posix())
    parsed.notes += [f"{len(places)} {sentence} (first: {places[0]})" for sentence, places in remarks.items()]
    if complete != DIALOGUES:
        counts = ", ".join(f"Session{n} {complete[n]} of {total}" for n, total in DIALOGUES.items())
        parsed.notes.append(f"dialogues found, of those in the release: {counts}")
    else:
        compare_total(parsed, UTTERANCES, "utterances")
    for session, files in media.items():
        parsed.notes += files.notes(
            session, [sample for sample in parsed.samples if (sample.dialogue or "").startswith(f"Ses0{session}")]
        )
    if not any(sample.split == "test" for sample in parsed.samples):
        parsed.notes.append(f"catalog: test_session {options.test_session} has no sample here: the test split is empty")
    _carve_validation(parsed, entry)
    return parsed


def _sessions(base: Path) -> Iterator[tuple[int, Path]]:
    for session in DIALOGUES:
        folder = find_entry([base], f"Session{session}") if base.is_dir() else None
        if folder is not None:
            yield session, folder


def _files(base: Path, kind: str) -> Iterator[tuple[int, Path]]:
    """Session and path of the files of one kind; evaluator subfolders and `._` stubs are not among them."""
    for session, folder in _sessions(base):
        place = find_entry([folder], f"dialog/{kind}")
        for file in sorted(place.iterdir()) if place is not None and place.is_dir() else []:
            if file.suffix.lower() == ".txt" and not file.name.startswith(".") and file.is_file():
                yield session, file


def _is_release(base: Path) -> bool:
    return any(_files(base, "EmoEvaluation"))


@dataclass(frozen=True, slots=True)
class _Media:
    """Media of one session, relative to the root, listed once: to ask for files one by one is slow on network disks."""

    folder: str
    dialogues: MediaIndex
    sounds: MediaIndex
    sentences: MediaIndex

    @classmethod
    def of(cls, folder: Path, root: Path) -> _Media:
        avi = find_entry([folder], "dialog/avi/DivX") or find_entry([folder], "dialog/avi")
        sentences = find_entry([folder], "sentences/wav")
        cut = [path for place in (sorted(sentences.iterdir()) if sentences else []) for path in media_files(place)]
        return cls(
            folder.relative_to(root).as_posix(),
            MediaIndex.of(filter(is_video, media_files(avi)), root, ".avi"),
            MediaIndex.of(media_files(find_entry([folder], "dialog/wav")), root, ".wav"),
            MediaIndex.of(cut, root, ".wav"),
        )

    def notes(self, session: int, samples: list[Sample]) -> Iterator[str]:
        """Files that were not used, beside what is missing."""
        dialogues = sorted({s.dialogue or "" for s in samples if s.video_status == "missing_media"})
        sentences = [s.sample_id.rsplit("/", 1)[1] for s in samples if s.audio_status == "missing_media"]
        yield from self.dialogues.notes(f"Session{session}, videos", dialogues)
        yield from self.sounds.notes(f"Session{session}, sounds of dialogues", dialogues)
        yield from self.sentences.notes(f"Session{session}, sentences", sentences)


def _turns(
    file: Path | None, evaluations: list[EmoEvaluation], labels: str, root: Path, parsed: Parsed, remarks: Remarks
) -> dict[str, Turn]:
    """Transcribed turns of a dialogue by utterance; in the release they are exactly the labelled ones."""
    if file is None:
        remarks.setdefault("dialogues have no transcription: their utterances have no text", []).append(labels)
        return {}
    turns = read_transcription(file, file.relative_to(root).as_posix(), parsed, remarks)
    labelled = {evaluation.utterance for evaluation in evaluations}
    for sentence, names in (
        ("labelled utterances have no transcript line: they have no text", labelled - turns.keys()),
        ("transcribed turns have no readable label: left out", turns.keys() - labelled),
    ):
        if names:
            remarks.setdefault(sentence, []).extend(sorted(names))
    return turns


def _sample(
    evaluation: EmoEvaluation, turn: Turn | None, text: str, position: int, session: int, media: _Media
) -> Sample:
    """One utterance of the training part."""
    dialogue, who = evaluation.utterance.rsplit("_", 1)
    native = {"session": f"Ses0{session}", **evaluation.native()}
    if turn and turn.text != spoken(turn.text):
        native["transcript"] = turn.text
    only_tags = turn is not None and turn.text != "" and not spoken(turn.text)
    differs = turn and max(abs(turn.start - evaluation.start), abs(turn.end - evaluation.end)) > SAME_TIME
    avi = media.dialogues.find(dialogue)
    audio, (audio_start, audio_end) = _audio(evaluation, dialogue, media)
    return Sample(
        sample_id=f"iemocap/{dialogue}/{evaluation.utterance}",
        corpus="iemocap",
        split="train",
        label=evaluation.label,
        dialogue=dialogue,
        # The letter behind the session number is the actor who wears the markers; the speaker's is in the last part.
        speaker=f"Ses0{session}_{who[0]}",
        turn=position,
        start=evaluation.start,
        end=evaluation.end,
        duration=round(evaluation.end - evaluation.start, 4),
        video_path=avi or f"{media.folder}/dialog/avi/DivX/{dialogue}.avi",
        video_start=evaluation.start,
        video_end=evaluation.end,
        # The actor with the markers sits on the left half.
        video_side="left" if dialogue.split("_")[0][-1] == who[0] else "right",
        video_status="ok" if avi else "missing_media",
        audio_path=audio or f"{media.folder}/sentences/wav/{dialogue}/{evaluation.utterance}.wav",
        audio_start=audio_start,
        audio_end=audio_end,
        audio_status="ok" if audio else "missing_media",
        text=text or None,
        # Nothing is said in `[BREATHING]`: a fact of the transcript, and no gap that somebody should fill.
        text_source="transcript" if text or only_tags else "none",
        text_status="ok" if text and not only_tags else "no_text",
        marks=(*(("interval_differs",) if differs else ()), *((ONLY_TAGS,) if only_tags else ())),
        native=native,
    )


def _audio(
    evaluation: EmoEvaluation, dialogue: str, media: _Media
) -> tuple[str | None, tuple[float | None, float | None]]:
    """Sentence wav first; where it is missing, the dialogue's wav or avi by interval."""
    sentence = media.sentences.find(evaluation.utterance)
    whole = None if sentence else media.sounds.find(dialogue) or media.dialogues.find(dialogue)
    return (whole, (evaluation.start, evaluation.end)) if whole else (sentence, (None, None))


def _carve_validation(parsed: Parsed, entry: CorpusEntry) -> None:
    """Give some training samples the split `val`, as the catalog entry says."""
    validation = entry.validation
    training = [sample for sample in parsed.samples if sample.split == "train"]
    if validation is None or not training:
        return
    if validation.by == "film_time":
        raise DataError("IEMOCAP validation by 'film_time': expected by: dialogue or by: utterance")
    groups = {sample.sample_id: sample.dialogue or "" for sample in training}
    if validation.by == "utterance":
        label_map = entry.active_map
        known = [sample for sample in training if sample.label in label_map.labels]
        labels = apply_map(to_table(known), "iemocap", label_map)
        groups = {i: groups[i] for i in labels.filter(labels["emotion"].is_valid())["sample_id"].to_pylist()}
    carve_validation(parsed, groups, validation, "dialogue", "the rows")

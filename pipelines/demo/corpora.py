"""The demo's four releases: who says what when, and the annotation files in each corpus's native form.

Every builder writes the annotations under its root and returns the recordings to render. The native traps that are
cheap enough are in: absent and corrupt clips, stubs, undecided labels, overlap turns, negative starts, a clip without
a face.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from merloco.pipelines.demo.face import Actor, make_actor
from merloco.pipelines.demo.media import Line, Look, Recording, Track
from merloco.pipelines.demo.text import sentence
from merloco.pipelines.samples.schema import EMOTIONS

LOOKS = {
    "iemocap": Look(
        (180, 240), Fraction(30000, 1001), (70, 75, 80), 0.9, 0.0, 0.66, 0.8, 0.15, 0.002, 16000, "mpeg4", "pcm_s16le"
    ),
    "meld": Look(
        (320, 180), Fraction(24000, 1001), (150, 120, 80), 1.05, 0.0, 0.9, 1.0, 0.25, 0.006, 48000, "libx264", "aac"
    ),
    "mosei": Look((320, 240), Fraction(30), (190, 195, 200), 1.0, 0.7, 0.72, 0.6, 0.10, 0.001, 16000, "libx264", "aac"),
    "afew": Look(
        (320, 256), Fraction(25), (40, 45, 70), 0.75, 0.5, 0.62, 1.1, 0.40, 0.004, 44100, "mpeg4", "libmp3lame"
    ),
}
POKER_FACE_SHARE = 0.2
"""Share of utterances whose face shows next to nothing."""


class Scene:
    """Draws utterances of one corpus, all from one seed."""

    def __init__(self, corpus: str, seed: int) -> None:
        self.corpus = corpus
        self.generator = np.random.default_rng([seed, *corpus.encode()])

    def actors(self, count: int) -> list[Actor]:
        """Draw actors."""
        return [make_actor(self.generator) for _ in range(count)]

    def line(self, emotion: str, start: float) -> Line:
        """Draw an utterance of an emotion: 1.4 to 3 s, every sixth above 4 s so that it has several windows."""
        long = self.generator.random() < 1 / 6
        seconds = float(self.generator.uniform(4.1, 5.2) if long else self.generator.uniform(1.4, 3.0))
        # People do not always show what they feel: each channel is weak at times, and nearly silent at others.
        voice, face = (float(np.clip(self.generator.normal(mean, 0.25), 0.05, 1.0)) for mean in (0.7, 0.42))
        if self.generator.random() < POKER_FACE_SHARE:
            face = 0.05
        return Line(round(start, 3), round(seconds, 3), emotion, voice, face, self.seed())

    def text(self, emotion: str) -> str:
        """Draw a sentence."""
        return sentence(self.corpus, emotion, self.generator)

    def order(self, counts: dict[str, int]) -> list[str]:
        """Emotions in random order, each as often as `counts` says."""
        names = [name for name, count in counts.items() for _ in range(count)]
        return [names[i] for i in self.generator.permutation(len(names))]

    def seed(self) -> int:
        """Draw a seed."""
        return int(self.generator.integers(2**31))


def build_meld(root: Path, seed: int) -> Iterator[Recording]:
    """MELD: CSVs at the root, one mp4 per utterance."""
    scene = Scene("meld", seed)
    speakers = dict(zip(("Ada", "Ben", "Cleo", "Dan"), scene.actors(4), strict=True))
    parts = {
        "train": ("train_splits", dict(zip(EMOTIONS, (9, 6, 6, 6, 5, 5, 6), strict=True))),
        "dev": ("dev_splits_complete", dict(zip(EMOTIONS, (2, 2, 2, 2, 2, 2, 2), strict=True))),
        "test": ("output_repeated_splits_test", dict(zip(EMOTIONS, (5, 4, 4, 4, 3, 3, 4), strict=True))),
    }
    native = {"happy": "joy", "sad": "sadness", "angry": "anger"}
    sentiment = {"neutral": "neutral", "happy": "positive", "surprise": "positive"}
    for part, (folder, counts) in parts.items():
        rows, clock = [], 60.0
        for i, emotion in enumerate(scene.order(counts)):
            name = list(speakers)[int(scene.generator.integers(4))]
            line = scene.line(emotion, 0.1)
            length = line.seconds + 0.25
            text = scene.text(emotion)
            if part == "dev" and i == 0:
                text = "It\x92s " + text  # an older release: a cp1252 apostrophe read as Latin-1
            times = [_clock(clock), _clock(clock + length)]
            if part == "test" and i == 1:
                times = ["0:03:20,100", "0:03:22,28"]  # hours with one digit, a fraction with two
            label = native.get(emotion, emotion)
            rows.append([i + 1, text, name, label, sentiment.get(emotion, "negative"), i // 6, i % 6, 1, 1, *times])
            clock += length + 0.4
            clip = root / folder / f"dia{i // 6}_utt{i % 6}.mp4"
            track = (Track(speakers[name], (line,)),)
            channels = 6 if i % 3 else 2
            if (part, i) == ("train", 7):
                continue  # a row without its clip
            if (part, i) == ("test", 2):  # the first cut is wrong, the corrected one carries a prefix
                yield Recording(clip, 0.4, track, LOOKS["meld"], scene.seed(), channels, face=False)
                clip = clip.with_name(f"final_videos_test{clip.name}")
            yield Recording(clip, length, track, LOOKS["meld"], scene.seed(), channels)
        _write_csv(root / f"{part}_sent_emo.csv", MELD_HEADER, rows)
    stray = scene.line("neutral", 0.1)  # a clip without a row
    actor = next(iter(speakers.values()))
    path = root / "dev_splits_complete" / "dia9_utt9.mp4"
    yield Recording(path, 1.5, (Track(actor, (stray,)),), LOOKS["meld"], scene.seed())
    _write(root / "output_repeated_splits_test" / "._dia0_utt0.mp4", b"\x00\x05\x16\x07" + bytes(208))


MELD_HEADER = [
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID"),
    *("Season", "Episode", "StartTime", "EndTime"),
]
CORRUPT_CLIP = Path("meld/train_splits/dia1_utt3.mp4")
"""Cut in half after rendering: its index is gone, so nothing in it decodes."""


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    return f"{millis // 3600000:02d}:{millis // 60000 % 60:02d}:{millis // 1000 % 60:02d},{millis % 1000:03d}"


def build_iemocap(root: Path, seed: int) -> Iterator[Recording]:
    """IEMOCAP: two dialogues per session, split-screen avi, sentence wavs, EmoEvaluation and transcriptions."""
    scene = Scene("iemocap", seed)
    codes = {"neutral": "neu", "happy": "hap", "sad": "sad", "surprise": "sur", "angry": "ang"}
    votes = {"neu": "Neutral", "hap": "Happiness", "exc": "Excited", "sad": "Sadness"}
    votes |= {"sur": "Surprise", "ang": "Anger"}
    for session in range(1, 6):
        cast = dict(zip("FM", scene.actors(2), strict=True))
        each = (7, 6, 6, 5, 6) if session == 5 else (3, 3, 3, 2, 3)
        plan = scene.order(dict(zip(codes, each, strict=True)))
        for marker, share in (("F", plan[: len(plan) // 2]), ("M", plan[len(plan) // 2 :])):
            dialogue = f"Ses0{session}{marker}_impro01"
            folder = root / f"Session{session}"
            lines: dict[str, list[Line]] = {"F": [], "M": []}
            blocks, transcript, cuts, clock = [], [], [], 0.6
            for i, emotion in enumerate(share):
                speaker = "FM"[i % 2]
                code = "exc" if emotion == "happy" and i % 2 else codes[emotion]
                line = scene.line(emotion, clock)
                name, end = f"{dialogue}_{speaker}{i:03d}", round(clock + line.seconds, 3)
                vote = votes[code]
                if session in (1, 2) and marker == "M" and i == 0:
                    code, vote = ("fru", "Frustration") if session == 1 else ("xxx", "Other")
                lines[speaker].append(line)
                text = scene.text(emotion)
                transcript.append(f"{name} [{clock:.4f}-{end:.4f}]: {'[LAUGHTER] ' if i == 1 else ''}{text}")
                blocks.append((speaker != marker, clock, _iemocap_block(name, clock, end, code, vote, scene)))
                if (session, marker, i) != (2, "F", 1):  # this one is cut from the dialogue's wav instead
                    cuts.append((folder / "sentences" / "wav" / dialogue / f"{name}.wav", clock, end))
                clock = round(end + 0.5, 3)
            if session == 3:
                transcript.insert(1, f"{dialogue}_MXX0 [0.7000-1.0000]: Yes, but")
                transcript.insert(2, "M: (a bare speaker tag)")
            # The release lists all turns of the actor with the markers first, then the other's.
            labels = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(
                block for *_, block in sorted(blocks, key=lambda b: b[:2])
            )
            _write(folder / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", labels)
            _write(folder / "dialog" / "transcriptions" / f"{dialogue}.txt", "\n".join(transcript) + "\n")
            other = "M" if marker == "F" else "F"
            tracks = tuple(Track(cast[who], tuple(lines[who])) for who in (marker, other))
            wav = (folder / "dialog" / "wav" / f"{dialogue}.wav", 0.0, clock)
            avi = folder / "dialog" / "avi" / "DivX" / f"{dialogue}.avi"
            yield Recording(avi, clock, tracks, LOOKS["iemocap"], scene.seed(), cuts=(wav, *cuts))
    _write(root / "Session1" / "dialog" / "EmoEvaluation" / "._Ses01F_impro01.txt", bytes(64))


def _iemocap_block(name: str, start: float, end: float, code: str, vote: str, scene: Scene) -> str:
    valence, activation = scene.generator.integers(1, 6, size=2)
    dominance = "" if name.endswith("F000") else " 3"  # the release lacks some dominance values
    return "\n".join(
        [
            f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[{valence:.4f}, {activation:.4f}, 3.0000]",
            f"C-E1:\t{vote};\t()",
            f"C-E2:\t{vote}; Neutral;\t()" if code != "xxx" else "C-E2:\tSadness;\t(unsure)",
            f"C-F1:\t{vote};\t()",
            f"A-E1:\tval {valence}; act {activation}; dom {dominance};\t()",
            "",
        ]
    )


MOSEI_VIDEOS = {
    "train": ("-dEmo0Aa_01", "dE__mo0Bb02", "dEmo0Cc0003", "247811"),
    "val": ("_dEmo0Dd004",),
    "test": ("dEmo0Ee0005", "dEmo0Ff0006"),
    "none": ("dEmo0Gg0007",),
}
MOSEI_NAMES = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


def build_mosei(root: Path, seed: int) -> Iterator[Recording]:
    """CMU-MOSEI: full videos with several labelled intervals, wavs, segmented transcripts, a .csd and the folds."""
    scene = Scene("mosei", seed)
    six = ("happy", "sad", "angry", "surprise", "disgust", "fear")
    counts = {"train": (9, 7, 7, 6, 6, 6), "val": (2,) * 6, "test": (5, 4, 4, 4, 4, 4), "none": (1, 1, 1, 0, 0, 0)}
    labels: dict[str, list[tuple[str, tuple[float, float], list[float]]]] = {}
    for split, videos in MOSEI_VIDEOS.items():
        plan = scene.order(dict(zip(six, counts[split], strict=True)))
        for number, video in enumerate(videos):
            share = plan[number :: len(videos)] + (["neutral"] if split == "train" else [])
            clock, lines, rows, transcript = 0.6, [], [], []
            for clip, emotion in enumerate(share):
                line = scene.line(emotion, clock)
                end = round(clock + line.seconds, 3)
                start = -0.25 if clip == 0 and video == MOSEI_VIDEOS["train"][0] else clock
                lines.append(line)
                transcript.append(f"{video}___{clip}___{start:.3f}___{end:.3f}___{scene.text(emotion)}")
                rows.append((str(clip), (start, end), _intensities(emotion, scene)))
                clock = round(end + 0.4, 3)
            # Nobody labelled this one.
            transcript.append(f"{video}___{len(share)}___{clock:.3f}___{clock + 0.4:.3f}___Bye")
            # The .csd keeps the clips of a video in the order of their numbers as strings.
            labels[video] = sorted(rows, key=lambda row: row[0])
            _write(root / "Transcript" / "Segmented" / "Combined" / f"{video}.txt", "\n".join(transcript) + "\n")
            wav = (root / "Audio" / "Full" / "WAV_16000" / f"{video}.wav", 0.0, clock + 0.5)
            track = (Track(scene.actors(1)[0], tuple(lines)),)
            path = root / "Videos" / "Full" / "Combined" / f"{video}.mp4"
            yield Recording(path, clock + 0.5, track, LOOKS["mosei"], scene.seed(), cuts=(wav,))
    _write_csd(root / "CMU_MOSEI_Labels.csd", labels)
    lists = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}
    folds = "".join(f"{name} = {json.dumps(list(MOSEI_VIDEOS[split]))}\n" for name, split in lists.items())
    _write(root / "cmu_mosei_std_folds.py", folds)


def _intensities(emotion: str, scene: Scene) -> list[float]:
    """Sentiment and six emotions in thirds: one dominant, sometimes a second one, none for neutral."""
    native = "anger" if emotion == "angry" else emotion
    values = dict.fromkeys(MOSEI_NAMES, 0.0)
    if emotion != "neutral":
        dominant = int(scene.generator.integers(3, 8))
        values[native] = dominant / 3
        if scene.generator.random() < 0.25:
            second = MOSEI_NAMES[1 + int(scene.generator.integers(6))]
            values[second] = max(values[second], (dominant - 2) / 3)
        values["sentiment"] = (1 if emotion in ("happy", "surprise") else -1) * dominant / 3
    return [values[name] for name in MOSEI_NAMES]


def _write_csd(path: Path, labels: dict[str, list[tuple[str, tuple[float, float], list[float]]]]) -> None:
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=False) as handle:
        for video in sorted(labels):
            group = handle.create_group(f"All Labels/data/{video}")
            intervals = np.array([row[1] for row in labels[video]], dtype=np.float64)
            features = np.array([row[2] for row in labels[video]], dtype=np.float64)
            group.create_dataset("intervals", data=intervals, track_times=False)
            group.create_dataset("features", data=features, track_times=False)
        for key, value in (("root name", "All Labels"), ("dimension names", list(MOSEI_NAMES))):
            data = np.array([json.dumps(value)], dtype=object)
            handle.create_dataset(f"All Labels/metadata/{key}", data=data, dtype=h5py.string_dtype(), track_times=False)


def build_afew(root: Path, seed: int) -> Iterator[Recording]:
    """AFEW: one folder per emotion and part, names from film time."""
    scene = Scene("afew", seed)
    parts = {"Train_AFEW": (8, 7, 6, 6, 6, 6, 7), "Val_AFEW": (4, 4, 4, 3, 3, 3, 4)}
    cast = scene.actors(5)
    for part, counts in parts.items():
        entries = []
        for i, emotion in enumerate(scene.order(dict(zip(EMOTIONS, counts, strict=True)))):
            line = scene.line(emotion, 0.1)
            second = 60 + 37 * i if i else 75  # the first stem occurs in both parts
            stem = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}{120 if i == 0 else 40 * (i % 25):03d}"
            entries.append(f'  <Clip Name="{stem}" NameOfActor="Actor {i % 5}" MovieTitle="A demo film"/>')
            path = root / part / emotion.title() / f"{stem}.avi"
            track = (Track(cast[i % 5], (line,)),)
            no_face, no_sound = (part, i) == ("Train_AFEW", 4), (part, i) == ("Train_AFEW", 5)
            yield Recording(
                path, line.seconds + 0.2, track, LOOKS["afew"], scene.seed(), face=not no_face, sound=not no_sound
            )
        name = part.removesuffix("_AFEW")
        _write(root / part / f"{name}_6.xml", "<Clips>\n" + "\n".join(entries) + "\n</Clips>\n")


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


BUILDERS: dict[str, Callable[[Path, int], Iterator[Recording]]] = {
    "iemocap": build_iemocap,
    "meld": build_meld,
    "mosei": build_mosei,
    "afew": build_afew,
}

"""Corpora without code: catalog entries, tables and folder trees made on the spot."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from merloco.pipelines.catalog.entries import CorpusEntry, LabelMap
from merloco.pipelines.corpora.base import Parsed, parse_corpus

LABELS = {"joy": "happy", "anger": "angry", "sadness": "sad", "neutral": "neutral"}
RAVDESS_CODES = range(1, 9)


def table_entry(labels: dict[str, str] | None = None, **options: Any) -> CorpusEntry:
    """An entry of the parser `table`, its values as a catalog file gives them: lists as tuples."""
    label_map = LabelMap(labels=labels or LABELS)
    return CorpusEntry(parser="table", options=_tuples(options), map="all", maps={"all": label_map})


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def parse_table_corpus(root: Path, labels: dict[str, str] | None = None, **options: Any) -> Parsed:
    """Parse a folder as the corpus `mine`."""
    return parse_corpus("mine", table_entry(labels, **options), root)


def write_table(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return root


def touch(root: Path, paths: Iterable[str], content: bytes = b"clip") -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def ravdess_names(modality: str = "03", actors: Iterable[int] = range(1, 25)) -> list[str]:
    """The 60 speech recordings of each actor; neutral has no strong intensity."""
    return [
        f"Actor_{actor:02d}/{modality}-01-{emotion:02d}-{level:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
        for actor in actors
        for emotion in RAVDESS_CODES
        for level in ((1,) if emotion == 1 else (1, 2))
        for statement in (1, 2)
        for repetition in (1, 2)
    ]


def crema_d_names() -> list[str]:
    """As many names as the release has: 91 actors, a first sentence in three levels, eleven more in one."""
    sentences = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
    emotions = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    named = [
        f"{actor}_{sentence}_{emotion}_{level}"
        for actor in range(1001, 1092)
        for sentence in sentences
        for emotion in emotions
        for level in (("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",))
    ]
    return named[:7442]


def savee_names() -> list[tuple[str, str]]:
    """Speaker and name of the 480 sentences: 15 of each emotion, 30 neutral ones."""
    counts = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    return [
        (speaker, f"{letters}{i:02d}")
        for speaker in ("DC", "JE", "JK", "KL")
        for letters, n in counts.items()
        for i in range(1, n + 1)
    ]

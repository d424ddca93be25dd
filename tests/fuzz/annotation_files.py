"""Mangled annotation files and catalogs: rows that add up or one sentence, never a traceback, never a hang.

    python -m tests.fuzz.annotation_files --count 10000 --seed 0

Every trial has a number; `--first N --count 1` does one again.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import yaml

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.annotation_tables import read_table
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.corpora.meld import COLUMNS
from merloco.pipelines.corpora.mosei.labels import KNOWN
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.audit import make_audit
from merloco.pipelines.samples.label_counts import require_known_labels
from merloco.pipelines.samples.schema import to_table
from tests.fuzz.mangling import mangled_catalog, mangled_names, mangled_table
from tests.helpers.iemocap_release import HEADER, block
from tests.helpers.meld_release import csv_text, row
from tests.helpers.store_files import CATALOG

TIME_LIMIT = 10.0
"""Seconds that one trial may take."""
ENTRIES = load_catalog(CATALOG).corpora
RAW_CATALOG = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
EMOTIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
LABELS = ("joy", "anger", "neutral", "sadness", "fear")


@dataclass
class Figures:
    """What came of the trials."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kind of trial and `sentence` or `rows`."""
    found: int = 0
    samples: int = 0
    left_out: int = 0
    failures: list[str] = field(default_factory=list)


def run(count: int, seed: int = 0, first: int = 0) -> Figures:
    """Do some trials; what fails is in the figures, with the number of its trial."""
    figures = Figures()
    kinds = list(TRIALS)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            generator = random.Random(f"{seed}/{number}")
            kind = kinds[number % len(kinds)]
            root = Path(folder) / str(number)
            root.mkdir()
            try:
                with _time_limit():
                    parsed = TRIALS[kind](root, generator)
                figures.outcomes[kind, "rows"] += 1
                figures.found += parsed.found
                figures.samples += len(parsed.samples)
                figures.left_out += len(parsed.left_out)
            except DataError as error:
                figures.outcomes[kind, "sentence"] += 1
                if not str(error).strip() or "\n" in str(error):
                    figures.failures.append(f"{kind} {number}: not one sentence: {str(error)!r}")
            except Exception:
                figures.failures.append(f"{kind} {number}: {traceback.format_exc()}")
    return figures


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {TIME_LIMIT} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


def _ingest(corpus: str, root: Path, entry: object = None) -> Parsed:
    """Everything that an ingest does without a store."""
    entry = entry or ENTRIES[corpus]
    parsed = parse_corpus(corpus, entry, root)
    table = to_table(parsed.samples)
    require_known_labels(table, corpus, entry.maps[entry.map], entry.map, parsed.places)
    audit = make_audit(corpus, entry, root, parsed, table)
    assert audit.found == audit.samples + sum(audit.left_out.values())
    return parsed


def _check_rows(path: Path, known: tuple[str, ...], parsed: Parsed, accounted: set[int]) -> None:
    """Every line of a table is part of a row or without a value, and every row is a sample or a line of the audit."""
    table = read_table(path, known)
    covered: set[int] = set()
    for number, cells in table.rows():
        breaks = sum(cell.count("\n") for cell in cells.values()) if isinstance(cells, dict) else 0
        covered.update(range(number, number + breaks + 1))
        assert number in accounted, f"{path.name}:{number} is neither a sample nor in the audit"
    for number, line in enumerate(table._lines, start=1):
        if number > table.header_line and number not in covered:
            assert not line.strip(' \t"\r' + table.delimiter).strip(), f"{path.name}:{number} is in no row: {line!r}"


def _lines(parsed: Parsed, file: str) -> set[int]:
    lines = {line for name, line in parsed.places.values() if name == file}
    return lines | {error.line for error in parsed.errors if error.file == file}


def _meld(root: Path, generator: random.Random) -> Parsed:
    victim = generator.choice(("train", "dev", "test"))
    for part in ("train", "dev", "test"):
        rows = [
            row(i, i // 4, i % 4, f"line {i}, “said”" if i % 3 else 'a "quoted"\nbreak', LABELS[i % 5])
            for i in range(8)
        ]
        content = csv_text(rows).encode()
        name = f"{part}_sent_emo.csv"
        (root / name).write_bytes(mangled_table(content, generator) if part == victim else content)
    parsed = _ingest("meld", root)
    for part in ("train", "dev", "test"):
        name = f"{part}_sent_emo.csv"
        _check_rows(root / name, COLUMNS, parsed, _lines(parsed, name))
    return parsed


def _mosei_rows() -> list[list[object]]:
    return [[f"video{i // 3}", 4.0 * i, 4.0 * i + 3, i % 3 - 1, *((i + k) % 4 for k in range(6))] for i in range(9)]


def _csv(rows: list[list[object]]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


def _mosei_table(root: Path, generator: random.Random) -> Parsed:
    header: list[object] = ["video", "start_time", "end_time", *EMOTIONS, "split", "text"]
    rows = [[*cells, ("train", "val", "2", "none")[i % 4], f"text, {i}"] for i, cells in enumerate(_mosei_rows())]
    (root / "labels.csv").write_bytes(mangled_table(_csv([header, *rows]), generator))
    parsed = _ingest("mosei", root)
    _check_rows(root / "labels.csv", KNOWN, parsed, _lines(parsed, "labels.csv"))
    return parsed


def _mosei_workers(root: Path, generator: random.Random) -> Parsed:
    (root / "Raw/Labels").mkdir(parents=True)
    (root / "Raw/Transcript/Segmented/Combined").mkdir(parents=True)
    rows: list[list[object]] = [["Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{name}" for name in EMOTIONS)]]
    rows += [[f"x/{video}", i % 3, *values] for i, (video, _, _, *values) in enumerate(_mosei_rows()) for _ in range(2)]
    table, folds = _csv(rows), b"video,split\nvideo0,train\nvideo1,dev\nvideo2,test\n"
    lines = {
        f"video{v}": "\n".join(f"video{v}___{c}___{4 * c}___{4 * c + 3}___t {c}" for c in range(3)) for v in range(3)
    }
    texts = {video: content.encode() for video, content in lines.items()}
    victim = generator.choice(("table", "folds", "texts"))
    if victim == "table":
        table = mangled_table(table, generator)
    elif victim == "folds":
        folds = mangled_table(folds, generator)
    else:
        texts["video1"] = mangled_table(texts["video1"], generator)
    (root / "Raw/Labels/batch.csv").write_bytes(table)
    (root / "folds.csv").write_bytes(folds)
    for video, content in texts.items():
        (root / f"Raw/Transcript/Segmented/Combined/{video}.txt").write_bytes(content)
    return _ingest("mosei", root)


def _iemocap(root: Path, generator: random.Random) -> Parsed:
    dialogue = "Ses01F_impro01"
    labels = HEADER + "".join(block(f"{dialogue}_F{i:03d}", 3.0 * i, ("ang", "neu", "xxx")[i % 3]) for i in range(6))
    texts = "".join(f"{dialogue}_F{i:03d} [{3.0 * i:.4f}-{3.0 * i + 2:.4f}]: Text {i}.\n" for i in range(6))
    contents = {"EmoEvaluation": labels.encode("latin-1"), "transcriptions": texts.encode("latin-1")}
    victim = generator.choice(list(contents))
    contents[victim] = mangled_table(contents[victim], generator)
    for folder, content in contents.items():
        path = root / "Session1/dialog" / folder / f"{dialogue}.txt"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    parsed = _ingest("iemocap", root)
    file = f"Session1/dialog/EmoEvaluation/{dialogue}.txt"
    summaries = [line for line in contents["EmoEvaluation"].replace(b"\r", b"\n").split(b"\n") if line.startswith(b"[")]
    out = [error for error in parsed.left_out if error.file == file]
    assert len(parsed.samples) + len(out) >= len(summaries), "a label line is neither a sample nor in the audit"
    return parsed


def _afew(root: Path, generator: random.Random) -> Parsed:
    clips = [f"{part}_AFEW/{emotion}/00{i:02d}10000.avi" for part in ("Train", "Val") for i, emotion in AFEW_FOLDERS]
    xml = b'<A><C Name="000010000" NameOfActor="X"><Length>5</Length></C></A>'
    clips = mangled_names(clips, generator)
    for clip in clips:
        path = root / clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clip")
    if (root / "Train_AFEW").is_dir():
        (root / "Train_AFEW/Train_6.xml").write_bytes(mangled_table(xml, generator))
    return _ingest("afew", root)


AFEW_FOLDERS = tuple(enumerate(("Angry", "Fear", "Happy", "Sad")))


def _catalog(root: Path, generator: random.Random) -> Parsed:
    path = root / "catalog.yaml"
    path.write_text(mangled_catalog(RAW_CATALOG, generator), encoding="utf-8")
    corpora = load_catalog(path).corpora
    (root / "meld").mkdir()
    for part in ("train", "dev", "test"):
        (root / "meld" / f"{part}_sent_emo.csv").write_text(csv_text([row(1, 0, 0), row(2, 0, 1, emotion="anger")]))
    return _ingest("meld", root / "meld", corpora["meld"]) if "meld" in corpora else Parsed()


TRIALS: dict[str, Callable[[Path, random.Random], Parsed]] = {
    "meld": _meld,
    "mosei table": _mosei_table,
    "mosei workers": _mosei_workers,
    "iemocap": _iemocap,
    "afew": _afew,
    "catalog": _catalog,
}


def main() -> int:
    """Run from the command line; exit 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    figures = run(arguments.count, arguments.seed, arguments.first)
    for failure in figures.failures[:20]:
        print(failure)
    for (kind, outcome), n in sorted(figures.outcomes.items()):
        print(f"{kind}: {n} trials ended in {outcome if outcome == 'rows' else 'one sentence'}")
    print(f"rows found {figures.found} = samples {figures.samples} + left out {figures.left_out}")
    print(f"{len(figures.failures)} of {arguments.count} trials failed")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())

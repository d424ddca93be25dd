"""Fifteen usual mistakes with MELD and CMU-MOSEI files: what a user sees is what docs/annotation-files.md says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.command_line import merloco
from tests.helpers.meld_release import csv_text, release, row
from tests.helpers.mosei_release import NAMES, Truth, transcripts
from tests.helpers.store_files import CATALOG

PAGE = (CATALOG.parent / "docs" / "annotation-files.md").read_text(encoding="utf-8")
EMOTIONS = ("joy", "anger", "neutral", "sadness", "surprise", "fear", "disgust", "joy")
Cells = list[str]


def meld_rows() -> list[Cells]:
    return [
        row(
            i + 1,
            i // 4,
            i % 4,
            f"Well, line {i}.",
            EMOTIONS[i],
            Speaker=f"Ann {i % 3}",
            StartTime=f"00:16:{10 + 4 * i},059",
            EndTime=f"00:16:{13 + 4 * i},{500 + i}",
        )
        for i in range(8)
    ]


def meld(root: Path, edit: Callable[[str], str] = str, encoding: str = "utf-8", clips: str = "dia{}_utt{}.mp4") -> None:
    release(root)
    (root / "train_sent_emo.csv").write_bytes(edit(csv_text(meld_rows())).encode(encoding))
    (root / "train_splits").mkdir()
    for i in range(8):
        (root / "train_splits" / clips.format(i // 4, i % 4)).write_bytes(b"clip")


def cells(change: Callable[[Cells], Cells]) -> Callable[[str], str]:
    return lambda _: csv_text([change(cells) for cells in meld_rows()])


def at(position: int, change: Callable[[str], str]) -> Callable[[Cells], Cells]:
    return lambda row: [*row[:position], change(row[position]), *row[position + 1 :]]


def joined(delimiter: str) -> Callable[[str], str]:
    """Commas that no quote protects; the text and the times keep theirs."""
    return lambda text: "\r\n".join(
        "".join(part if i % 2 else part.replace(",", delimiter) for i, part in enumerate(line.split('"')))
        if delimiter == "\t"
        else '"'.join(part if i % 2 else part.replace(",", delimiter) for i, part in enumerate(line.split('"')))
        for line in text.split("\r\n")
    )


def twice(text: str) -> str:
    head, *lines = text.splitlines()
    return "\r\n".join([f"{head},Emotion", *(f"{line},neutral" for line in lines)])


def mosei(root: Path, unit: float = 1.0, split: str = "validation") -> None:
    rows = [
        (f"video{i // 3}", 6.0 * (i % 3) + 0.5, 6.0 * (i % 3) + 5 + i / 4, i % 3 - 1, i % 4, 0.5, 1, i % 2, 0.25, i / 3)
        for i in range(6)
    ]
    videos: Truth = {}
    for i, (video, start, end, *values) in enumerate(rows):
        videos.setdefault(video, {})[i % 3] = (start, end, list(values), f"text {i}")
    transcripts(root, videos)
    words = ("train", split)
    lines = [["video", "start_time", "end_time", *NAMES, "split"]]
    lines += [
        [v, str(s * unit), str(e * unit), *map(str, rest), words[i // 3]] for i, (v, s, e, *rest) in enumerate(rows)
    ]
    (root / "labels.csv").write_text("\n".join(map(",".join, lines)))


def spreadsheet(root: Path) -> None:
    root.mkdir(parents=True)
    for part in ("train", "dev", "test"):
        (root / f"{part}_sent_emo.xlsx").write_bytes(b"PK\x03\x04")


def disagreeing(text: str) -> str:
    return (
        text
        + ",".join(
            ['9,"Well, line 0."', *meld_rows()[0][2:3], "anger", *meld_rows()[0][4:9], '"00:16:10,059","00:16:13,500"']
        )
        + "\r\n"
    )


MISTAKES: dict[str, tuple[str, str, Callable[[Path], None], int, str]] = {
    "semicolons": ("meld", "", lambda r: meld(r, joined(";")), 0, "note      train_sent_emo.csv: separated by ';'"),
    "unicode text": (
        *("meld", "", lambda r: meld(r, joined("\t"), "utf-16"), 0),
        "note      train_sent_emo.csv: in UTF-16-LE; separated by tabs",
    ),
    "short times": (
        *(
            "meld",
            "",
            lambda r: meld(r, cells(lambda row: [*row[:9], *(t[3:-2].replace(",", ".") for t in row[9:])])),
            0,
        ),
        "note      train_sent_emo.csv: times such as 16:10.0",
    ),
    "float ids": (
        *("meld", "", lambda r: meld(r, cells(at(5, lambda i: f"{i}.0"))), 0),
        "note      train_sent_emo.csv: ids taken as whole numbers: 8 (first: '0.0')",
    ),
    "capital labels": (
        *("meld", "", lambda r: meld(r, cells(at(3, str.capitalize))), 0),
        "note      train_sent_emo.csv: labels in another spelling: 8 (first: 'Joy' taken as 'joy')",
    ),
    "column twice": (
        *("meld", "", lambda r: meld(r, twice), 1),
        "error: train_sent_emo.csv:1: column 'Emotion' stands twice (4 and 12): expected it once",
    ),
    "rows that disagree": (
        *("meld", "", lambda r: meld(r, disagreeing), 1),
        "error: train_sent_emo.csv:10: meld/train/dia0_utt0 is also in train_sent_emo.csv:2 with another label, "
        "'joy' there and 'anger' here: expected one row, or equal ones",
    ),
    "unknown label": (
        *("meld", "", lambda r: meld(r, lambda text: text.replace(",joy,", ",happy,")), 1),
        "error: corpus 'meld', train_sent_emo.csv:2: unknown label 'happy' (in 2 rows): known: anger, disgust, fear, "
        "joy, neutral, sadness, surprise; add it to the label map 'seven' in the catalog",
    ),
    "comma without quotes": (
        *("meld", "", lambda r: meld(r, lambda text: text.replace('"Well, line 2."', "Well, line 2.")), 0),
        "train_sent_emo.csv:4: 12 cells; expected 11",
    ),
    "converted clips": (
        *("meld", "", lambda r: meld(r, clips="Dia{}_utt{}.MKV"), 0),
        "note      train: clips under another name or ending than the release's: 8 (Dia0_utt0.MKV, Dia0_utt1.MKV, "
        "Dia0_utt2.MKV, ...)",
    ),
    "renamed clips": (
        *("meld", "", lambda r: meld(r, clips="{}-{}.mp4"), 0),
        "note      train: clips without an annotation row, not used: 8 (0-0.mp4, likeliest the missing dia0_utt0; "
        "0-1.mp4, likeliest the missing dia0_utt1; 0-2.mp4, likeliest the missing dia0_utt2; ...); rows without a "
        "clip: 8 (dia0_utt0, dia0_utt1, dia0_utt2, ...)",
    ),
    "folder too low": (
        *("meld", "train_splits", meld, 1),
        "error: no MELD annotation under 'data/train_splits': expected train_sent_emo.csv, dev_sent_emo.csv, "
        "test_sent_emo.csv there, or in MELD.Raw/; a folder above it is the release: give 'data' as the root",
    ),
    "spreadsheets": (
        *("meld", "", spreadsheet, 1),
        "error: no MELD annotation under 'data': expected train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv "
        "there, or in MELD.Raw/; found dev_sent_emo.xlsx, test_sent_emo.xlsx, train_sent_emo.xlsx",
    ),
    "milliseconds": (
        *("mosei", "", lambda r: mosei(r, 1000.0), 1),
        "error: labels.csv:2: the interval 500-5000 s of video0 fits no transcript, but most intervals do when they "
        "are taken as milliseconds: expected seconds",
    ),
    "unknown split": (
        *("mosei", "", lambda r: mosei(r, split="trainval"), 1),
        "error: labels.csv:5: unknown split 'trainval': did you mean 'train'? known: train, training, tr, 0, val, "
        "valid, validation, dev, 1, test, testing, 2, or none or 3 for no split",
    ),
}
"""Mistake -> corpus, folder given as the root, how to make it, exit code, the line that says it."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_user_sees(capsys: pytest.CaptureFixture, tmp_path: Path, mistake: str) -> None:
    corpus, below, make, expected, line = MISTAKES[mistake]
    make(tmp_path / "data")
    root = tmp_path / "data" / below
    store = str(tmp_path / "store")
    code, out, err = merloco(capsys, "ingest", corpus, "--root", f"{corpus}={root}", "--store", store, "--no-flow")
    seen = [text.strip().replace(f"{tmp_path}/", "") for text in (out + err).splitlines()]
    assert (code, "Traceback" in err) == (expected, False)
    assert line in seen, "\n".join(seen)
    assert f"`{line.removeprefix('note').strip()}`" in PAGE, "docs/annotation-files.md says something else"


def test_columns_without_information_are_findings_for_people_and_machines(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    meld(tmp_path / "data", cells(at(3, lambda _: "joy")))
    options = ("--root", f"meld={tmp_path / 'data'}", "--store", str(tmp_path / "store"), "--no-flow")
    assert "\n  total     10 of the release's 13,708 utterances\n" in merloco(capsys, "ingest", "meld", *options)[1]
    assert "\n  findings  one_value: label ('joy')\n" in merloco(capsys, "ingest", "meld", *options)[1]
    assert "meld,one_value,,label,10\n" in merloco(capsys, "ingest", "meld", *options, "--format", "csv")[1]


def test_the_page_has_every_mistake() -> None:
    table = PAGE.partition("What a user sees")[2]
    assert sum(text.startswith("| ") for text in table.splitlines()) == len(MISTAKES) + 1

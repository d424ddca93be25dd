"""Ingest of 45,000 utterances: generated annotations of the releases' size in their native formats.

Printed, not asserted: seconds and memory depend on the machine. The goal is 60 s and 1 GB on 2 cores, then 5 s again.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.afew_release import release as afew_release
from tests.helpers.iemocap_release import block, write_dialogue
from tests.helpers.meld_release import csv_text, row
from tests.helpers.mosei_release import csd, transcripts
from tests.helpers.store_files import CATALOG

VOTES = (
    "C-E1:\tAnger; Frustration;\t()\nC-E2:\tAnger;\t()\nC-E4:\tFrustration;\t()\nC-F1:\tAnger;\t()\n"
    "A-E3:\tval 2; act 4; dom  4;\t()\nA-E4:\tval 1; act 4; dom  5;\t(threatening, belligerent)\n"
    "A-F1:\tval 2; act 3; dom  4;\t()\n"
)
"""An utterance of the release has four category votes and three ratings."""
SIZES = {"iemocap": 10039, "meld": 13708, "mosei": 23259, "afew": 1156}


def make_iemocap(root: Path) -> None:
    per_dialogue, made = 66, 0
    for session in range(1, 6):
        for number in range(31):
            dialogue = f"Ses0{session}{'FM'[number % 2]}_impro{number % 90 + 1:02d}"
            count = min(per_dialogue, SIZES["iemocap"] - made)
            names = [f"{dialogue}_{'FM'[i % 2]}{i:03d}" for i in range(count)]
            text = "".join(f"{n} [{3 * i}.0000-{3 * i + 2}.0000]: Some words here.\n" for i, n in enumerate(names))
            write_dialogue(root, dialogue, "".join(block(n, 3.0 * i, "ang", VOTES) for i, n in enumerate(names)), text)
            made += count


def make_meld(root: Path) -> None:
    root.mkdir(parents=True)
    for part, n in (("train", 9989), ("dev", 1109), ("test", 2610)):
        rows = [row(i, i // 10, i % 10, f"This is sentence number {i}.") for i in range(n)]
        (root / f"{part}_sent_emo.csv").write_text(csv_text(rows))


def make_mosei(root: Path) -> None:
    videos: dict = {}
    for i in range(SIZES["mosei"]):
        clip = i % 7
        line = (3.0 * clip, 3.0 * clip + 2.5, [0.0, 1.0, 0, 0, 0, 0, 0], f"words of segment {i}")
        videos.setdefault(f"video{i // 7:06d}", {})[clip] = line
    csd(root, videos)
    transcripts(root, videos)


def make_afew(root: Path) -> None:
    names = [f"00{i // 60 % 60:02d}{i % 60:02d}{i // 3600:03d}" for i in range(773)]
    afew_release(root, *(f"Train_AFEW/Happy/{n}.avi" for n in names), *(f"Val_AFEW/Sad/{n}.avi" for n in names[:383]))


def ingest(folder: Path) -> float:
    roots = [part for name in SIZES for part in ("--root", f"{name}={folder / name}")]
    script = str(Path(sys.executable).parent / "merloco")
    begun = time.perf_counter()
    command = [script, "ingest", *roots, "--store", str(folder / "store"), "--no-flow"]
    subprocess.run(command, cwd=CATALOG.parent, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def test_ingest_of_all_four_corpora(tmp_path: Path) -> None:
    for name, make in (("iemocap", make_iemocap), ("meld", make_meld), ("mosei", make_mosei), ("afew", make_afew)):
        make(tmp_path / name)
    first = ingest(tmp_path)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    second = ingest(tmp_path)
    total = sum(SIZES.values())
    print(f"\ningest of {total} utterances: {first:.1f} s, {peak:.0f} MB; again, nothing changed: {second:.1f} s")

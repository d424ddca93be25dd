"""Mangled media: whatever happens to a file, its sample gets a row in time and in little memory.

    python -m tests.fuzz.media --count 5000 --seed 0

Small clips in seven containers are mangled (bits flipped, cut, blocks zeroed or moved, headers overwritten, stamps
moved, streams dropped) and read as an extraction reads them: decoder processes, windows, the light encoder of sound.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.reader import read_sample
from merloco.features.views import resolve_view
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.media.pool import DecoderPool
from tests.helpers.media_files import Track, clicks, write_streams

TIME_LIMIT = 20.0
"""Seconds for one sample."""
MEMORY_LIMIT = 2 * 2**30
"""Bytes that a decoder process may hold."""
CONTAINERS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "flac"),
    "ts": ("libx264", "mp2"),
    "avi": ("mpeg4", "mp2"),
    "wav": ("", "pcm_s16le"),
    "mp3": ("", "libmp3lame"),
    "mov": ("libx264", "aac"),
}
INTERVALS = ((None, None), (0.0, 1.0), (1.2, 1.9), (0.5, None), (5.0, 6.0))


@dataclass
class Outcome:
    """What became of the files."""

    statuses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(ending, modality, status) -> files."""
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds of the slowest sample."""
    largest: int = 0
    """Bytes of the largest decoder process."""


def sources(folder: Path, draw: random.Random) -> list[Path]:
    """Sound clips of two seconds: every container, some with moved stamps, gaps, or one stream only."""
    paths = []
    for ending, codecs in CONTAINERS.items():
        pictures = bool(codecs[0])
        for variant in ("plain", "late", "leaping", "sound", "pictures") if pictures else ("plain",):
            if ending == "avi" and variant in ("late", "leaping"):
                continue  # it has no stamps
            start = draw.choice((3600.0, 86400.0)) if variant == "late" else 0.0
            leap = (1.0, draw.choice((3.0, 1e5))) if variant == "leaping" else None
            times = [start + i / 25 for i in range(50)] if pictures and variant != "sound" else None
            tracks = [] if variant == "pictures" else [Track(clicks(2.0, [0.5, 1.5]), start, gap=leap)]
            paths.append(write_streams(folder / f"{variant}.{ending}", times, tracks, codecs=codecs))
    return paths


def mangle(content: bytes, draw: random.Random) -> bytes:
    """One to three injuries."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        if not data:
            break
        draw.choice(INJURIES)(data, draw)
    return bytes(data)


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 10, 200))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _zero(data: bytearray, draw: random.Random) -> None:
    begin = draw.randrange(len(data))
    end = min(begin + draw.choice((16, 512, 8192)), len(data))
    data[begin:end] = bytes(end - begin)


def _move(data: bytearray, draw: random.Random) -> None:
    begin, size, to = draw.randrange(len(data)), draw.choice((8, 188, 4096)), draw.randrange(len(data))
    block = data[begin : begin + size]
    del data[begin : begin + size]
    data[to:to] = block


def _overwrite_header(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 4, 16))):
        data[draw.randrange(min(len(data), 2048))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    if b"moov" in data and draw.random() < 0.7:  # the header of mp4 lies at the end
        begin = data.index(b"moov")
        for _ in range(8):
            data[draw.randrange(begin, len(data))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))


INJURIES: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _cut, _zero, _move, _overwrite_header)


def run(count: int, seed: int, folder: Path, threads: int = 2) -> Outcome:
    """Mangle and read `count` files; what is wrong is in `Outcome.problems`."""
    draw = random.Random(seed)
    catalog = load_catalog("catalog.yaml")
    views = [resolve_view(catalog, name) for name in ("prosody", "face_hog")]
    sound, encoder = views[0], views[0].build("cpu")
    contents = [(path.suffix[1:], path.read_bytes()) for path in sources(folder, draw)]
    outcome, decoders = Outcome(), DecoderPool(TIME_LIMIT)

    def read(number: int) -> None:
        own = random.Random(f"{seed}/{number}")
        ending, content = own.choice(contents)
        path = folder / f"{number}.{ending}"
        path.write_bytes(mangle(content, own))
        start, end = own.choice(INTERVALS)
        media = {
            f"{kind}_{key}": value
            for kind in ("audio", "video")
            for key, value in (("path", path.name), ("start", start), ("end", end), ("status", "ok"))
        }
        begun = time.monotonic()
        try:
            items = read_sample(views, {"sample_id": path.stem, "video_side": "full", **media}, folder, decoders)
            rows = encode_items(sound, encoder, [items["prosody"]])
            assert len(rows) == 1 and set(items) == {"prosody", "face_hog"}
            for modality, item in (("audio", items["prosody"]), ("video", items["face_hog"])):
                outcome.statuses[ending, modality, item.status] += 1
                if item.status == "ok" and not (item.size and np.isfinite(item.value).all()):
                    outcome.problems.append(f"{path.name}: {modality} is ok and not finite, or empty")
        except Exception as error:  # what must never reach an extraction
            outcome.problems.append(f"{path.name}: {type(error).__name__}: {error}")
        outcome.slowest = max(outcome.slowest, time.monotonic() - begun)
        for process in decoders.processes:
            outcome.largest = max(outcome.largest, peak_memory(process))
        path.unlink()

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(count)))
    finally:
        decoders.close()
    if outcome.slowest > 2 * (2 * TIME_LIMIT):
        outcome.problems.append(f"a sample took {outcome.slowest:.0f} s")
    if outcome.largest > MEMORY_LIMIT:
        outcome.problems.append(f"a decoder process held {outcome.largest >> 20} MiB")
    return outcome


def peak_memory(process: int) -> int:
    """Most bytes that a process has held; 0 where the system does not tell, or the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(arguments.count, arguments.seed, Path(folder))
    for (ending, modality, status), number in sorted(outcome.statuses.items()):
        print(f"{ending:4} {modality:5} {status:15} {number:6}")
    print(f"slowest sample {outcome.slowest:.1f} s, largest decoder process {outcome.largest >> 20} MiB")
    print(*outcome.problems[:50], sep="\n")
    raise SystemExit(bool(outcome.problems))


if __name__ == "__main__":
    main()

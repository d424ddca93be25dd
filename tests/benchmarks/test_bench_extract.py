"""Extraction end to end with the light set: overhead, against the published-style loop, memory over 2,000 clips.

What is asserted are ratios: the runs that are compared share process, clips and weights.
MERLOCO_BENCH_CLIPS sets the clips of each demo corpus (24), MERLOCO_BENCH_DEMO a folder with built demo corpora.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.pipeline import ShardTarget, extract_views
from merloco.features.extraction.reader import Item, prepare, read_sample
from merloco.features.shards.format import plan_shards
from merloco.features.store import FeatureStore
from merloco.flows.extract.service import DETECTORS, READERS
from merloco.models.encoders.base import Encoder
from merloco.models.faces.mtcnn import Mtcnn
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.demo.build import build_demo
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.pool import DecoderPool, InlineDecoder
from merloco.pipelines.media.probe import MediaError
from merloco.pipelines.media.video import read_frames
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.schema import Sample
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.corpora_files import store_of
from tests.helpers.media_files import clicks, write_media
from tests.helpers.store_files import CATALOG

CLIPS = int(os.environ.get("MERLOCO_BENCH_CLIPS", "24"))
CORPORA = ("iemocap", "meld", "mosei", "afew")
FPS, NATIVE = 5, 25
CORES = len(os.sched_getaffinity(0))
MEMORY_CLIPS, FILES = 2000, 50
MOST_OVERHEAD, LEAST_RATIO = 1.15, 4.0
"""What an extraction may take, over decoding and encoding alone; what the published-style loop takes, over that."""

Roots = dict[str, Path]
Encoders = dict[str, Encoder]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    built = os.environ.get("MERLOCO_BENCH_DEMO")
    return {n: Path(built) / n for n in CORPORA} if built else build_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    """The light set, loaded and warm: neither side pays for that."""
    store = FeatureStore.open(tmp_path_factory.mktemp("empty"), load_catalog(CATALOG), create=True)
    built = {modality: view.build("cpu") for modality, view in store.views("light").items()}
    for modality, item in (("audio", tone()), ("video", np.zeros((2, 180, 320, 3), np.uint8)), ("text", "warm")):
        built[modality].encode([item])
    return built


def tone() -> np.ndarray:
    return np.sin(np.arange(64000, dtype=np.float32)[None] / 20)


def demo_store(folder: Path, roots: Roots) -> FeatureStore:
    """A store with the first clips of each corpus."""
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(folder, catalog, create=True)
    for name, root in roots.items():
        ingest_corpus(name, catalog.corpus(name), root, folder)
        write_parquet(samples_path(folder, name), read_samples(folder, name).slice(0, CLIPS))
    return store


def extract(store: FeatureStore, roots: Roots, encoders: Encoders, media: DecoderPool, progress: Any = None) -> float:
    """Seconds for all shards as `merloco extract` does them: sound with pictures, two jobs beside each other."""
    views = store.views("light")
    jobs = [
        (root, [(views[m], encoders[m], shard) for m, shard in zip(group, shards, strict=True)])
        for corpus, root in roots.items()
        for group in (("audio", "video"), ("text",))
        for shards in zip(*(plan_shards(corpus, store.samples([corpus]), m) for m in group), strict=True)
    ]

    def run(root: Path, parts: list) -> None:
        targets = [ShardTarget(view, encoder, shard, store.folder(view)) for view, encoder, shard in parts]
        used = [target.view for target in targets]

        def read(record: Mapping[str, Any]) -> Mapping[str, Item]:
            return read_sample(used, record, root, media)

        extract_views(targets, read, readers=READERS, detectors=DETECTORS, progress=progress)

    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, *job) for job in jobs]:
            done.result()
    return time.perf_counter() - begun


def one_after_the_other(store: FeatureStore, roots: Roots, encoders: Encoders) -> tuple[float, float]:
    """Seconds of decoding, and of the encoders' own passes over all clips of a corpus; nothing runs beside them."""
    views, media = store.views("light"), InlineDecoder()
    decode = encode = 0.0
    for corpus, root in roots.items():
        begun = time.perf_counter()
        read = [read_sample(list(views.values()), r, root, media) for r in store.samples([corpus]).to_pylist()]
        decode += time.perf_counter() - begun
        begun = time.perf_counter()
        for modality, view in views.items():
            encode_items(view, encoders[modality], [items[view.name] for items in read])
        encode += time.perf_counter() - begun
    return decode, encode


def published_style(store: FeatureStore, roots: Roots, encoders: Encoders, folder: Path) -> float:
    """Seconds of the loop that papers publish.

    One clip at a time: the whole video is decoded, its sound goes by way of a temporary wav file, and every sampled
    frame is looked through alone. Encoders and weights are ours; the detector is the package's as it comes.
    """
    from facenet_pytorch import MTCNN

    view = store.views("light")["audio"]
    detector = Mtcnn("cpu", 0.8, 40)
    detector.network = MTCNN(keep_all=True, min_face_size=40, device="cpu", post_process=False)
    begun = time.perf_counter()
    for corpus, root in roots.items():
        vectors: dict[str, np.ndarray] = {}
        for record in store.samples([corpus]).to_pylist():
            name = record["sample_id"].replace("/", ".")
            if record["text"]:
                vectors[f"{name}.text"] = encoders["text"].encode([record["text"]])[0].vectors
            try:
                video = read_frames(root / (record["video_path"] or "-"), fps=NATIVE, side=record["video_side"]).frames
                start, end = record["video_start"] or 0.0, record["video_end"]
                frames = video[round(start * NATIVE) : None if end is None else round(end * NATIVE) : NATIVE // FPS]
                faces = [detector.detect(frame[None])[0] for frame in frames]
                vectors[f"{name}.video"] = encoders["video"].encode_detections([frames], [faces])[0].vectors
                wav = folder / "temporary.wav"
                soundfile.write(wav, read_audio(root / record["audio_path"], sample_rate=44100).wave, 44100)
                wave = prepare(view, read_audio(wav, record["audio_start"], record["audio_end"]).wave)
                vectors[f"{name}.audio"] = encoders["audio"].encode([wave])[0].vectors
            except MediaError:
                continue
        np.savez(folder / f"{corpus}.npz", **vectors)
    return time.perf_counter() - begun


def test_overhead_and_the_published_style_loop(tmp_path: Path, roots: Roots, encoders: Encoders) -> None:
    media = DecoderPool()
    extract(demo_store(tmp_path / "warm", {"meld": roots["meld"]}), {"meld": roots["meld"]}, encoders, media)
    print(f"\nlight set, {CORES} cores, load {os.getloadavg()[0]:.1f}; overhead = ours / (decode + encode)")
    head = ("corpus", "clips", "ours s", "clips/s", "decode s", "encode s", "overhead", "loop s", "loop/ours")
    print("".join(f"{column:>10}" for column in head))
    total = np.zeros(5)
    for name, root in roots.items():
        store, chosen = demo_store(tmp_path / name, {name: root}), {name: root}
        decode, encode = one_after_the_other(store, chosen, encoders)
        ours = extract(store, chosen, encoders, media)
        loop = published_style(store, chosen, encoders, tmp_path)
        figures = np.array([store.samples().num_rows, ours, decode, encode, loop])
        assert ours <= MOST_OVERHEAD * (decode + encode)
        total += figures
        print(line(name, figures))
    print(line("sum", total))
    store = demo_store(tmp_path / "all", roots)
    together = extract(store, roots, encoders, media)
    print(line("together", np.array([total[0], together, *total[2:]])))
    media.close()
    assert total[4] >= LEAST_RATIO * max(together, total[1])


def line(name: str, figures: np.ndarray) -> str:
    clips, ours, decode, encode, loop = figures
    values = (ours, clips / ours, decode, encode, ours / (decode + encode), loop, loop / ours)
    return f"{name:>10}{clips:>10.0f}" + "".join(f"{value:>10.2f}" for value in values)


def test_memory_over_two_thousand_clips(tmp_path: Path, encoders: Encoders) -> None:
    """Resident memory of this process and its decoders; every tenth file has no sound, which decoders leak on."""
    root = tmp_path / "clips"
    root.mkdir()
    for i in range(FILES):
        seconds = 1.0 + 0.05 * i
        wave = None if i % 10 == 0 else clicks(seconds, [0.2, 0.6])
        write_media(root / f"{i}.mp4", seconds, size=(160, 120), wave=wave)
    files = [f"{i % FILES}.mp4" for i in range(MEMORY_CLIPS)]
    samples = [
        Sample(f"meld/train/clip{i:04d}", "meld", "train", text="Hi.", video_path=file, audio_path=file)
        for i, file in enumerate(files)
    ]
    store, media = store_of(tmp_path / "store", *samples), DecoderPool()
    rows, sizes = 0, []

    def measure(count: int) -> None:
        nonlocal rows
        rows += count
        sizes.append((rows // 3, *memory()))

    seconds = extract(store, {"meld": root}, encoders, media, measure)
    media.close()
    print(f"\n{MEMORY_CLIPS} clips in {seconds:.0f} s, load {os.getloadavg()[0]:.1f}")
    print("".join(f"{column:>16}" for column in ("clips", "process MB", "decoders MB", "open files")))
    quarter = MEMORY_CLIPS // 4
    medians = []
    for begin in range(0, MEMORY_CLIPS, quarter):
        part = np.array([size for size in sizes if begin < size[0] <= begin + quarter], float)
        medians.append(np.median(part[:, 1:3].sum(axis=1)))
        print(f"{f'{begin} to {begin + quarter}':>16}" + "".join(f"{v:>16.0f}" for v in np.median(part[:, 1:], axis=0)))
    print(f"drift of the sum from the second to the last quarter: {medians[-1] / medians[1] - 1:+.1%}")


def memory() -> tuple[float, float, int]:
    process = psutil.Process()
    children = 0
    for child in process.children():
        try:
            children += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return process.memory_info().rss / 2**20, children / 2**20, process.num_fds()

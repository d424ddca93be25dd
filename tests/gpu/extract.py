"""Extraction end to end on generated clips: the published set with random weights, through the real store and queue.

Beside it what it could reach: the encoders alone over clips that are decoded already, and the decoders alone. Reading,
detecting, encoding and writing overlap, so the smaller of the two is the limit.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import yaml

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.reader import Item, read_sample
from merloco.features.shards.format import OK
from merloco.features.store import FeatureStore
from merloco.flows.extract import service
from merloco.flows.extract.gpu import gpu_use
from merloco.flows.extract.jobs import summarize
from merloco.flows.extract.service import plan_extraction
from merloco.flows.extract.shard_queue import ShardQueue, run_here
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.media.pool import DecoderPool, InlineDecoder
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.gpu.clips import write_clip, write_release
from tests.gpu.measuring import DEVICE, Row, chosen_size, clock, machine, print_table, write_report
from tests.gpu.random_weights import save_detector, save_encoders

CATALOG = Path(__file__).parents[2] / "catalog.yaml"
CORPUS, WARM = "meld", "warm"
"""What is timed, and a corpus like it whose extraction loads the encoders."""
WARM_CLIPS = 1


@dataclass(frozen=True)
class Size:
    """What is extracted."""

    full: bool
    """Whether the networks of sound and text are as large as the published ones."""
    picture: tuple[int, int]
    """Width and height."""
    seconds: float
    """Of a clip."""
    distinct: int
    """Clips that differ."""
    alone: int
    """Clips that decoders and encoders do alone."""
    readers: Sequence[int]
    clips: tuple[int, int]
    """Fewest and most clips of an extraction."""
    duration: float
    """Seconds that an extraction should take, by what decoders and encoders do alone."""


SIZES = {
    "full": Size(True, (1280, 720), 5.0, 4, 16, (1, 4, 16), (32, 1024), 18.0),
    "small": Size(True, (320, 180), 1.0, 2, 2, (1, 4), (2, 4), 5.0),
    "tiny": Size(False, (160, 96), 0.6, 1, 1, (2,), (2, 2), 1.0),
}


def main() -> None:
    """Measure, print, write."""
    name = chosen_size("Extraction end to end on generated clips.")
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as made:
        report = measure(Path(made), size)
    alone = report["encoders_alone"]
    print(f"encoders alone: {alone['clips_per_second']:.3g} clips/s (seconds a clip: {alone['seconds_per_clip']})")
    width, height = size.picture
    print_table(f"clips of {size.seconds:g} s, {width} x {height}, {machine()['cores']} cores", report["extractions"])
    write_report("extract", name, report)


def measure(folder: Path, size: Size) -> dict[str, Any]:
    """All figures; everything lies under `folder`."""
    clips = [folder / f"{seed}.mp4" for seed in range(size.distinct)]
    for seed, clip in enumerate(clips):
        write_clip(clip, size.seconds, size.picture, seed)
    catalog, roots = _catalog(folder), {}
    save_encoders(folder, size.full)
    for corpus, count in ((WARM, WARM_CLIPS), (CORPUS, size.clips[1])):
        roots[corpus] = write_release(folder / corpus, clips, count)
    store = FeatureStore.open(folder / "store", load_catalog(catalog), create=True)
    for corpus, root in roots.items():
        ingest_corpus(corpus, store.catalog.corpus(corpus), root, store.root)
        table = read_samples(store.root, corpus)
        write_parquet(samples_path(store.root, corpus), table.filter(pc.equal(table["video_status"], OK)))
    records = store.samples([CORPUS]).to_pylist()[: size.alone]
    frames = [InlineDecoder().read_frames(clip, None, None, 1.0, "full").frames[:1] for clip in clips]
    save_detector(folder, np.concatenate(frames))
    views = list(store.views("published").values())
    items = [read_sample(views, record, roots[CORPUS], InlineDecoder()) for record in records]
    encoders = encoders_alone(store, items)
    extractions = []
    for readers in size.readers:
        decode = decoders_alone(store, records, roots[CORPUS], readers)
        limit = min(decode, encoders["clips_per_second"])
        count = int(min(max(size.duration * limit, size.clips[0]), size.clips[1]))
        row = extract(store, catalog, roots, count, readers)
        per_second = row["clips_per_second"]
        extractions.append(
            {
                **row,
                "of_encoders": per_second / encoders["clips_per_second"],
                "decoders_alone": decode,
                "of_limit": per_second / limit,
            }
        )
    return {"encoders_alone": encoders, "extractions": extractions}


def _catalog(folder: Path) -> str:
    """The shipped catalog with the checkpoints of this run and two corpora in MELD's layout."""
    os.environ["MERLOCO_CHECKPOINTS"] = str(folder)
    content = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    corpus = {k: v for k, v in content["corpora"]["meld"].items() if k != "media_rules"}
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(content | {"corpora": {CORPUS: corpus, WARM: corpus}, "experiments": {}}))
    return str(path)


def encoders_alone(store: FeatureStore, items: Sequence[dict[str, Item]]) -> dict[str, Any]:
    """Rate of the encoders, one view after the other, over clips that are decoded; detection is the view's."""
    seconds = {}
    for modality, view in store.views("published").items():
        encoder, own = view.build(DEVICE), [item[view.name] for item in items]
        for measured in (False, True):
            begun = clock()
            rows = encode_items(view, encoder, own)
            if measured:
                seconds[modality] = (clock() - begun) / len(items)
        assert all(row.status == OK for row in rows), rows
    rounded = {modality: float(f"{value:.3g}") for modality, value in seconds.items()}
    return {"clips_per_second": 1 / sum(seconds.values()), "seconds_per_clip": rounded}


def decoders_alone(store: FeatureStore, records: Sequence[dict[str, Any]], root: Path, readers: int) -> float:
    """Clips per second of so many decoder processes; none waits for an encoder."""
    views, media = list(store.views("published").values()), DecoderPool()
    work = [*records] * -(-2 * readers // len(records))
    read = partial(read_sample, views, root=root, media=media)
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(lambda record: read(record), work[:readers]))  # starts the processes
        begun = time.perf_counter()
        list(pool.map(lambda record: read(record), work))
        rate = len(work) / (time.perf_counter() - begun)
    media.close()
    return rate


def extract(source: FeatureStore, catalog: str, roots: dict[str, Path], count: int, readers: int) -> Row:
    """Extract so many clips into a new store, as `merloco extract --no-flow` does, with loaded encoders."""
    folder = source.root.with_name(f"store-{readers}")
    shutil.copytree(source.root, folder)
    write_parquet(samples_path(folder, CORPUS), read_samples(folder, CORPUS).slice(0, count))
    store = FeatureStore.open(folder, load_catalog(catalog))
    service.READERS = readers
    views = list(store.views("published").values())
    _, jobs = plan_extraction(store, catalog, views, None, {n: str(r) for n, r in roots.items()}, DEVICE)
    run_here(ShardQueue(store, [job for job in jobs if job.corpus == WARM], 0.0), [DEVICE])
    with gpu_use(lambda _: None) as percent:
        begun = clock()
        done = run_here(ShardQueue(store, [job for job in jobs if job.corpus == CORPUS], 0.0), [DEVICE])
        seconds = clock() - begun
    stages = summarize(done.commits)["seconds"]
    slowest = max((stage for stage in stages if stage != "wait"), key=lambda stage: stages[stage])
    return {
        "readers": readers,
        "clips": count,
        "seconds": seconds,
        "clips_per_second": count / seconds,
        "gpu_percent": statistics.fmean(percent) if percent else None,
        "slowest": slowest,
        **{f"{stage}_s": value for stage, value in stages.items()},
    }


if __name__ == "__main__":
    main()

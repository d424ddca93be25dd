"""Miniature corpora in the four native layouts, with real media that any player opens.

One public-domain portrait speaks with synthetic voices; emotions show in face, voice and words in the same way in
every corpus, while pictures, rooms, levels and vocabulary differ: leaving a corpus out is a real shift.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from merloco.pipelines.demo.corpora import BUILDERS, CORRUPT_CLIP
from merloco.pipelines.demo.media import record
from merloco.pipelines.errors import UsageError
from merloco.pipelines.files.formats import write_json

DEMO_VERSION = 1
"""Raised when the demo's content changes: an older demo on disk is then built anew."""
SEED = 7


def build_demo(
    root: Path,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
    corpora: tuple[str, ...] = tuple(BUILDERS),
) -> dict[str, Path]:
    """Write the demo corpora; the same seed gives the same bytes.

    Args:
        root: Gets one folder per corpus and `demo.json`. A finished demo is left as it is, another one is replaced;
            folders that no demo has made are somebody's corpora and never touched.
        seed: Source of all variation.
        progress: Called with files done and files in all.
        corpora: Which corpora to build.

    Returns:
        Corpus -> its root folder.

    Raises:
        UsageError: A corpus's folder is there and was not made by a demo.
    """
    roots = {name: root / name for name in corpora}
    head = {"version": DEMO_VERSION, "seed": seed, "corpora": list(corpora)}
    marker = root / "demo.json"
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == head:
        if progress:
            progress(1, 1)
        return roots
    existing = [folder for folder in roots.values() if folder.exists()]
    if existing and not marker.is_file():
        raise UsageError(
            f"{str(existing[0])!r} is there and no finished demo made it: name another folder with --folder"
        )
    write_json(marker, {**head, "version": None})  # not finished: these folders may be replaced, and are no demo yet
    recordings = []
    for name, folder in roots.items():
        shutil.rmtree(folder, ignore_errors=True)
        recordings += list(BUILDERS[name](folder, seed))
    # Fresh processes: forking one that has threads (progress bars, torch) can hang.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(record, recording) for recording in recordings]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            if progress:
                progress(done, len(jobs))
    corrupt = root / CORRUPT_CLIP
    if corrupt.is_file():
        content = corrupt.read_bytes()
        corrupt.write_bytes(content[: len(content) // 2])
    write_json(marker, head)
    return roots

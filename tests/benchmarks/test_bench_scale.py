"""Three corpora of growing size through every command that looks at all of a store: time, memory, and how they grow.

Each step is a process of its own, start included. `MERLOCO_SCALE=50000,200000,1050000` chooses the numbers of rows,
`MERLOCO_SCALE_STORES` a folder in which the stores stay. The views are narrow (64 and 32 numbers), so that rows and not
vectors are what grows; a shard's tar has two numbers per row.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.helpers.large_store import LABELS, large_store
from tests.helpers.store_files import CATALOG

SIZES = [int(n) for n in os.environ.get("MERLOCO_SCALE", "6000,24000").split(",")]
WIDTHS = {"text": 64, "audio": 32}
MEMORY = 8e9
NEAREST = """
    with q as (select pooled from minilm where sample_id = 'meld/d0/u0000003')
    select sample_id, array_cosine_similarity(m.pooled, q.pooled) as cosine
    from minilm m, q where status = 'ok' order by cosine desc, sample_id limit 10
"""
LOAD = """
import sys
from merloco.features.query.matrices import load_matrices
from merloco.features.store import FeatureStore
store = FeatureStore.open(sys.argv[1])
load_matrices(store, "light", store.corpora(), ["text", "audio"])
"""
BOTH = ("--modalities", ",".join(WIDTHS))
STEPS = {
    "plan": ("plan", *BOTH),
    "extract, nothing to do": ("extract", *BOTH, "--no-flow"),
    "check": ("check",),
    "gc, dry": ("gc",),
    "count in SQL": ("sql", "select corpus, count(*) from samples join minilm using (sample_id) group by all"),
    "labels in SQL": ("sql", "select corpus, emotion, count(*) from labels group by all"),
    "nearest, index made": ("sql", NEAREST),
    "nearest": ("sql", NEAREST),
    "matrices": None,
    "train, one epoch": ("train", "--train", "iemocap,meld", "--test", "afew", *BOTH, "--epochs", "1", "--force"),
}
"""Step -> command; `matrices` is a script."""


def measure(store: Path, step: str) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak bytes of a step's process."""
    command = STEPS[step]
    argv = [sys.executable, "-c", LOAD, str(store)]
    if command is not None:
        argv = [sys.executable, "-m", "merloco.flows.cli.app", *command, "--store", str(store)]
    environment = {**os.environ, "MERLOCO_CATALOG": str(CATALOG)}
    begun = time.perf_counter()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{step}: {said}"
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def test_every_step_grows_no_faster_than_the_rows(tmp_path: Path) -> None:
    found: dict[str, list[tuple[float, float, float]]] = {step: [] for step in STEPS}
    for size in SIZES:
        root = Path(os.environ.get("MERLOCO_SCALE_STORES", tmp_path)) / f"rows{size}"
        if not root.is_dir():
            large_store(root, list(LABELS), size // len(LABELS), WIDTHS)
        for step in STEPS:
            found[step].append(measure(root, step))
            print(f"{size:,} rows, {step}: {found[step][-1][0]:.1f} s", flush=True)
    print("\nwall s / processor s / peak MB at " + ", ".join(f"{size:,}" for size in SIZES) + "; slope of processor s")
    for step, figures in found.items():
        cells = "  ".join(f"{wall:7.1f} {cpu:7.1f} {peak / 1e6:6.0f}" for wall, cpu, peak in figures)
        # What every process costs is no growth: the slope is of what a larger store adds.
        fixed = min(2.0, 0.9 * figures[0][1])
        slope = np.polyfit(np.log(SIZES), np.log([max(cpu - fixed, 0.1) for _, cpu, _ in figures]), 1)[0]
        print(f"{step:<24} {cells}   {slope:5.2f}")
        assert max(peak for _, _, peak in figures) < MEMORY, step
        assert max(SIZES) < 200_000 or slope < 1.4, step  # of small stores the noise is larger than the growth

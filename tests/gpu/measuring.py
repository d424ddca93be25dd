"""What the parts of a GPU run share: the device, clocks and its limits, tables, and the JSON of a part."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from merloco.models.device import float32_products, inference

SIZES = ("full", "small", "tiny")
"""Of a GPU, of its rehearsal on a CPU, and of the rehearsal in the test suite."""
TF32 = "tf32"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Row = Mapping[str, Any]


def chosen_size(about: str) -> str:
    """The size that the command line asks for; `full` on a GPU, else `small`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--size", choices=SIZES, default="full" if DEVICE == "cuda" else "small")
    size = str(parser.parse_args().size)
    if size == "tiny":  # beside other tests: threads that wait for each other by spinning would take the cores
        torch.set_num_threads(1)
    return size


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def clock() -> float:
    """Seconds, after all that the device has been given is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_per_call(call: Callable[[], object], least: float = 0.3) -> float:
    """Median over three rounds of a third of `least` seconds, after one call that is not counted; or one long call."""
    call()
    begun = clock()
    call()
    once = clock() - begun
    if once > least:
        return once
    repeats = max(1, round(least / 3 / max(once, 1e-6)))
    rounds = []
    for _ in range(3):
        begun = clock()
        for _ in range(repeats):
            call()
        rounds.append((clock() - begun) / repeats)
    return statistics.median(rounds)


def copy_bandwidth(count: int) -> float:
    """Bytes read and written per second by a copy of `count` float32 numbers on the device."""
    source = torch.rand(count, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_per_call(lambda: target.copy_(source))


@contextmanager
def forward_passes(precision: str) -> Iterator[None]:
    """Forward passes as encoders do them (see `inference`), and in TF32, in which they never do."""
    if precision != TF32:
        with inference(DEVICE, precision):
            yield
        return
    with float32_products(tf32=True), torch.inference_mode():
        yield


def matrix_rate(side: int, precision: str) -> float:
    """Multiplications and additions per second of a product of two square matrices of random numbers."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with float32_products(tf32=precision == TF32):
        first, second = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
        return 2 * side**3 / seconds_per_call(lambda: first @ second)


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Columns under their names, numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    numeric = [not any(isinstance(row.get(name), str) for row in rows) for name in names]
    print(f"\n{title}")
    for line in cells:
        print(
            "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)).rstrip()
        )
    sys.stdout.flush()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def output_folder() -> Path:
    """`$OUT`, made if it is not there."""
    folder = Path(os.environ.get("OUT") or "gpu-results")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_report(part: str, size: str, report: Mapping[str, Any]) -> None:
    """Write `$OUT/<part>.json`."""
    content = {"part": part, "size": size, **machine(), **report}
    (output_folder() / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

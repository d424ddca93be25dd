"""A large sweep on the device: 4 folds x 4 feature sets x 5 seeds over 45,000 rows, beside the published loop.

The limits are measured here as well. An update with Adam reads weight, gradient and both moments and writes all but
the gradient: it moves seven times the bytes of the weights of every run, whatever the batch. What a sweep does within
its time is counted, so one that is stopped has its figures too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.spec import RunResult, RunSpec, TrainConfig
from merloco.models.fusion.trainer import train_runs
from merloco.models.protocols import loco_folds, run_spec
from tests.benchmarks.published_loop import InMemory, published_run
from tests.gpu.measuring import (
    DEVICE,
    Row,
    chosen_size,
    clock,
    copy_bandwidth,
    matrix_rate,
    output_folder,
    print_table,
    write_report,
)
from tests.helpers.training import CORPORA, DIMS, WIDTHS, four_corpora

Runs = list[tuple[Dataset, RunSpec]]


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    rows: int
    sets: int
    seeds: int
    epochs: int
    patience: int
    seconds: dict[str, float]
    """Precision -> what its sweep may take."""
    profiled: int
    """Rows that are trained under the profiler, which keeps every call."""
    copied: int
    """Numbers in the copy that measures the bandwidth; far more than a cache holds."""
    side: int
    """Of the matrices that measure the rate of products."""
    widths: Mapping[str, int] = field(default_factory=lambda: WIDTHS)


SIZES = {
    "full": Size(45_000, 4, 5, 300, 20, {"float32": 58, "tf32": 22, "bf16": 22}, 4_500, 2**29, 8192),
    "small": Size(600, 1, 1, 3, 2, {"float32": 30}, 160, 2**26, 1024),
    "tiny": Size(160, 1, 1, 2, 2, {"float32": 5, "bf16": 5}, 160, 2**20, 64, DIMS),
}
"""A processor without matrix units multiplies halves more slowly than anybody waits for, unless they are narrow."""
CONFIG = TrainConfig()
FIRST = {f"fc_{modality}.weight" for modality in WIDTHS}


class OutOfTimeError(Exception):
    """A sweep has had its time."""


def main() -> None:
    """Measure, print, write."""
    name = chosen_size("A large sweep on the device, beside the published loop.")
    size = SIZES[name]
    config = replace(CONFIG, epochs=size.epochs, patience=size.patience)
    network = FusionNet(dict(size.widths), config.gated_dim, 7)
    weights = 4 * sum(weight.numel() for weight in network.parameters())
    report: dict[str, Any] = {
        "weight_bytes_per_run": weights,
        "bytes_per_second": copy_bandwidth(size.copied),
        "flops_per_second": {p: matrix_rate(size.side, p) for p in size.seconds},
    }
    print(f"copy: {report['bytes_per_second'] / 1e9:,.0f} GB/s", end="")
    print(*(f"; {p}: {rate / 1e12:.3g} TFLOP/s" for p, rate in report["flops_per_second"].items()), sep="")
    data = [four_corpora(size.rows, seed, size.widths) for seed in range(size.sets)]
    report["published_loop"] = published = published_rate(data[0], config)
    report["sweeps"] = []
    for precision, budget in size.seconds.items():
        runs = sweep(data, replace(config, precision=precision), size.seeds)
        measured = train(runs, budget)
        flops = report["flops_per_second"][precision]
        per_second = measured["run_samples_per_second"]
        report["sweeps"].append(
            {
                "precision": precision,
                **measured,
                "of_bandwidth": measured["updates_per_second"] * 7 * weights / report["bytes_per_second"],
                "of_products": per_second * flops_per_sample(network) / flops,
                "times_published": per_second / published,
            }
        )
        write_report("train", name, report)
    print_table(f"{len(runs)} runs over {size.rows:,} rows, batch {config.batch_size}", report["sweeps"])
    print(f"the published loop, one run at a time, features in memory: {published:,.0f} samples per second")
    profiled = [four_corpora(size.profiled, seed, size.widths) for seed in range(size.sets)]
    table = profiler_table(sweep(profiled, replace(config, epochs=1), size.seeds))
    (output_folder() / "train_profile.txt").write_text(table, encoding="utf-8")
    print(table)


def sweep(data: Sequence[Dataset], config: TrainConfig, seeds: int) -> Runs:
    """Leave one corpus out, on every feature set and with every seed."""
    folds = loco_folds(CORPORA)
    return [(d, run_spec(d, fold, config, seed)) for d in data for fold in folds for seed in range(seeds)]


def flops_per_sample(network: FusionNet) -> int:
    """Multiplications and additions of a training step for one row: forward, weights' gradient, inputs' gradient."""
    products = sum(weight.numel() for weight in network.parameters() if weight.ndim == 2)
    first = sum(w.numel() for name, w in network.named_parameters() if name in FIRST)  # nothing lies before these
    return 6 * products - 2 * first


def train(runs: Runs, budget: float) -> Row:
    """Train a sweep, at most for its time, and count what it did."""
    epochs = samples = updates = 0

    def count(spec: RunSpec, _: dict[str, float]) -> None:
        nonlocal epochs, samples, updates
        epochs += 1
        samples += len(spec.train_rows)
        updates += -(-len(spec.train_rows) // spec.config.batch_size)
        if time.perf_counter() - begun > budget:
            raise OutOfTimeError

    done: list[RunResult] = []
    begun = clock()
    with closing(train_runs(runs, count, DEVICE)) as results, suppress(OutOfTimeError):
        done.extend(results)
    seconds = clock() - begun
    best = [max(row["val_uar"] for row in result.history) for result in done]
    return {
        "seconds": seconds,
        "runs_done": len(done),
        "whole": len(done) == len(runs),
        "epochs": epochs,
        "run_samples_per_second": samples / seconds,
        "updates_per_second": updates / seconds,
        "val_uar": statistics.fmean(best) if best else None,
    }


def published_rate(data: Dataset, config: TrainConfig) -> float:
    """Training rows per second of the published loop, one run at a time; validation included, set-up not."""
    spec, epochs = run_spec(data, loco_folds(CORPORA)[0], config, 0), min(config.epochs, 2)
    utterances = InMemory(data)
    with tempfile.TemporaryDirectory() as folder:

        def seconds(epochs: int) -> float:
            begun = clock()
            published_run(data, utterances, spec, epochs, Path(folder) / "weights", DEVICE)
            return clock() - begun

        seconds(0)  # what is imported and allocated once
        set_up = seconds(0)
        return epochs * len(spec.train_rows) / (seconds(epochs) - set_up)


def profiler_table(runs: Runs) -> str:
    """Where the time of a sweep goes: the fifteen operations that take most of it."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE == "cuda" else [])]
    every_thread = _ExperimentalConfig(profile_all_threads=True)  # stacks train in threads of their own
    with profile(activities=activities, experimental_config=every_thread) as seen:
        list(train_runs(runs, device=DEVICE))
    order = "self_device_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
    return str(seen.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=48))


if __name__ == "__main__":
    main()

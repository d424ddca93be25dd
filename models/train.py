"""Training the fusion: all runs of a sweep at once, on arrays that sit in memory, early stopping on validation UAR.

Runs of equal shape train as one stack: a step takes one batch of every run, so its products are batched and its update
is one. Each run has its own rows, class weights, seed, learning rate and early stopping, and gets what it would get
alone; a finished run leaves the stack. On a CPU every core has a stack of its own: products of 32 rows are too small
to share.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.cores import Each, at_once, side_by_side
from models.data import Dataset
from models.fusion import FusionNet
from models.learner import Learner
from models.losses import Losses
from models.metrics import validation_score
from models.optimizers import StackOptimizer
from models.spec import RunResult, RunSpec, TrainConfig
from models.stack import CACHE, Stack
from models.step import Batch, Steps
from models.table import Scales, Table, standardized

BLOCK = 8
"""Steps for which dropout is drawn at once."""
STACK = {"cpu": 10, "cuda": 128}
"""Most runs in a stack, on a CPU for each core: a run takes about 60 MB with the published sizes."""


_SEEDING = threading.Lock()
"""Fresh weights come from torch's one global generator, and stacks are made in threads."""

Progress = Callable[[RunSpec, dict[str, float]], None]
"""Called after every epoch; where stacks train side by side, from their threads."""


def train_run(dataset: Dataset, spec: RunSpec, progress: Progress | None = None, device: str = "cpu") -> RunResult:
    """Train one run: a stack of one."""
    return next(train_runs([(dataset, spec)], progress, device))


def train_runs(
    runs: Sequence[tuple[Dataset, RunSpec]], progress: Progress | None = None, device: str = "cpu"
) -> Iterator[RunResult]:
    """Train runs in stacks of equal shape; results come as runs finish, not in the given order.

    Args:
        runs: The rows that a run works on, and the run. The same spec gives the same weights on the same machine.
        progress: Called after every epoch of a run with its row of the history.
        device: Where to train.

    Raises:
        ModelError: A run has nothing to train or to validate on.
    """
    groups: dict[tuple[object, ...], list[tuple[Dataset, RunSpec]]] = {}
    for dataset, spec in runs:
        groups.setdefault(_shape(dataset, spec.config), []).append((dataset, spec))
    most = STACK[torch.device(device).type]
    cores = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    for members in groups.values():
        for first in range(0, len(members), most * cores):
            chosen = members[first : first + most * cores]
            stacks = [part for k in range(cores) if (part := chosen[k::cores])]
            works = [partial(_train_stack, stack, progress, device) for stack in stacks]
            yield from works[0]() if len(works) == 1 else side_by_side(works)


def _shape(dataset: Dataset, config: TrainConfig) -> tuple[object, ...]:
    """What the runs of a stack have in common."""
    return (
        tuple(_widths(dataset, config).items()), dataset.classes, config.gated_dim, config.gate, config.dropout,
        config.batch_size, config.optimizer, config.task, config.precision, config.standardize,
    )  # fmt: skip


def _train_stack(
    runs: Sequence[tuple[Dataset, RunSpec]], progress: Progress | None, device: str
) -> Iterator[RunResult]:
    networks = [_seeded_network(dataset, spec) for dataset, spec in runs]
    stack = Stack(networks, device, runs[0][1].config.precision)
    shared = torch.device(device).type == "cpu" and networks[0].bytes >= CACHE  # else too little work to share
    with at_once(_widths(runs[0][0], runs[0][1].config)) if shared else nullcontext() as each:
        yield from _train(runs, stack, each, progress, device)


def _train(
    runs: Sequence[tuple[Dataset, RunSpec]], stack: Stack, each: Each | None, progress: Progress | None, device: str
) -> Iterator[RunResult]:
    config = runs[0][1].config
    table = Table([dataset for dataset, _ in runs], config, device)
    learners = [Learner(dataset, spec, table.offset(dataset), device) for dataset, spec in runs]
    scales, losses = Scales(runs, device), Losses(runs, device)
    optimizer = StackOptimizer(config.optimizer, stack)
    widths = {**_widths(runs[0][0], config), "fused": config.gated_dim}
    shape = (len(runs), BLOCK, config.batch_size, sum(widths.values()))
    noise = torch.empty(shape, device=device) if config.dropout else None
    totals = torch.zeros(len(runs), device=device)
    step = 0
    while learners:
        if step % BLOCK == 0 and noise is not None:
            _draw(noise, learners, config.dropout)
        count = min(BLOCK - step % BLOCK, *(learner.left for learner in learners))
        taken = [learner.take(count) for learner in learners]
        rows, counts = (torch.stack(parts, dim=1).to(device) for parts in zip(*taken, strict=True))
        rates = [learner.rate for learner in learners]
        decays = [learner.spec.config.weight_decay for learner in learners]
        optimizer.begin(step, rates, decays)
        batches = [
            Batch(
                partial(table.rows, rows[i], scales),
                table.presence(rows[i]),
                {} if noise is None else _by_place(noise[:, (step + i) % BLOCK], widths),
                partial(losses, counts=counts[i], **table.truth(rows[i])),
            )
            for i in range(count)
        ]
        for found, counted in zip(Steps(stack, optimizer.update, each).learn(batches), counts, strict=True):
            totals += found * counted.sum(-1)
        step += count
        going = []
        for r, learner in enumerate(learners):
            if learner.left:
                going.append(r)
            elif _end_epoch(learner, stack, r, table, scales, progress, float(totals[r])):
                going.append(r)
                totals[r] = 0
            else:
                yield RunResult(
                    learner.spec,
                    {**learner.best, **scales.arrays(r)},
                    learner.history,
                    learner.best_epoch,
                    time.perf_counter() - learner.begun,
                )
        if len(going) < len(learners):
            learners = [learners[r] for r in going]
            if learners:
                for part in (stack, optimizer, scales, losses):
                    part.keep(going)
                noise = None if noise is None else noise[going]
                totals = totals[going]


def _end_epoch(
    learner: Learner, stack: Stack, run: int, table: Table, scales: Scales, progress: Progress | None, loss: float
) -> bool:
    """Validate a run, note the sum of its losses; whether it goes on."""
    rows = learner.spec.val_rows
    chosen = torch.from_numpy(rows + learner.offset)
    features = {m: table.rows(chosen, scales, m, run) for m in table.modalities}
    logits = stack.predict(run, features, table.presence(chosen))
    task = learner.spec.config.task
    uar = validation_score(learner.dataset, rows, _probabilities(logits, task), task)
    if uar > learner.best_uar:
        learner.best = stack.arrays(run)
    going = learner.finish_epoch(uar, loss)
    if progress:
        progress(learner.spec, learner.history[-1])
    return going


def _draw(noise: Tensor, learners: Sequence[Learner], rate: float) -> None:
    """Fill what dropout multiplies with in the next steps (R, BLOCK, B, width), each run's from its own generator.

    A value takes 16 random bits, so that a rate is exact to 1 / 65,536 and a draw costs a third of torch's own.
    """
    dropped = round(rate * 2**16) - 2**15
    for run, learner in zip(noise, learners, strict=True):
        bits = torch.empty(-(-run.numel() // 4), dtype=torch.int64, device=run.device)
        bits.random_(-(2**63), None, generator=learner.noise)
        torch.ge(bits.view(torch.int16)[: run.numel()].view(run.shape), dropped, out=run)
    noise *= 1 / (1 - rate)


def _by_place(noise: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Split (R, B, width) into one part per place where dropout acts."""
    return dict(zip(widths, noise.split(list(widths.values()), dim=-1), strict=True))


def _widths(dataset: Dataset, config: TrainConfig) -> dict[str, int]:
    """Modality -> width of its features, of the modalities that a run takes."""
    return {m: dataset.features[m].shape[1] for m in config.modalities}


def _seeded_network(dataset: Dataset, spec: RunSpec) -> FusionNet:
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return build_network(dataset, spec.config)


def build_network(dataset: Dataset, config: TrainConfig) -> FusionNet:
    """A fresh network for a dataset's widths and classes."""
    return FusionNet(_widths(dataset, config), config.gated_dim, len(dataset.classes), config.gate, config.dropout)


def _probabilities(logits: Tensor, task: str) -> np.ndarray:
    """Softmax over the classes, or a sigmoid for each."""
    return (torch.softmax(logits, dim=-1) if task == "single" else torch.sigmoid(logits)).cpu().numpy()


def predict(
    result: RunResult, dataset: Dataset, rows: np.ndarray, nullify: Sequence[str] = (), device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a trained network to rows.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows to predict.
        nullify: Modalities that get a zero vector (the paper's nullification).
        device: Where to compute.

    Returns:
        Probabilities float32 (n, K), and the gate share of each of the run's modalities (n, modalities).
    """
    config = result.spec.config
    network = build_network(dataset, config)
    state = {name: torch.from_numpy(value) for name, value in result.weights.items() if not name.startswith("scale.")}
    network.load_state_dict(state)
    network.to(device).eval()
    features, present = {}, {}
    for modality in config.modalities:
        there = dataset.present[modality][rows]
        matrix = standardized(result.weights, modality, dataset.features[modality][rows]) * there[:, None]
        features[modality] = torch.from_numpy(matrix * (modality not in nullify)).to(device)
        present[modality] = torch.from_numpy(there).to(device)
    with torch.inference_mode():
        logits, shares = network(features, present)
    return _probabilities(logits, config.task), shares.cpu().numpy()

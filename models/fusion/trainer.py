"""Training the fusion on arrays that sit in memory, early stopping on validation UAR.

On a CPU every run trains by itself, each product in one thread, and every core has a run: what comes out is a function
of the run, bit for bit, whoever trains beside it and however many cores there are. With networks as wide as the
published ones that costs a few percent over batched products of several runs, whose order of addition depends on their
number. On a GPU runs of equal shape train as one stack: a step takes one batch of every run, so its products are
batched and its update is one; rounding then depends on the stack, and `tests/models/test_stacked.py` holds the
weights of short trainings to 1e-4 of what a run gets alone. A run keeps its own rows, class weights, seed, learning
rate and early stopping in either case, and a finished run leaves its stack.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.device import float32_products
from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.divergence import (
    DivergedError,
    diverged,
    joined,
    modality_of,
    require_finite,
    require_finite_steps,
)
from merloco.models.fusion.losses import FusionLoss
from merloco.models.fusion.optimizers import Optimizer
from merloco.models.fusion.prediction import build_network, probabilities_of
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.stacked import Networks, SingleNetwork, StackedFusion
from merloco.models.fusion.table import FeatureTable, StandardScaler
from merloco.models.metrics.scores import validation_score
from merloco.models.parallel import parallel_for, run_parallel, sequential

BLOCK = 8
"""Steps for which dropout is drawn at once, and between two looks at whether training goes on."""
WIDE = 4 * 2**20
"""Bytes of weights from which a network takes several cores: a smaller one has too little work to share."""
STACK = {"cpu": 1, "cuda": 128}
"""Most runs in a stack."""

Progress = Callable[[RunSpec, dict[str, float]], None]
"""Called after every epoch, in the thread that asks for results."""
Event = RunResult | DivergedError | tuple[RunSpec, dict[str, float]]
"""What a stack reports: a run that is done or has diverged, or a row of its history."""


def train_run(dataset: Dataset, spec: RunSpec, progress: Progress | None = None, device: str = "cpu") -> RunResult:
    """Train one run; see `train_runs`."""
    (result,) = train_runs([(dataset, spec)], progress, device)
    return result


def train_module(module: nn.Module, dataset: Dataset, spec: RunSpec, device: str = "cpu") -> RunResult:
    """The plain loop: train any module that takes features and presence by modality and gives logits.

    Args:
        module: See `SingleNetwork`; trained in place.
        dataset: All rows.
        spec: The run; the precision `bf16` is the fusion's own, a module trains in float32.
        device: Where to train.

    Raises:
        ModelError: There is nothing to train or to validate on.
        DivergedError: A loss or a weight is not finite.
    """
    with float32_products(tf32=spec.config.precision == "tf32"):
        for event in _train([(0, dataset, spec)], SingleNetwork(module.to(device)), device, threading.Event()):
            if isinstance(event, DivergedError):
                raise event
            if isinstance(event, RunResult):
                return event
    raise AssertionError("a run ends with a result or an error")


def train_runs(
    runs: Sequence[tuple[Dataset, RunSpec]], progress: Progress | None = None, device: str = "cpu"
) -> Generator[RunResult]:
    """Train runs; results come as runs finish, not in the given order. Closing the iterator ends the training.

    Args:
        runs: The rows that a run works on, and the run. On a CPU the same run gives the same weights on the same
            machine, bit for bit, whatever the others are.
        progress: Called after every epoch of a run with its row of the history.
        device: Where to train.

    Raises:
        ModelError: A run has nothing to train or to validate on.
        DivergedError: Raised after the last result: some runs have none, because a loss, a weight or a feature of
            theirs is not finite.
    """
    kind = torch.device(device).type
    groups: dict[tuple[object, ...], list[tuple[int, Dataset, RunSpec]]] = {}
    for position, (dataset, spec) in enumerate(runs):
        key = _stack_key(dataset, spec) if STACK[kind] > 1 else (position,)
        groups.setdefault(key, []).append((position, dataset, spec))
    stacks = [group[i : i + STACK[kind]] for group in groups.values() for i in range(0, len(group), STACK[kind])]
    cores = torch.get_num_threads() if kind == "cpu" else 1
    workers = max(1, min(cores, len(stacks)))
    tasks = [partial(_train_group, stack, device, cores // workers) for stack in stacks]
    errors: list[DivergedError] = []
    with closing(run_parallel(tasks, workers)) as events:
        for event in events:
            if isinstance(event, RunResult):
                yield event
            elif isinstance(event, DivergedError):
                errors.append(event)
            elif progress:
                progress(*event)
    if errors:
        raise joined(errors)


def _stack_key(dataset: Dataset, spec: RunSpec) -> tuple[object, ...]:
    """What the runs of a stack have in common: shapes, and all that the update of their weights depends on."""
    config = spec.config
    steps = 0 if config.schedule == "none" else -(-len(spec.train_rows) // config.batch_size)
    return (
        *((m, dataset.features[m].shape[1]) for m in config.modalities), dataset.classes, config.gated_dim, config.gate,
        config.dropout, config.batch_size, config.optimizer, config.learning_rate, config.weight_decay, config.schedule,
        steps, config.task, config.precision, config.standardize,
    )  # fmt: skip


def _train_group(
    members: Sequence[tuple[int, Dataset, RunSpec]], device: str, cores: int, stop: threading.Event
) -> Iterator[Event]:
    """Train runs of one shape together, without those whose features are not finite."""
    usable = []
    for position, dataset, spec in members:
        rows = np.concatenate([spec.train_rows, spec.val_rows])
        try:
            require_finite(dataset, rows, spec.config.modalities, f"run {spec.name!r} diverged in epoch 1")
        except DivergedError as error:
            yield error
        else:
            usable.append((position, dataset, spec))
    if not usable:
        return
    config = usable[0][2].config
    fusions = [build_network(dataset, spec.config, spec.seed) for _, dataset, spec in usable]
    widths = {m: usable[0][1].features[m].shape[1] ** 2 for m in config.modalities}
    wide = torch.device(device).type == "cpu" and sum(w.nbytes for w in fusions[0].parameters()) >= WIDE
    with (
        float32_products(tf32=config.precision == "tf32"),
        parallel_for(widths, cores) if wide and cores > 1 else nullcontext(sequential if wide else None) as each,
    ):
        yield from _train(usable, StackedFusion(fusions, device, config.precision, each), device, stop)


def _train(
    members: Sequence[tuple[int, Dataset, RunSpec]], networks: Networks, device: str, stop: threading.Event
) -> Iterator[Event]:
    runs = [(dataset, spec) for _, dataset, spec in members]
    config = runs[0][1].config
    table = FeatureTable([dataset for dataset, _ in runs], config, device)
    states = [RunState(number, dataset, spec, table.offset(dataset), device) for number, dataset, spec in members]
    scaler, loss = StandardScaler(runs, device), FusionLoss(runs, device)
    optimizer = Optimizer(networks.parameters(), config)
    noise = None
    if config.dropout and networks.dropout_widths:
        shape = (len(runs), BLOCK, config.batch_size, sum(networks.dropout_widths.values()))
        noise = torch.empty(shape, device=device)
    totals = torch.zeros(len(runs), device=device)
    step = 0
    while states and not stop.is_set():
        if step % BLOCK == 0 and noise is not None:
            _draw(noise, states, config.dropout)
        count = min(BLOCK - step % BLOCK, *(state.steps_remaining for state in states))
        rates = [states[0].learning_rate(states[0].step + i) for i in range(count)]
        batches = [state.next_batches(count) for state in states]
        rows, counts = (torch.stack(parts, dim=1).to(device) for parts in zip(*batches, strict=True))
        finite = []
        for i in range(count):
            optimizer.learning_rate = rates[i]
            drops = None if noise is None else _by_place(noise[:, (step + i) % BLOCK], networks.dropout_widths)
            features = {m: table.rows(rows[i], scaler, m) for m in table.modalities}
            logits, sums = networks(features, table.presence(rows[i]), drops)
            losses = loss(logits, counts=counts[i], **table.truth(rows[i]))
            networks.backward(losses.sum(), optimizer.update)
            losses = losses.detach()
            totals += losses * counts[i].sum(-1)
            finite.append(torch.isfinite(torch.stack([losses, *sums.values()])))
        step += count
        fine = torch.stack(finite, dim=1).cpu()
        active = []
        for r, state in enumerate(states):
            try:
                require_finite_steps(state.spec, state.epoch, fine[..., r], table.modalities)
                if state.steps_remaining:
                    active.append(r)
                    continue
                goes_on = _end_epoch(state, networks, r, table, scaler, float(totals[r]))
            except DivergedError as error:
                yield error
                continue
            yield state.spec, state.history[-1]
            totals[r] = 0
            if goes_on:
                active.append(r)
            else:
                yield RunResult(
                    state.spec,
                    {**state.best, **scaler.arrays(r)},
                    state.history,
                    state.best_epoch,
                    time.perf_counter() - state.begun,
                    state.position,
                )
        if 0 < len(active) < len(states):
            chosen = torch.tensor(active, device=device)
            for part in (networks, scaler, loss):
                part.select(chosen)
            optimizer.select(networks.parameters(), chosen)
            noise = None if noise is None else noise[chosen]
            totals = totals[chosen]
        states = [states[r] for r in active]


def _end_epoch(
    state: RunState, networks: Networks, run: int, table: FeatureTable, scaler: StandardScaler, loss: float
) -> bool:
    """Validate a run, note the sum of its losses; whether it goes on.

    Raises:
        DivergedError: Weights, or what they make of the validation rows, are not finite.
    """
    if names := networks.not_finite(run):
        named = dict.fromkeys(m for name in names if (m := modality_of(name)))
        raise diverged(state.spec, state.epoch, "weights are not finite", named)
    rows = state.spec.val_rows
    chosen = torch.from_numpy(rows + state.offset)
    with torch.inference_mode(), float32_products():
        features = {m: table.rows(chosen, scaler, m, run) for m in table.modalities}
        logits = networks.predict(run, features, table.presence(chosen))
    if not torch.isfinite(logits).all():
        raise diverged(state.spec, state.epoch, "outputs for validation rows are not finite", ())
    task = state.spec.config.task
    uar = validation_score(state.dataset, rows, probabilities_of(logits, task), task)
    if np.isnan(uar):
        raise ModelError(f"run {state.spec.name!r}: its validation rows show no class and its opposite to choose by")
    if uar > state.best_uar:
        state.best = networks.state(run)
    return state.finish_epoch(uar, loss)


def _draw(noise: Tensor, states: Sequence[RunState], rate: float) -> None:
    """Fill what dropout multiplies with in the next steps (R, BLOCK, B, width), each run's from its own generator.

    A value takes 16 random bits, so that a rate is exact to 1 / 65,536 and a draw costs a third of torch's own.
    """
    dropped = round(rate * 2**16) - 2**15
    for run, state in zip(noise, states, strict=True):
        bits = torch.empty(-(-run.numel() // 4), dtype=torch.int64, device=run.device)
        bits.random_(-(2**63), None, generator=state.noise)
        torch.ge(bits.view(torch.int16)[: run.numel()].view(run.shape), dropped, out=run)
    noise *= 1 / (1 - rate)


def _by_place(noise: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Split (R, B, width) into one part per place where dropout acts."""
    return dict(zip(widths, noise.split(list(widths.values()), dim=-1), strict=True))

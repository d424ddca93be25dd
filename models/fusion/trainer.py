"""Training the fusion on arrays that sit in memory, early stopping on validation UAR.

On a CPU every run trains by itself, each product in one thread, and every core has a run: what comes out is a function
of the run, bit for bit, whoever trains beside it and however many cores there are. With networks as wide as the
published ones that costs a few percent over batched products of several runs, whose order of addition depends on their
number. On a GPU runs of equal shape train as one stack: a step takes one batch of every run, so its products are
batched, its update is one and its launch is one (see `Steps`), and the host waits for the GPU only when an epoch of a
run is through; rounding then depends on the stack, and `tests/models/test_stacked.py` holds the weights of short
trainings to 1e-4 of what a run gets alone. A run keeps its own rows, class weights, seed, learning rate and early
stopping in either case, and finished runs leave their stack.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.device import float32_products
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.divergence import DivergedError, joined, require_finite, require_finite_steps
from merloco.models.fusion.dropout import CounterNoise, DropoutNoise, GeneratorNoise
from merloco.models.fusion.fitting import fit_run
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.losses import make_loss
from merloco.models.fusion.networks.base import GATED
from merloco.models.fusion.networks.module import FusionModule, stackable
from merloco.models.fusion.prediction import build_network
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.shift.transfer import with_transferred_epochs
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.stacked import Networks, SingleNetwork, StackedFusion, StackedModules
from merloco.models.fusion.steps import Steps, training_stream
from merloco.models.fusion.table import FeatureTable, StandardScaler
from merloco.models.fusion.validation import validation_logits, validation_uar
from merloco.models.parallel import parallel_for, run_parallel, seeded, sequential

WIDE = 4 * 2**20
"""Bytes of weights from which a network takes several cores: a smaller one has too little work to share."""
STACK = {"cpu": 1, "cuda": 128}
"""Most runs in a stack."""
NOISE: dict[str, type[GeneratorNoise] | type[CounterNoise]] = {"cpu": GeneratorNoise, "cuda": CounterNoise}
SPARE = 8
"""Finished runs leave a stack when they are more than one in so many: a stack of another size is captured anew."""

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
    with float32_products(tf32=spec.config.precision == "tf32"), training_stream(device):
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
    runs = list(with_transferred_epochs(runs, lambda inner: train_runs(inner, device=device)))
    kind = torch.device(device).type
    groups: dict[tuple[object, ...], list[tuple[int, Dataset, RunSpec]]] = {}
    for position, (dataset, spec) in enumerate(runs):
        alone = STACK[kind] == 1 or not stackable(spec.config)
        key = (position,) if alone else _stack_key(dataset, spec)
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
        *((m, dataset.modality_of.get(m), dataset.features[m].shape[1]) for m in config.modalities),
        dataset.classes, config.fusion, repr(sorted(config.fusion_options.items())), config.gated_dim, config.gate,
        config.dropout, config.batch_size, config.optimizer, config.learning_rate, config.weight_decay, config.schedule,
        steps, config.task, config.precision, config.standardize, config.standardize_by, config.transductive,
        config.modality_dropout, config.mixup, config.coral, config.adversarial, config.label_smoothing,
        config.mask_unannotated, config.balance, config.soft_targets, tuple(np.unique(dataset.corpus)),
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
    if config.fusion != GATED:
        yield from _train_modules(usable, device, stop)
        return
    fresh = {spec.seed: build_network(dataset, spec.config, spec.seed) for _, dataset, spec in usable}
    fusions = [cast(FusionNet, fresh[spec.seed]) for _, _, spec in usable]
    widths = {m: fusions[0].dropout_widths[m] ** 2 for m in fusions[0].modalities}
    wide = torch.device(device).type == "cpu" and sum(w.nbytes for w in fusions[0].parameters()) >= WIDE
    with (
        float32_products(tf32=config.precision == "tf32"),
        training_stream(device),
        parallel_for(widths, cores) if wide and cores > 1 else nullcontext(sequential if wide else None) as each,
    ):
        yield from _train(usable, StackedFusion(fusions, device, config.precision, each), device, stop)


def _train_modules(
    members: Sequence[tuple[int, Dataset, RunSpec]], device: str, stop: threading.Event
) -> Iterator[Event]:
    """Train or fit networks other than the paper's; one that draws from torch's global generator is by itself."""
    networks = [build_network(dataset, spec.config, spec.seed).to(device) for _, dataset, spec in members]
    with float32_products(tf32=members[0][2].config.precision == "tf32"), training_stream(device):
        if hasattr(networks[0], "fit"):
            for member, network in zip(members, networks, strict=True):
                yield from fit_run(*member, network, device)
        elif len(networks) > 1:
            yield from _train(members, StackedModules(cast(list[FusionModule], networks), device), device, stop)
        else:
            own = isinstance(networks[0], FusionModule)
            with nullcontext() if own else seeded(members[0][2].seed, device):
                yield from _train(members, SingleNetwork(networks[0]), device, stop)


def _train(
    members: Sequence[tuple[int, Dataset, RunSpec]], networks: Networks, device: str, stop: threading.Event
) -> Iterator[Event]:
    runs = [(dataset, spec) for _, dataset, spec in members]
    config = runs[0][1].config
    table = FeatureTable([dataset for dataset, _ in runs], config, device)
    states = [RunState(number, dataset, spec, table.offset(dataset), device) for number, dataset, spec in members]
    scaler = StandardScaler(runs, table.corpora, device)
    noise: DropoutNoise | None = None
    if config.dropout and networks.dropout_widths:
        seeds = [spec.seed for _, spec in runs]
        make = NOISE[torch.device(device).type]
        noise = make(seeds, networks.dropout_widths, config.batch_size, config.dropout, device)
    loss = make_loss(runs, table.corpora, device)
    steps = Steps(networks, table, scaler, loss, config, [spec.seed for _, spec in runs], noise, device)
    while (active := [r for r, state in enumerate(states) if not state.finished]) and not stop.is_set():
        if (len(states) - len(active)) * SPARE > len(states):
            steps.select(torch.tensor(active, device=device))
            states, active = [states[r] for r in active], list(range(len(active)))
        count = min(steps.block, *(states[r].steps_remaining for r in active))
        first = states[active[0]]
        finite = steps.run(states, count, [first.learning_rate(first.step + i) for i in range(count)])
        ended = [r for r in active if not states[r].steps_remaining]
        yield from _end_epochs(states, active, ended, finite, steps)


def _end_epochs(
    states: Sequence[RunState], active: Sequence[int], ended: Sequence[int], finite: Tensor, steps: Steps
) -> Iterator[Event]:
    """Finish runs that left the finite numbers, and the epochs that are through: the one time that a GPU is waited for.

    Args:
        states: Of all runs of the stack.
        active: Those that are not finished.
        ended: Those of them whose epoch is through.
        finite: What `Steps.run` gave.
        steps: Of the stack.
    """
    logits = validation_logits(states, ended, steps) if ended else {}
    weights = {name: fine.tolist() for name, fine in steps.networks.finite().items()} if ended else {}
    steps_finite = finite.permute(1, 0, 2).cpu()
    errors: dict[int, DivergedError] = {}
    scores: dict[int, float] = {}
    for r in active:
        try:
            require_finite_steps(states[r].spec, states[r].epoch, steps_finite[..., r], steps.table.modalities)
            if r in logits:
                not_finite = [name for name, fine in weights.items() if not fine[r]]
                scores[r] = validation_uar(states[r], not_finite, logits[r])
        except DivergedError as error:
            errors[r] = error
    device = finite.device
    if gains := [r for r, uar in scores.items() if states[r].improved_by(uar)]:
        steps.networks.snapshot(torch.tensor(gains, device=device))
    totals = steps.totals.tolist()
    for r, diverged_error in errors.items():
        states[r].finished = True
        yield diverged_error
    for r, uar in scores.items():
        state = states[r]
        state.finish_epoch(uar, totals[r])
        yield state.spec, state.history[-1]
        if state.finished:
            best = {**steps.networks.snapshot_of(r), **steps.scaler.arrays(r)}
            seconds = time.perf_counter() - state.begun
            yield RunResult(state.spec, best, state.history, state.best_epoch, seconds, state.position)
    if ended:
        steps.restart(torch.tensor(ended, device=device))

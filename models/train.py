"""Training the fusion on arrays that sit in memory, early stopping on validation UAR.

On a CPU every run trains by itself, each product in one thread, and every core has a run: what comes out is a function
of the run, bit for bit, whoever trains beside it and however many cores there are. With networks as wide as the
published ones that costs a few percent over batched products of several runs, whose order of addition depends on their
number. On a GPU runs of equal shape train as one stack: a step takes one batch of every run, so its products are
batched and its update is one; rounding then depends on the size of the stack, and `tests/test_stack.py` holds the
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
from torch import Tensor

from models.cores import Each, at_once, run_parallel, threads
from models.data import Dataset
from models.divergence import DivergedError, diverged, joined, modality_of, require_finite, require_finite_steps
from models.errors import ModelError
from models.fusion import FusionNet
from models.learner import Learner
from models.losses import Losses
from models.metrics import validation_score
from models.optimizers import StackOptimizer
from models.precision import float32_products
from models.spec import RunResult, RunSpec, TrainConfig
from models.stack import CACHE, Stack
from models.step import Batch, Steps
from models.table import Scales, Table, standardized

BLOCK = 8
"""Steps for which dropout is drawn at once, and between two looks at whether training goes on."""
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
    most, cores = STACK[kind], torch.get_num_threads() if kind == "cpu" else 1
    groups: dict[tuple[object, ...], list[tuple[int, Dataset, RunSpec]]] = {}
    for position, (dataset, spec) in enumerate(runs):
        key = _shape(dataset, spec.config) if most > 1 else (position,)
        groups.setdefault(key, []).append((position, dataset, spec))
    stacks = [members[i : i + most] for members in groups.values() for i in range(0, len(members), most)]
    workers = max(1, min(cores, len(stacks)))
    tasks = [partial(_train_stack, stack, device, cores // workers) for stack in stacks]
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


def _shape(dataset: Dataset, config: TrainConfig) -> tuple[object, ...]:
    """What the runs of a stack have in common."""
    return (
        tuple(_widths(dataset, config).items()), dataset.classes, config.gated_dim, config.gate, config.dropout,
        config.batch_size, config.optimizer, config.task, config.precision, config.standardize,
    )  # fmt: skip


def _train_stack(
    members: Sequence[tuple[int, Dataset, RunSpec]], device: str, cores: int, stop: threading.Event
) -> Iterator[Event]:
    sound = []
    for number, dataset, spec in members:
        rows = np.concatenate([spec.train_rows, spec.val_rows])
        try:
            require_finite(dataset, rows, spec.config.modalities, f"run {spec.name!r} diverged in epoch 1")
        except DivergedError as error:
            yield error
        else:
            sound.append((number, dataset, spec))
    if not sound:
        return
    config, widths = sound[0][2].config, _widths(sound[0][1], sound[0][2].config)
    networks = [build_network(dataset, spec.config, spec.seed) for _, dataset, spec in sound]
    stack = Stack(networks, device, config.precision)
    shared = torch.device(device).type == "cpu" and networks[0].bytes >= CACHE  # else too little work to share
    with (
        float32_products(tf32=config.precision == "tf32"),
        at_once(widths, cores) if shared else nullcontext() as each,
    ):
        yield from _train(sound, stack, each, device, stop)


def _train(
    members: Sequence[tuple[int, Dataset, RunSpec]],
    stack: Stack,
    each: Each | None,
    device: str,
    stop: threading.Event,
) -> Iterator[Event]:
    runs = [(dataset, spec) for _, dataset, spec in members]
    config = runs[0][1].config
    table = Table([dataset for dataset, _ in runs], config, device)
    learners = [Learner(number, dataset, spec, table.offset(dataset), device) for number, dataset, spec in members]
    scales, losses = Scales(runs, device), Losses(runs, device)
    optimizer = StackOptimizer(config.optimizer, stack)
    widths = {**_widths(runs[0][0], config), "fused": config.gated_dim}
    shape = (len(runs), BLOCK, config.batch_size, sum(widths.values()))
    noise = torch.empty(shape, device=device) if config.dropout else None
    totals = torch.zeros(len(runs), device=device)
    step = 0
    while learners and not stop.is_set():
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
        steps = Steps(stack, optimizer.update, each)
        found = torch.stack(steps.learn(batches))
        totals += (found * counts.sum(-1)).sum(0)
        finite = torch.isfinite(torch.stack([found, *(torch.stack(s) for s in steps.sums.values())])).cpu()
        step += count
        going = []
        for r, learner in enumerate(learners):
            try:
                require_finite_steps(learner.spec, learner.epoch, finite[..., r], table.modalities)
                if learner.left:
                    going.append(r)
                    continue
                goes_on = _end_epoch(learner, stack, r, table, scales, float(totals[r]))
            except DivergedError as error:
                yield error
                continue
            yield learner.spec, learner.history[-1]
            totals[r] = 0
            if goes_on:
                going.append(r)
            else:
                yield RunResult(
                    learner.spec,
                    {**learner.best, **scales.arrays(r)},
                    learner.history,
                    learner.best_epoch,
                    time.perf_counter() - learner.begun,
                    learner.number,
                )
        if len(going) < len(learners):
            learners = [learners[r] for r in going]
            if learners:
                for part in (stack, optimizer, scales, losses):
                    part.keep(going)
                noise = None if noise is None else noise[going]
                totals = totals[going]


def _end_epoch(learner: Learner, stack: Stack, run: int, table: Table, scales: Scales, loss: float) -> bool:
    """Validate a run, note the sum of its losses; whether it goes on.

    Raises:
        DivergedError: Weights, or what they make of the validation rows, are not finite.
    """
    names = stack.not_finite(run)
    if names:
        named = dict.fromkeys(m for name in names if (m := modality_of(name)))
        raise diverged(learner.spec, learner.epoch, "weights are not finite", named)
    rows = learner.spec.val_rows
    chosen = torch.from_numpy(rows + learner.offset)
    features = {m: table.rows(chosen, scales, m, run) for m in table.modalities}
    logits = stack.predict(run, features, table.presence(chosen))
    if not torch.isfinite(logits).all():
        raise diverged(learner.spec, learner.epoch, "outputs for validation rows are not finite", ())
    task = learner.spec.config.task
    uar = validation_score(learner.dataset, rows, _probabilities(logits, task), task)
    if np.isnan(uar):
        raise ModelError(f"run {learner.spec.name!r}: its validation rows show no class and its opposite to choose by")
    if uar > learner.best_uar:
        learner.best = stack.arrays(run)
    return learner.finish_epoch(uar, loss)


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


def build_network(dataset: Dataset, config: TrainConfig, seed: int = 0) -> FusionNet:
    """A fresh network for a dataset's widths and classes.

    Its weights come from a generator of its own: torch's global one is shared by threads that train and score at once.
    """
    widths, classes = _widths(dataset, config), len(dataset.classes)
    generator = torch.Generator().manual_seed(seed)
    return FusionNet(widths, config.gated_dim, classes, config.gate, config.dropout, generator)


def _probabilities(logits: Tensor, task: str) -> np.ndarray:
    """Softmax over the classes, or a sigmoid for each."""
    return (torch.softmax(logits, dim=-1) if task == "single" else torch.sigmoid(logits)).cpu().numpy()


def predict(
    result: RunResult,
    dataset: Dataset,
    rows: np.ndarray,
    nullify: Sequence[str] = (),
    device: str = "cpu",
    leave_out: Sequence[str] = (),
) -> np.ndarray:
    """Apply a trained network to rows.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows to predict.
        nullify: Modalities that get a zero vector (the paper's nullification): there, and saying nothing.
        device: Where to compute.
        leave_out: Modalities that are taken as absent from every row.

    Returns:
        Probabilities float32 (n, K).

    Raises:
        DivergedError: A row's features, or what the network makes of them, are not finite.
    """
    config = result.spec.config
    require_finite(dataset, rows, config.modalities, f"run {result.spec.name!r}")
    network = build_network(dataset, config)
    state = {name: torch.from_numpy(value) for name, value in result.weights.items() if not name.startswith("scale.")}
    network.load_state_dict(state)
    network.to(device).eval()
    features, present = {}, {}
    for modality in config.modalities:
        there = dataset.present[modality][rows] & (modality not in leave_out)
        matrix = standardized(result.weights, modality, dataset.features[modality][rows]) * there[:, None]
        # A copy lies where torch aligns it: a product's last bits depend on where its rows begin.
        features[modality] = torch.from_numpy(matrix * (modality not in nullify)).to(device, copy=True)
        present[modality] = torch.from_numpy(there).to(device)
    one = threads(1) if torch.device(device).type == "cpu" else nullcontext()
    with one, float32_products(), torch.inference_mode():
        logits = network(features, present)
        probabilities = _probabilities(logits, config.task)
    if not torch.isfinite(logits).all():
        raise DivergedError(f"run {result.spec.name!r}: outputs for {len(rows)} rows are not finite: train it again")
    return probabilities


def contributions(
    result: RunResult, dataset: Dataset, rows: np.ndarray, chosen: np.ndarray, nullify: Sequence[str] = ()
) -> np.ndarray:
    """How much each modality adds to the probability of a class: what it falls by when the modality is left out.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows.
        chosen: int (n,): the class of each row, for example the predicted one.
        nullify: As for `predict`.

    Returns:
        float32 (n, modalities), in the order of the run's modalities; NaN where a row lacks the modality, or has no
        other: without it there is nothing to predict from.
    """
    modalities = result.spec.config.modalities
    there = np.stack([dataset.present[m][rows] for m in modalities], axis=1)
    picked = np.arange(len(rows)), chosen
    whole = predict(result, dataset, rows, nullify)[picked]
    found = np.full(there.shape, np.nan, dtype=np.float32)
    for column, modality in enumerate(modalities):
        asked = there[:, column] & (there.sum(axis=1) > 1)
        if asked.any():
            left = predict(result, dataset, rows[asked], nullify, leave_out=(modality,))
            found[asked, column] = whole[asked] - left[np.arange(len(left)), chosen[asked]]
    return found

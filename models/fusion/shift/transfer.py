"""How long to train for a corpus that nobody has seen: as long as suits each training corpus while it is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.run_state import LAST
from merloco.models.fusion.spec import RunResult, RunSpec

Run = tuple[Dataset, RunSpec]


def with_transferred_epochs(
    runs: Sequence[Run], train: Callable[[Sequence[Run]], Iterable[RunResult]]
) -> Iterator[Run]:
    """Runs whose `selection` is `transfer` get the number of epochs that carries over best, and its last weights.

    Each training corpus is left out once, as domain generalization chooses its models (Gulrajani and Lopez-Paz 2021);
    the score of an epoch is the mean of the left-out corpora's validation UAR, and training ends where it is highest.

    Args:
        runs: Of any selection.
        train: Trains the runs that find it out.

    Raises:
        ModelError: A run has one training corpus alone.
    """
    inner: list[Run] = []
    owners: list[int] = []
    for position, (dataset, spec) in enumerate(runs):
        if spec.config.selection == "transfer":
            leave_outs = list(_leave_outs(dataset, spec))
            inner += [(dataset, left) for left in leave_outs]
            owners += [position] * len(leave_outs)
    histories: dict[int, list[list[float]]] = {}
    for result in train(inner) if inner else ():
        histories.setdefault(owners[result.position], []).append([row["val_uar"] for row in result.history])
    for position, (dataset, spec) in enumerate(runs):
        if position in histories:
            epochs = best_epoch(histories[position])
            config = replace(spec.config, selection=LAST, epochs=epochs, patience=epochs)
            spec = replace(spec, config=config)
        yield dataset, spec


def best_epoch(histories: Sequence[Sequence[float]]) -> int:
    """The epoch, from 1, with the highest mean; a run that has ended early counts with its last score."""
    longest = max(map(len, histories))
    padded = [[*history, *[history[-1]] * (longest - len(history))] for history in histories]
    return int(np.mean(padded, axis=0).argmax()) + 1


def _leave_outs(dataset: Dataset, spec: RunSpec) -> Iterator[RunSpec]:
    """The run without each of its training corpora, validated on that one."""
    train, validation = dataset.corpus[spec.train_rows], dataset.corpus[spec.val_rows]
    corpora = [name for name in dict.fromkeys(train.tolist()) if (validation == name).any()]
    if len(corpora) < 2:
        raise ModelError(f"run {spec.name!r}: selection transfer needs two training corpora with validation rows")
    for left_out in corpora:
        yield replace(
            spec,
            name=f"{spec.name}, without {left_out}",
            train_rows=spec.train_rows[train != left_out],
            val_rows=spec.val_rows[validation == left_out],
            config=replace(spec.config, selection="corpora"),
        )

"""One run in training: its own rows, order, class weights, learning rate and early stopping."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.optimizers import learning_rate as scheduled_rate
from merloco.models.fusion.shift.sampling import row_weights
from merloco.models.fusion.spec import RunSpec

LAST = "last"
"""Selection of the weights of the last epoch."""


@dataclass(eq=False)
class RunState:
    """State of a run while it trains."""

    position: int
    """Of the run among those that were given."""
    dataset: Dataset
    spec: RunSpec
    offset: int
    """Where the rows of its data set begin in the matrices of the stack."""
    device: str
    history: list[dict[str, float]] = field(default_factory=list)
    best_uar: float = -1.0
    best_epoch: int = 0
    finished: bool = False
    """It has its result, or none is to come; it may stay in its stack for a while."""
    epoch: int = 0
    step: int = 0
    """Batches of this epoch that are done."""
    begun: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        for what, rows in (("training", self.spec.train_rows), ("validation", self.spec.val_rows)):
            if len(rows) == 0:
                modalities = self.spec.config.modalities
                raise ModelError(
                    f"run {self.spec.name!r} has no {what} rows with a label and a modality of {modalities}"
                )
        self.order = torch.Generator(self.device).manual_seed(self.spec.seed)
        self.rows = torch.from_numpy(self.spec.train_rows + self.offset).to(self.device)
        weights = row_weights(self.dataset, self.spec)
        self.weights = None if weights is None else torch.from_numpy(weights).to(self.device)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Shuffle the rows into batches; the last one is filled up with rows that do not count."""
        size = self.spec.config.batch_size
        count = len(self.rows)
        self.batches = torch.zeros(-(-count // size), size, dtype=torch.int64, device=self.device)
        self.counts = torch.zeros(self.batches.shape, device=self.device)
        if self.weights is None:
            shuffled = torch.randperm(count, generator=self.order, device=self.device)
        else:
            shuffled = torch.multinomial(self.weights, count, replacement=True, generator=self.order)
        self.batches.view(-1)[:count] = self.rows[shuffled]
        self.counts.view(-1)[:count] = 1.0
        self.epoch += 1
        self.step = 0

    @property
    def steps_remaining(self) -> int:
        """Batches until the end of the epoch."""
        return len(self.batches) - self.step

    def learning_rate(self, batch: int) -> float:
        """Learning rate of a batch of this epoch, counted from 0."""
        config, batches = self.spec.config, len(self.batches)
        return scheduled_rate(config.learning_rate, config.schedule, (self.epoch - 1) * batches + batch, batches)

    def next_batches(self, count: int) -> tuple[Tensor, Tensor]:
        """Rows and what they count of the next batches, each (count, B); a finished run has its last ones again."""
        if self.finished:
            return self.batches[-1:].expand(count, -1), self.counts[-1:].expand(count, -1)
        part = slice(self.step, self.step + count)
        self.step += count
        return self.batches[part], self.counts[part]

    def improved_by(self, uar: float) -> bool:
        """Whether the weights with this validation score are to be kept."""
        return uar > self.best_uar or self.spec.config.selection == LAST

    def finish_epoch(self, uar: float, loss: float) -> None:
        """Note the validation score and the summed loss of the epoch, and begin the next one or finish."""
        self.history.append({"epoch": self.epoch, "loss": loss / len(self.rows), "val_uar": uar})
        if self.improved_by(uar):
            self.best_uar, self.best_epoch = uar, self.epoch
        # As published: after `patience` epochs without a gain, the next one may still bring it.
        patience, epochs = self.spec.config.patience, self.spec.config.epochs
        self.finished = self.epoch - self.best_epoch > patience or self.epoch >= epochs
        if not self.finished:
            self._begin_epoch()

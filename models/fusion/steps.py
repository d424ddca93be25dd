"""Training steps of a stack: nothing in a step waits for the host, and on a GPU it is one CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from merloco.models.fusion.dropout import DropoutNoise
from merloco.models.fusion.losses import FusionLoss, TargetLoss
from merloco.models.fusion.optimizers import Optimizer
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.shift.alignment import alignment_of
from merloco.models.fusion.shift.augmentation import augmentation_of
from merloco.models.fusion.spec import TrainConfig
from merloco.models.fusion.stacked import Networks
from merloco.models.fusion.table import FeatureTable, StandardScaler

BLOCK = {"cpu": 8, "cuda": 2048}
"""Most steps between two looks of the host: at what is not finite, at the end of an epoch, at a request to stop."""
WARMUP = 3
"""Steps of a shape before its capture: libraries set themselves up in them."""


@contextmanager
def training_stream(device: str) -> Iterator[None]:
    """A block that works on a stream of its own where the device is a GPU: the default one cannot be captured."""
    if torch.device(device).type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield


class Steps:
    """Takes R networks through their batches.

    A step reads its batch, its learning rate and its dropout from the device, at a position that is counted there, and
    leaves there whether all was finite: so it is the same work every time, which a GPU replays from one launch.

    Args:
        networks: What is trained.
        table: The rows on the device.
        scaler: Scales them.
        loss: Of every run.
        config: Settings of the optimizer and of the batches.
        seeds: Of every run.
        noise: Of dropout; None where nothing is dropped.
        device: Where all of it lies.
    """

    def __init__(
        self,
        networks: Networks,
        table: FeatureTable,
        scaler: StandardScaler,
        loss: FusionLoss | TargetLoss,
        config: TrainConfig,
        seeds: Sequence[int],
        noise: DropoutNoise | None,
        device: str,
    ) -> None:
        self.networks, self.table, self.scaler, self.loss = networks, table, scaler, loss
        self.noise = noise
        self.augmentation = augmentation_of(seeds, config)
        self.alignment = alignment_of(seeds, config, len(table.corpora), networks.hidden_width, device)
        self.optimizer = Optimizer(self.parameters(), config)
        self.on_gpu = torch.device(device).type == "cuda"
        self.block = BLOCK["cuda" if self.on_gpu else "cpu"]
        runs, batch_size = len(seeds), config.batch_size
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.rows = torch.zeros(self.block, runs, batch_size, dtype=torch.int64, device=device)
        self.counts = torch.zeros(self.block, runs, batch_size, device=device)
        # Fused updates take a rate from the device: as a float32 on a GPU, as exact as a Python number on a CPU.
        self.rates = torch.zeros(self.block, dtype=torch.float32 if self.on_gpu else torch.float64, device=device)
        self.finite = torch.ones(self.block, 1 + len(table.modalities), runs, dtype=torch.bool, device=device)
        self.totals = torch.zeros(runs, device=device)
        """Sum of the losses of every run, each times the rows that it is a mean of, since `restart`."""
        self._forget_graph()

    def run(self, states: Sequence[RunState], count: int, rates: Sequence[float]) -> Tensor:
        """Take the next steps of every run.

        Args:
            states: Of the runs, which give their batches.
            count: How many steps, at most `block`.
            rates: Learning rate of each.

        Returns:
            bool (count, 1 + modalities, R), on the device: whether the loss, and what each modality brought, is finite.
        """
        rows, counts = zip(*(state.next_batches(count) for state in states), strict=True)
        torch.stack(rows, dim=1, out=self.rows[:count])
        torch.stack(counts, dim=1, out=self.counts[:count])
        self.rates[:count] = torch.tensor(rates, dtype=self.rates.dtype)
        self.position.zero_()
        for _ in range(count):
            self._next()
        return self.finite[:count]

    def restart(self, runs: Tensor) -> None:
        """Sum the losses of these runs anew."""
        self.totals[runs] = 0

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.networks.select(runs)
        self.scaler.select(runs)
        self.loss.select(runs)
        if self.noise:
            self.noise.select(runs)
        if self.augmentation:
            self.augmentation.select(runs)
        if self.alignment:
            self.alignment.select(runs)
        self.optimizer.select(self.parameters(), runs)
        self.rows, self.counts = self.rows.index_select(1, runs), self.counts.index_select(1, runs)
        self.totals, self.finite = self.totals[runs], self.finite.index_select(2, runs)
        self._forget_graph()

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name: of the networks, and of what trains beside them."""
        return {**self.networks.parameters(), **(self.alignment.parameters if self.alignment else {})}

    def _forget_graph(self) -> None:
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm = 0

    def _next(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        elif self.on_gpu and self.networks.capturable and not self.augmentation and self.warm == WARMUP:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                self._step()
            self.graph.replay()  # a capture only records
        else:
            self._step()
            self.warm += 1

    def _step(self) -> None:
        rows, counts = (buffer.index_select(0, self.position).squeeze(0) for buffer in (self.rows, self.counts))
        self.optimizer.learning_rate = self.rates.index_select(0, self.position).squeeze(0)
        features = {m: self.table.rows(rows, self.scaler, m) for m in self.table.modalities}
        drops = self.noise.next() if self.noise else None
        present, truth = self.table.presence(rows), self.table.truth(rows)
        if self.augmentation:
            features, present, truth = self.augmentation(features, present, truth)
        logits, sums = self.networks(features, present, drops)
        losses = self.loss(logits, counts=counts, **truth)
        if self.alignment:
            assert self.networks.hidden is not None  # `alignment_of` has seen to it
            losses = losses + self.alignment(self.networks.hidden, truth["corpus"], counts)
        self.networks.backward(losses.sum(), self.optimizer.update)
        if self.alignment:
            self.optimizer.update(self.alignment.parameters)
        losses = losses.detach()
        self.totals += losses * counts.sum(-1)
        finite = torch.isfinite(torch.stack([losses, *sums.values()]))
        self.finite.index_copy_(0, self.position, finite.unsqueeze(0))
        self.position += 1

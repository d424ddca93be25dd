"""One fine-tuning in hand: network, optimizer and units; epochs, validation, and snapshots between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from merloco.models.errors import ModelError
from merloco.models.finetune.trainable import Trainable
from merloco.models.metrics.scores import balanced_weights, masked_prediction, score

HEAD_FACTOR = 10.0
"""How much faster than the encoder the head learns, which starts from nothing."""
CLIP = 1.0
"""Largest norm of a gradient."""
PREFETCH = 4
"""Batches prepared ahead by threads."""


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """Settings that decide the result."""

    learning_rate: float
    epochs: int = 30
    patience: int = 5
    """Epochs without a better validation UAR after which training ends."""
    batch_size: int = 16
    weight_decay: float = 0.01
    """Decoupled (AdamW)."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingUnits:
    """Units of utterances; N units of M utterances."""

    units: Sequence[Any]
    """(N,) what `Trainable.prepare` takes; read when needed."""
    sample_index: np.ndarray
    """int64 (N,): the utterance of each unit."""
    label: np.ndarray
    """int64 (M,): the class of each utterance."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the epochs to come depend on."""

    tensors: dict[str, Tensor]
    """`model.*`; `best.*` where the best epoch was an earlier one; `optimizer.<parameter>.<name>`."""
    history: list[dict[str, float]]
    """One row per epoch: epoch, loss, val_uar; epoch 0 is the start and has no loss."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the loss scaling of float16."""


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch and numpy (transformers masks spans of time with it) for a while; what they were at comes back."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


class Run:
    """Network, optimizer and data of one fine-tuning."""

    def __init__(
        self,
        trainable: Trainable,
        train: TrainingUnits,
        val: TrainingUnits,
        classes: tuple[str, ...],
        mask: np.ndarray,
        config: FinetuneConfig,
        device: str,
    ) -> None:
        self.trainable, self.train, self.val = trainable, train, val
        self.classes, self.mask, self.config, self.device = classes, mask, config, device
        weight = balanced_weights(train.label[train.sample_index], len(classes))
        self.weight = torch.from_numpy(weight).to(device)
        head = {id(parameter) for parameter in trainable.head.parameters()}
        learning = [p for p in trainable.network.parameters() if p.requires_grad]
        rate = config.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in learning if id(p) not in head], "lr": rate},
                {"params": [p for p in learning if id(p) in head], "lr": HEAD_FACTOR * rate},
            ],
            weight_decay=config.weight_decay,
        )
        self.cuda = device.startswith("cuda")
        self.dtype = torch.bfloat16 if self.cuda and torch.cuda.is_bf16_supported() else torch.float16
        # Small gradients vanish in float16, whose exponents are short.
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.cuda and self.dtype == torch.float16)

    def begin(self, resume: Snapshot | None) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
        """History and best weights at the start, or those of the snapshot."""
        if resume is None:
            return [{"epoch": 0, "val_uar": self.validate()}], self.state()
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in resume.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.trainable.network.load_state_dict(parts["model"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if resume.scaler:
            self.scaler.load_state_dict(resume.scaler)
        return list(resume.history), parts["best"] or self.state()

    def snapshot(self, history: list[dict[str, float]], best: Mapping[str, Tensor]) -> Snapshot:
        """Where training stands after an epoch."""
        tensors = {f"model.{name}": tensor for name, tensor in self.state().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value.detach().cpu().clone() for key, value in values.items()}
        return Snapshot(tensors, list(history), self.scaler.state_dict() if self.scaler.is_enabled() else {})

    def state(self) -> dict[str, Tensor]:
        """A copy of the network's weights."""
        return {
            name: tensor.detach().cpu().clone().contiguous()
            for name, tensor in self.trainable.network.state_dict().items()
        }

    def train_epoch(self, epoch: int, tell: Callable[[int], None]) -> float:
        """One pass over the training units in an order that the epoch's number decides; the mean loss."""
        self.trainable.train_mode()
        total = 0.0
        with seeded(1_000_003 * self.config.seed + epoch, self.device):
            order = torch.randperm(len(self.train.units)).numpy()
            for number, (chosen, prepared) in enumerate(self._batches(self.train, order), start=1):
                labels = torch.from_numpy(self.train.label[self.train.sample_index[chosen]]).to(self.device)
                with torch.autocast("cuda", dtype=self.dtype, enabled=self.cuda):
                    logits = self.trainable.logits(prepared)
                loss = torch.nn.functional.cross_entropy(logits.float(), labels, weight=self.weight)
                self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self.trainable.network.parameters(), CLIP)
                self.scaler.step(self.optimizer)
                self.scaler.update()
                total += float(loss.detach()) * len(chosen)
                tell(number)
        learnt = all(bool(torch.isfinite(weight).all()) for weight in self.trainable.network.parameters())
        if not np.isfinite(total) or not learnt:
            raise ModelError(
                f"training diverged in epoch {epoch}: lower the learning rate ({self.config.learning_rate})"
            )
        return total / len(order)

    def validate(self) -> float:
        """UAR over utterances; the probabilities of an utterance are the mean over its units."""
        self.trainable.network.eval()
        sums = np.zeros((len(self.val.label), len(self.classes)))
        with torch.no_grad():
            for chosen, prepared in self._batches(self.val, np.arange(len(self.val.units))):
                probabilities = torch.softmax(self.trainable.logits(prepared).float(), dim=-1)
                np.add.at(sums, self.val.sample_index[chosen], probabilities.cpu().numpy())
        seen = np.unique(self.val.sample_index)
        counts = np.bincount(self.val.sample_index, minlength=len(sums))[seen]
        prediction = masked_prediction(sums[seen] / counts[:, None], self.mask)
        return score(self.val.label[seen], prediction, self.classes, self.mask).uar

    def _batches(self, part: TrainingUnits, order: np.ndarray) -> Iterator[tuple[np.ndarray, list[Any]]]:
        """Batches in order; threads prepare the next ones meanwhile."""
        size = self.config.batch_size
        chunks = [order[begin : begin + size] for begin in range(0, len(order), size)]

        def prepare(chosen: np.ndarray) -> list[Any]:
            return [self.trainable.prepare(part.units[int(number)]) for number in chosen]

        with ThreadPoolExecutor(max_workers=2) as pool:
            pending = [pool.submit(prepare, chosen) for chosen in chunks[:PREFETCH]]
            for number, chosen in enumerate(chunks):
                prepared = pending.pop(0).result()
                if number + PREFETCH < len(chunks):
                    pending.append(pool.submit(prepare, chunks[number + PREFETCH]))
                yield chosen, prepared

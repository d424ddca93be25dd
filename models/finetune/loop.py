"""Fine-tuning of an encoder on labelled units; early stopping on the UAR of whole utterances.

The trainer takes units and gives weights. After every epoch it hands over everything that the next one depends on, and
it can begin from such a snapshot: whatever came between, a CPU ends with the same weights bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from merloco.models.device import float32_products
from merloco.models.errors import ModelError
from merloco.models.finetune.run import FinetuneConfig, Run, Snapshot, TrainingUnits
from merloco.models.finetune.trainable import Trainable


@dataclass(frozen=True, slots=True)
class Finetuned:
    """How a fine-tuning went; the trainable holds the weights of the best epoch."""

    history: list[dict[str, float]]
    best_epoch: int

    @property
    def uar_before(self) -> float:
        """Validation UAR with the fresh head on the encoder as it was."""
        return self.history[0]["val_uar"]

    @property
    def uar_after(self) -> float:
        """Validation UAR of the best epoch."""
        return self.history[self.best_epoch]["val_uar"]


Progress = Callable[[int, int, str], None]
"""Called with batches done, batches in all (an upper bound: it may stop early) and a note."""


def finetune(
    trainable: Trainable,
    train: TrainingUnits,
    val: TrainingUnits,
    classes: tuple[str, ...],
    mask: np.ndarray,
    config: FinetuneConfig,
    device: str = "cpu",
    resume: Snapshot | None = None,
    keep: Callable[[Snapshot], None] | None = None,
    progress: Progress | None = None,
) -> Finetuned:
    """Train an encoder; class-balanced cross-entropy on units, mixed precision on a GPU.

    Args:
        trainable: The network; holds the weights of the best epoch afterwards.
        train: Units to learn from.
        val: Units whose utterances are scored after every epoch.
        classes: Class names, K.
        mask: bool (K,): classes that the corpus annotates.
        config: Settings.
        device: Where the network is.
        resume: Snapshot of an earlier start.
        keep: Called with a snapshot after every epoch.
        progress: See `Progress`.

    Raises:
        ModelError: There is nothing to train or to validate on, or training diverged.
    """
    for what, part in (("training", train), ("validation", val)):
        if len(part.units) == 0:
            raise ModelError(f"no {what} utterance has a label and something to encode")
    with float32_products():
        return _train(Run(trainable, train, val, classes, mask, config, device), resume, keep, progress)


def _train(
    run: Run, resume: Snapshot | None, keep: Callable[[Snapshot], None] | None, progress: Progress | None
) -> Finetuned:
    trainable, train, config = run.trainable, run.train, run.config
    history, best = run.begin(resume)
    batches = -(-len(train.units) // config.batch_size)

    def tell(epoch: int, batch: int) -> None:
        if progress:
            top = max((row["val_uar"] for row in history[1:]), default=history[0]["val_uar"])
            progress(
                (epoch - 1) * batches + batch,
                config.epochs * batches,
                f"epoch {epoch}/{config.epochs}, best validation UAR {100 * top:.1f}",
            )

    while not _finished(history, config.epochs, config.patience):
        epoch = len(history)
        loss = run.train_epoch(epoch, partial(tell, epoch))
        history.append({"epoch": epoch, "loss": loss, "val_uar": run.validate()})
        if best_epoch(history) == epoch:
            best = run.state()
        if keep:
            earlier = {} if best_epoch(history) == epoch else best
            keep(run.snapshot(history, earlier))
    trainable.network.load_state_dict(best)
    return Finetuned(history, best_epoch(history))


def best_epoch(history: Sequence[Mapping[str, float]]) -> int:
    """The first trained epoch with the highest validation UAR; 0 if none is trained."""
    scores = [row["val_uar"] for row in history[1:]]
    return 1 + int(np.argmax(scores)) if scores else 0


def resumed(history: Sequence[dict[str, float]], epochs: int, patience: int) -> list[dict[str, float]] | None:
    """The epochs that a training of which some are done has with these settings.

    Returns:
        Them; None if it would have ended with weights that are gone, because a later epoch was better.
    """
    ends = (end for end in range(1, len(history)) if _finished(history[:end], epochs, patience))
    found = list(history[: next(ends, len(history))])
    return found if best_epoch(found) == best_epoch(history) else None


def _finished(history: Sequence[Mapping[str, float]], epochs: int, patience: int) -> bool:
    done = len(history) - 1
    return done >= epochs or done - best_epoch(history) >= patience

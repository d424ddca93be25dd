"""Training steps of a stack, forward and backward written out.

Nearly all of a step is products with the wide layers that each modality has for itself. Written out, a gradient of
their weights is used as soon as it is there, the next batch goes through them while they are still in the cache, and
a core can take a modality for itself: cores that share products of 32 rows mostly wait for each other.
`models.fusion.FusionNet` is the same network under autograd, and tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.cores import Each, in_turn
from models.gates import gated_features, gated_gradients, meet, presence, separate
from models.stack import Stack

Update = Callable[[int, tuple[str, ...], slice, list[Tensor]], None]
"""Which step, names of weights, runs, and the gradients (runs, ...) of their weights, which it must not keep."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What all runs of a stack learn from in one step."""

    features: Callable[[str], Tensor]
    """Modality -> float32 (R, B, D)."""
    present: Mapping[str, Tensor] | None
    """Modality -> bool (R, B); None where everything is there."""
    noise: Mapping[str, Tensor]
    """Modality, and `fused` -> float32 (R, B, width), what dropout multiplies with; empty without dropout."""
    loss: Callable[[Tensor], tuple[Tensor, Tensor]]
    """Logits (R, B, K) -> losses (R,), and the gradient of each with regard to its logits (R, B, K)."""


class Steps:
    """A stack on its way through some batches.

    Args:
        stack: The networks.
        update: Takes the gradients.
        each: How the modalities are gone through; one after the other if None.
    """

    def __init__(self, stack: Stack, update: Update, each: Each | None = None) -> None:
        self.stack, self.update, self.each = stack, update, each or in_turn(stack.modalities)
        self.features: dict[str, Tensor] = {}
        self.hidden: dict[str, Tensor] = {}
        self.joined: dict[str, Tensor] = {}
        self.sums: dict[str, list[Tensor]] = {}
        """Modality -> sum (R,) of what each step brought of it: not finite if a value is not."""

    def learn(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Take the networks through batches, a step each.

        Returns:
            The losses (R,) of every step.
        """
        self.sums = {m: [] for m in self.stack.modalities}
        self.each(lambda m: self._enter(batches[0], m))
        found = []
        for step, batch in enumerate(batches):
            losses, gradients = self._meet(step, batch)
            found.append(losses)

            def pass_on(m: str, step: int = step, gradients: dict[str, Tensor] = gradients) -> None:
                self._leave(step, batches[step], m, gradients[m])
                if step + 1 < len(batches):
                    self._enter(batches[step + 1], m)

            self.each(pass_on)
        return found

    def _enter(self, batch: Batch, m: str) -> None:
        """Forward through the layers of one modality."""
        self.features[m] = batch.features(m)
        self.hidden[m] = self.joined[m] = _dropped(batch, m, self.stack.product(self.features[m], f"fc_{m}"))
        if self.stack.paired:
            self.joined[m] = self.stack.product(self.hidden[m], f"pairs_{m}")
        self.sums[m].append(self.joined[m].sum(dim=(1, 2)))

    def _leave(self, step: int, batch: Batch, m: str, gradient: Tensor) -> None:
        """Backward through the layers of one modality."""
        if self.stack.paired:
            gradient = self._descend(step, f"pairs_{m}", gradient, self.hidden[m])
        gradient = _dropped(batch, m, gradient)
        self._learn_layer(step, f"fc_{m}", gradient, self.features[m])

    def _meet(self, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Where the modalities meet, forward and backward: the losses, and the gradients of what each brings."""
        stack, modalities = self.stack, self.stack.modalities
        if stack.paired:
            has = presence(batch.present, modalities)
            h1, h2, scores = meet(self.joined, modalities)
            out, share = gated_features(h1, h2, scores, *has, stack.gate)
            fused = out.flatten(-2).relu_()
        else:
            (only,) = modalities
            there = 1.0 if batch.present is None else batch.present[only].unsqueeze(-1)
            fused = torch.relu(self.joined[only] * there)
        last = _dropped(batch, "fused", stack.product(fused, "fc_avt"))
        losses, gradient = batch.loss(stack.product(last, "classifier"))

        gradient = _dropped(batch, "fused", self._descend(step, "classifier", gradient, last))
        gradient = self._descend(step, "fc_avt", gradient, fused)
        gradient = torch.ops.aten.threshold_backward(gradient, fused, 0)
        if not stack.paired:
            return losses, {only: gradient * there}
        gradient = gradient.unflatten(-1, h1.shape[-2:])
        return losses, separate(*gated_gradients(gradient, h1, h2, share, *has, stack.gate), modalities)

    def _descend(self, step: int, layer: str, gradient: Tensor, rows: Tensor) -> Tensor:
        """Update a layer, whose rows came from another: the gradient of these rows."""
        before = self.stack.product_gradient(gradient, layer)
        self._learn_layer(step, layer, gradient, rows)
        return before

    def _learn_layer(self, step: int, layer: str, gradient: Tensor, rows: Tensor) -> None:
        for runs, found in self.stack.weight_gradients(gradient, rows, layer):
            self.update(step, tuple(found), runs, list(found.values()))
        self.stack.refresh(layer)


def _dropped(batch: Batch, place: str, rows: Tensor) -> Tensor:
    return rows.mul_(batch.noise[place]) if batch.noise else rows

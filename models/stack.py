"""Many fusion networks of one shape as one: every weight has the run as its first dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.fusion import FusionNet, fuse, layer_of, pair_weights, pairs_of

Update = Callable[[tuple[str, ...], int, list[Tensor]], None]
"""Names of weights of the stack, the first run, and the gradients (runs, ...) of the weights from this run on."""
Done = Callable[[int, list[Tensor]], None]


class Stack:
    """R networks whose products are batched, and whose weights are updated while the backward pass goes over them.

    A gradient is used as soon as it is there and then written over by the next: on a CPU it never leaves the cache,
    where one that waits for the end of the pass would cross the memory bus twice. The gated layers' weights that a
    modality meets lie side by side, (R, D, 2 * pairs * gated_dim), so that three wide products take the place of nine
    narrow ones.

    Args:
        networks: The networks, all of one shape.
        device: Where to compute.
        precision: `float32`, `tf32` or `bf16`: that of the products on a GPU; a CPU computes float32.
    """

    def __init__(self, networks: Sequence[FusionNet], device: str, precision: str = "float32") -> None:
        self.modalities, self.gate = networks[0].modalities, networks[0].gate
        self.paired = self.modalities if pairs_of(self.modalities) else ()
        self.names = list(networks[0].state_dict())
        states = [self._packed(network.state_dict()) for network in networks]
        self.weights = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
        self._make_scratch()
        on_gpu = torch.device(device).type == "cuda"
        self.dtype = torch.bfloat16 if precision == "bf16" and on_gpu else torch.float32
        if on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"

    def _packed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published names -> the stack's: linear layers as they are, gated layers side by side per modality."""
        packed = {name: weight for name, weight in state.items() if not name.startswith("gal_")}
        for m in self.paired:
            packed[f"pairs_{m}"] = torch.cat(pair_weights(state, m, self.modalities), dim=-1)
        return packed

    def published(self, packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stack's names -> the published ones."""
        state = {name: packed[name] for name in self.names if not name.startswith("gal_")}
        for m in self.paired:
            width = packed[f"pairs_{m}"].shape[-1] // (2 * sum(m in pair for pair in pairs_of(self.modalities)))
            parts = iter(packed[f"pairs_{m}"].split(width, dim=-1))
            for pair in pairs_of(self.modalities):
                if m in pair:
                    layer, place = layer_of(pair), pair.index(m)
                    state[f"{layer}.WF{1 + place}"] = next(parts)
                    other = state.get(f"{layer}.WF")
                    part = next(parts)
                    halves = [part] if other is None else [other, part] if place else [part, other]
                    state[f"{layer}.WF"] = torch.cat(halves)
        return {name: state[name] for name in self.names}

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def _make_scratch(self) -> None:
        """Room for the gradients of one layer: of one run at a time on a CPU, of all on a GPU."""
        some = next(iter(self.weights.values()))
        self.block = 1 if some.device.type == "cpu" else len(some)
        widest = max(weight[0].numel() for weight in self.weights.values())
        self.scratch = torch.empty(self.block * widest, device=some.device)

    def train_forward(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None,
        noise: Mapping[str, Tensor],
        update: Update,
    ) -> Tensor:
        """Logits (R, B, K) whose backward pass calls `update` for every weight and block of runs.

        Args:
            features: Modality -> float32 (R, B, D).
            present: Modality -> bool (R, B), or None where everything is there.
            noise: Modality, and `fused` -> float32 (R, B, width), what dropout multiplies with; empty without dropout.
            update: Takes the gradients, which it must not keep.
        """

        def product(x: Tensor, name: str) -> Tensor:
            linear = f"{name}.weight" in self.weights
            key = f"{name}.weight" if linear else name
            weight, bias = self.weights[key].requires_grad_(), self.weights.get(f"{name}.bias")
            done = partial(update, (key, f"{name}.bias") if linear else (key,))
            result: Tensor = _Product.apply(x, weight, bias, self, done)
            return result

        def dropout(x: Tensor, place: str) -> Tensor:
            return x.mul_(noise[place]) if noise else x  # the product itself is not needed again

        return fuse(features, present, self.modalities, self.gate, product, dropout)[0]

    @torch.inference_mode()
    def predict(self, run: int, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """Logits (n, K) of one run for features (n, D)."""

        def product(x: Tensor, name: str) -> Tensor:
            if f"{name}.weight" not in self.weights:
                return x @ self.weights[name][run]
            return torch.addmm(self.weights[f"{name}.bias"][run], x, self.weights[f"{name}.weight"][run].T)

        return fuse(features, present, self.modalities, self.gate, product, lambda x, _: x)[0]

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """Copy of one run's weights by their published names."""
        state = self.published({name: tensor[run].detach() for name, tensor in self.weights.items()})
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}

    def keep(self, runs: Sequence[int]) -> None:
        """Drop all runs but these; the others move up."""
        chosen = torch.tensor(runs, device=next(iter(self.weights.values())).device)
        self.weights = {name: weight.detach()[chosen] for name, weight in self.weights.items()}
        self._make_scratch()


class _Product(torch.autograd.Function):
    """Batched rows times weights; the backward pass hands the gradients of the weights out and returns none."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stack: Stack,
        done: Callable[[int, list[Tensor]], None],
    ) -> Tensor:
        """Products (R, B, d'); a layer with a bias has its weights transposed, as torch's linear layers."""
        ctx.save_for_backward(x, weight)
        ctx.stack, ctx.done, ctx.linear = stack, done, bias is not None
        factor = weight if bias is None else weight.mT
        if stack.dtype != torch.float32:
            out = torch.bmm(x.to(stack.dtype), factor.to(stack.dtype)).float()
            return out if bias is None else out + bias[:, None]
        return torch.bmm(x, factor) if bias is None else torch.baddbmm(bias[:, None], x, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        """Gradient of the rows, then block by block those of the weights: the update changes them in place."""
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        stack: Stack = ctx.stack
        low, x = gradient.contiguous().to(stack.dtype), x.to(stack.dtype)
        for_x = None
        if ctx.needs_input_grad[0]:
            factor = weight if ctx.linear else weight.mT
            for_x = torch.bmm(low, factor.to(stack.dtype)).to(gradient.dtype)
        for_bias = gradient.sum(dim=1) if ctx.linear else None
        left, right = (low, x) if ctx.linear else (x, low)
        for start in range(0, len(weight), stack.block):
            runs = slice(start, start + stack.block)
            into = stack.scratch[: weight[runs].numel()].view(weight[runs].shape)
            if stack.dtype == torch.float32:
                torch.bmm(left[runs].mT, right[runs], out=into)
            else:
                into.copy_(torch.bmm(left[runs].mT, right[runs]))
            ctx.done(start, [into] if for_bias is None else [into, for_bias[runs]])
        return for_x, None, None, None, None

"""Many fusion networks of one shape as one: every weight has the run as its first dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.fusion import FusionNet, fuse, pair_weights, pairs_of


class Stack:
    """R networks whose products are batched; gradients lie in memory that every step uses again.

    The gated layers' weights that a modality meets lie side by side, (R, D, 2 * pairs * gated_dim), so that three wide
    products take the place of nine narrow ones.

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
        self.gradients = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
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

    def _published(self, packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stack's names -> the published ones."""
        state = {name: packed[name] for name in self.names if not name.startswith("gal_")}
        for m in self.paired:
            width = packed[f"pairs_{m}"].shape[-1] // (2 * sum(m in pair for pair in pairs_of(self.modalities)))
            parts = iter(packed[f"pairs_{m}"].split(width, dim=-1))
            for pair in pairs_of(self.modalities):
                if m in pair:
                    layer, place = f"gal_{pair[0][0]}{pair[1][0]}", pair.index(m)
                    state[f"{layer}.WF{1 + place}"] = next(parts)
                    other = state.get(f"{layer}.WF")
                    part = next(parts)
                    halves = [part] if other is None else [other, part] if place else [part, other]
                    state[f"{layer}.WF"] = torch.cat(halves)
        return {name: state[name] for name in self.names}

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def train_forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, noise: Mapping[str, Tensor]
    ) -> Tensor:
        """Logits (R, B, K) whose backward pass fills `gradients`.

        Args:
            features: Modality -> float32 (R, B, D).
            present: Modality -> bool (R, B), or None where everything is there.
            noise: Modality, and `fused` -> float32 (R, B, width), what dropout multiplies with; empty without dropout.
        """

        def product(x: Tensor, name: str) -> Tensor:
            linear = f"{name}.weight" in self.weights
            key = f"{name}.weight" if linear else name
            weight, bias = self.weights[key].requires_grad_(), self.weights.get(f"{name}.bias")
            into = self.gradients[key], self.gradients.get(f"{name}.bias")
            result: Tensor = _Product.apply(x, weight, bias, into, linear, self.dtype)
            return result

        def dropout(x: Tensor, place: str) -> Tensor:
            return x * noise[place] if noise else x

        return fuse(features, present, self.modalities, self.gate, product, dropout)[0]

    @torch.inference_mode()
    def predict(self, run: int, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """Logits (n, K) of one run for features (n, D)."""

        def product(x: Tensor, name: str) -> Tensor:
            if f"{name}.weight" not in self.weights:
                return x @ self.weights[name][run]
            return torch.addmm(self.weights[f"{name}.bias"][run], x, self.weights[f"{name}.weight"][run].T)

        return fuse(features, present, self.modalities, self.gate, product, lambda x, _: x)[0]

    def arrays(self, run: int, gradients: bool = False) -> dict[str, np.ndarray]:
        """Copy of one run's weights, or of its gradients, by their published names."""
        chosen = self.gradients if gradients else self.weights
        state = self._published({name: tensor[run].detach() for name, tensor in chosen.items()})
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}

    def keep(self, runs: Sequence[int]) -> None:
        """Drop all runs but these; the others move up."""
        chosen = torch.tensor(runs, device=next(iter(self.weights.values())).device)
        self.weights = {name: weight.detach()[chosen] for name, weight in self.weights.items()}
        self.gradients = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}


class _Product(torch.autograd.Function):
    """Batched rows times weights. The gradient of the weights is written where it will be read.

    Left to autograd, every step asks for as much fresh memory as the stack has weights, and on a CPU the page faults
    of that cost several times the mathematics.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        into: tuple[Tensor, Tensor | None],
        transposed: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.into, ctx.transposed, ctx.dtype = into, transposed, dtype
        factor = weight.mT if transposed else weight
        if dtype != torch.float32:
            out = torch.bmm(x.to(dtype), factor.to(dtype)).float()
            return out if bias is None else out + bias[:, None]
        return torch.bmm(x, factor) if bias is None else torch.baddbmm(bias[:, None], x, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        for_weight, for_bias = ctx.into
        gradient = gradient.contiguous()
        low, x = gradient.to(ctx.dtype), x.to(ctx.dtype)
        left, right = (low, x) if ctx.transposed else (x, low)
        if ctx.dtype == torch.float32:
            torch.bmm(left.mT, right, out=for_weight)
        else:
            for_weight.copy_(torch.bmm(left.mT, right))
        if for_bias is not None:
            torch.sum(gradient, dim=1, out=for_bias)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, None
        factor = weight if ctx.transposed else weight.mT
        return torch.bmm(low, factor.to(ctx.dtype)).to(gradient.dtype), None, None, None, None, None

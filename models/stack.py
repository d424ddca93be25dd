"""Many fusion networks of one shape as one: every weight has the run as its first dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.fusion import FusionNet, fuse


class Stack:
    """R networks whose products are batched; gradients lie in memory that every step uses again.

    Args:
        networks: The networks, all of one shape.
        device: Where to compute.
        precision: `float32`, `tf32` or `bf16`: that of the products on a GPU; a CPU computes float32.
    """

    def __init__(self, networks: Sequence[FusionNet], device: str, precision: str = "float32") -> None:
        self.modalities, self.gate = networks[0].modalities, networks[0].gate
        self.grown = 1 / (1 - networks[0].dropout.p)
        """What dropout multiplies the values with that it keeps."""
        states = [network.state_dict() for network in networks]
        self.weights = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
        self.gradients = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        on_gpu = torch.device(device).type == "cuda"
        self.dtype = torch.bfloat16 if precision == "bf16" and on_gpu else torch.float32
        if on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def train_forward(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, kept: Mapping[str, Tensor]
    ) -> Tensor:
        """Logits (R, B, K) whose backward pass fills `gradients`.

        Args:
            features: Modality -> float32 (R, B, D).
            present: Modality -> bool (R, B), or None where everything is there.
            kept: Modality, and `fused` -> bool (R, B, width), false where dropout drops a value; empty without dropout.
        """

        def product(x: Tensor, name: str) -> Tensor:
            key = name if "." in name else f"{name}.weight"
            weight, bias = self.weights[key].requires_grad_(), self.weights.get(f"{name}.bias")
            into = self.gradients[key], self.gradients.get(f"{name}.bias")
            result: Tensor = _Product.apply(x, weight, bias, into, "." not in name, self.dtype)
            return result

        def dropout(x: Tensor, place: str) -> Tensor:
            return x * kept[place] * self.grown if kept else x

        return fuse(features, present, self.modalities, self.gate, product, dropout)[0]

    @torch.inference_mode()
    def predict(self, run: int, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """Logits (n, K) of one run for features (n, D)."""

        def product(x: Tensor, name: str) -> Tensor:
            if "." in name:
                return x @ self.weights[name][run]
            return torch.addmm(self.weights[f"{name}.bias"][run], x, self.weights[f"{name}.weight"][run].T)

        return fuse(features, present, self.modalities, self.gate, product, lambda x, _: x)[0]

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """Copy of one run's weights by their published names."""
        return {name: weight[run].detach().cpu().numpy().copy() for name, weight in self.weights.items()}

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

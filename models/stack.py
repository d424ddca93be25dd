"""Many fusion networks of one shape as one: every weight has the run as its first dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.fusion import FusionNet, fuse
from models.gates import layer_of, pair_weights, pairs_of
from models.precision import float32_products

CACHE = 4 * 2**20
"""Bytes of gradients that a CPU is given at once: more does not stay in its cache until the update."""


class Stack:
    """R networks whose products are batched.

    The gated layers' weights that a modality meets lie one below the other, (R, 2 * pairs * gated_dim, D), so that
    three wide products take the place of nine narrow ones.

    Args:
        networks: The networks, all of one shape.
        device: Where to compute.
        precision: Of the products with the wide layers: `float32`, `bf16`, or `tf32`, which on a CPU is float32.
    """

    def __init__(self, networks: Sequence[FusionNet], device: str, precision: str = "float32") -> None:
        self.modalities, self.gate = networks[0].modalities, networks[0].gate
        self.paired = bool(pairs_of(self.modalities))
        self.names = list(networks[0].state_dict())
        states = [self._packed(network.state_dict()) for network in networks]
        self.weights = {name: torch.stack([state[name] for state in states]).to(device) for name in states[0]}
        self.on_gpu = torch.device(device).type == "cuda"
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._make_room()

    def _packed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published names -> the stack's: linear layers as they are, gated layers together per modality."""
        packed = {name: weight for name, weight in state.items() if not name.startswith("gal_")}
        for m in self.modalities if self.paired else ():
            packed[f"pairs_{m}.weight"] = torch.cat(pair_weights(state, m, self.modalities), dim=-1).T.contiguous()
        return packed

    def published(self, packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The stack's names -> the published ones, of one run."""
        state = {name: packed[name] for name in self.names if not name.startswith("gal_")}
        for m in self.modalities if self.paired else ():
            together = packed[f"pairs_{m}.weight"].T
            width = together.shape[-1] // (2 * sum(m in pair for pair in pairs_of(self.modalities)))
            parts = iter(together.split(width, dim=-1))
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

    def _make_room(self) -> None:
        """Copies of the wide layers' weights in the precision of the products, and room for a gradient per modality."""
        wide = [f"{kind}_{m}.weight" for m in self.modalities for kind in ("fc", "pairs")]
        self.factors = {name: self.weights[name].to(self.dtype) for name in wide if name in self.weights}
        runs = len(self)
        self.together = {  # runs whose gradients of a layer (R, d', D) are computed at once
            name.removesuffix(".weight"): runs if self.on_gpu else min(runs, max(1, CACHE // weight[0].nbytes))
            for name, weight in (self.weights | self.factors).items()
        }
        self.room = {}
        for m in self.modalities:  # each its own: they may be worked on at the same time
            names = [name for name in self.factors if name.endswith(f"_{m}.weight")]
            most = max(self.together[n.removesuffix(".weight")] * self.factors[n][0].numel() for n in names)
            room = torch.empty(most, device=self.factors[names[0]].device)
            self.room[m] = room, room.to(self.dtype)

    def product(self, rows: Tensor, layer: str) -> Tensor:
        """Rows (R, B, D) times a layer's weights, plus its bias if it has one: (R, B, d')."""
        bias = self.weights.get(f"{layer}.bias")
        factor = self._factor(layer).mT
        if factor.dtype != rows.dtype:
            out = torch.bmm(rows.to(factor.dtype), factor).float()
            return out if bias is None else out.add_(bias[:, None])
        return torch.bmm(rows, factor) if bias is None else torch.baddbmm(bias[:, None], rows, factor)

    def product_gradient(self, gradient: Tensor, layer: str) -> Tensor:
        """Gradient (R, B, D) of the rows that were multiplied, from that of the product (R, B, d')."""
        factor = self._factor(layer)
        return torch.bmm(gradient.to(factor.dtype), factor).float()

    def _factor(self, layer: str) -> Tensor:
        return self.factors.get(f"{layer}.weight", self.weights[f"{layer}.weight"])

    def weight_gradients(self, gradient: Tensor, rows: Tensor, layer: str) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Gradients of a layer's weights and bias, from that of its product (R, B, d') and the rows (R, B, D).

        Yields:
            Some runs, and name -> gradient (runs, ...), to be used at once: the next ones are written over it.
        """
        factor, bias = self._factor(layer), f"{layer}.bias" in self.weights
        of_bias = gradient.sum(dim=1) if bias else None
        low_rows, low = rows.to(factor.dtype), gradient.mT.to(factor.dtype)
        size, all_runs = self.together[layer], len(gradient)
        for start in range(0, all_runs, size):
            runs = slice(start, min(start + size, all_runs))
            found = {f"{layer}.weight": self._outer(low[runs], low_rows[runs], layer.rpartition("_")[-1])}
            if of_bias is not None:
                found[f"{layer}.bias"] = of_bias[runs]
            yield runs, found

    def _outer(self, left: Tensor, right: Tensor, modality: str) -> Tensor:
        """Products (runs, d', D), in float32, in the room of a modality; the small layers of none get their own."""
        if modality not in self.room:
            return torch.bmm(left, right)
        shape = len(left), left.shape[1], right.shape[2]
        into, low = (room[: shape[0] * shape[1] * shape[2]].view(shape) for room in self.room[modality])
        torch.bmm(left, right, out=low)
        return into if into.dtype == low.dtype else into.copy_(low)

    def refresh(self, layer: str) -> None:
        """Bring the copy of a layer's weights up to date."""
        if self.dtype != torch.float32 and f"{layer}.weight" in self.factors:
            self.factors[f"{layer}.weight"].copy_(self.weights[f"{layer}.weight"])

    @torch.inference_mode()
    def predict(self, run: int, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """Logits (n, K) of one run for features (n, D), in float32."""

        def product(x: Tensor, name: str) -> Tensor:
            weight, bias = self.weights[f"{name}.weight"][run], self.weights.get(f"{name}.bias")
            return torch.nn.functional.linear(x, weight, None if bias is None else bias[run])

        with float32_products():
            return fuse(features, present, self.modalities, self.gate, product, lambda x, _: x)

    def not_finite(self, run: int) -> list[str]:
        """Names of one run's weights that hold a value that is not finite."""
        return [name for name, weight in self.weights.items() if not bool(torch.isfinite(weight[run]).all())]

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """Copy of one run's weights by their published names."""
        state = self.published({name: tensor[run] for name, tensor in self.weights.items()})
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.items()}

    def keep(self, runs: Sequence[int]) -> None:
        """Drop all runs but these; the others move up."""
        chosen = torch.tensor(runs, device=next(iter(self.weights.values())).device)
        self.weights = {name: weight[chosen] for name, weight in self.weights.items()}
        self._make_room()

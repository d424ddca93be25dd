"""Networks in training: any module by itself, or fusion networks of one shape as one, their products batched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.fusion.gated import FusionNet, fuse, layer_of, modality_products, pair_weights, pairs_of
from merloco.models.fusion.networks.module import FUSED, FusionModule
from merloco.models.parallel import ParallelFor, sequential

Update = Callable[[Iterable[str]], None]
"""Updates the parameters of these names from their gradients, which it drops."""
FUSED_LAYERS = ("fc_avt.weight", "fc_avt.bias", "classifier.weight", "classifier.bias")


class Networks(Protocol):
    """R networks that the training loop takes through their batches together."""

    dropout_widths: Mapping[str, int]
    """Places where the loop's own dropout acts -> width; empty for a module that drops values itself."""
    capturable: bool
    """Whether a step is the same work every time and waits for nothing, so that a GPU can replay it."""
    hidden_width: int | None
    """Width H of what is in front of the classifier; None if it does not tell."""

    def __call__(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, noise: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (R, B, K) of features (R, B, D), and modality -> sums (R,), finite if what it brought is."""

    @property
    def hidden(self) -> Tensor | None:
        """What the last forward pass in training had in front of the classifier, (R, B, H)."""

    def backward(self, loss: Tensor, update: Update) -> None:
        """Compute the gradients of a loss, and call for the update of parameters whose gradients are there."""

    def predict(self, runs: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """Logits (r, n, K) of r of the runs for features (r, n, D), in float32 and without dropout."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name; the run is the first dimension where R may be more than one."""

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these; the others move up."""

    def snapshot(self, runs: Tensor) -> None:
        """Copy the weights of these runs, on their device, over what was copied before."""

    def snapshot_of(self, run: int) -> dict[str, np.ndarray]:
        """One run's copied weights by their own names."""

    def finite(self) -> dict[str, Tensor]:
        """Name of a weight -> whether all of its values are finite, bool (R,)."""


class SingleNetwork:
    """Any module: what a stack is held to.

    Args:
        module: Takes modality -> (B, D) and modality -> bool (B,) or None, and gives logits (B, K); one that has
            `dropout_widths` also takes `noise`, see `FusionNet`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.dropout_widths: Mapping[str, int] = getattr(module, "dropout_widths", {})
        self.capturable = bool(self.dropout_widths)
        self.hidden_width = self.dropout_widths.get(FUSED)
        self._snapshot: dict[str, Tensor] = {}

    def __call__(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, noise: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Networks`; a module does not tell what a modality brought, the features stand for it."""
        self.module.train()
        drops = {} if noise is None else {"noise": _of_run(noise, 0)}
        logits = self.module(_of_run(features, 0), None if present is None else _of_run(present, 0), **drops)
        return logits[None], _sums(features)

    @property
    def hidden(self) -> Tensor | None:
        """See `Networks`."""
        rows: Tensor | None = getattr(self.module, "representation", None)
        return None if rows is None else rows[None]

    def backward(self, loss: Tensor, update: Update) -> None:
        """See `Networks`."""
        loss.backward()
        update(self.parameters())

    def predict(self, runs: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """See `Networks`."""
        self.module.eval()
        logits: Tensor = self.module(_of_run(features, 0), None if present is None else _of_run(present, 0))
        return logits.unsqueeze(0)

    def parameters(self) -> dict[str, nn.Parameter]:
        """See `Networks`."""
        return dict(self.module.named_parameters())

    def select(self, runs: Tensor) -> None:
        """See `Networks`: there is one run."""

    def snapshot(self, runs: Tensor) -> None:
        """See `Networks`."""
        self._snapshot = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def snapshot_of(self, run: int) -> dict[str, np.ndarray]:
        """See `Networks`."""
        return {name: value.cpu().numpy() for name, value in self._snapshot.items()}

    def finite(self) -> dict[str, Tensor]:
        """See `Networks`."""
        return {name: torch.isfinite(weight).all().unsqueeze(0) for name, weight in self.module.named_parameters()}


def _sums(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Modality -> sums (R,) of features (R, B, D)."""
    return {m: rows.sum((1, 2)) for m, rows in features.items()}


def _of_run(values: Mapping[str, Tensor], run: int) -> dict[str, Tensor]:
    return {name: value[run] for name, value in values.items()}


class Stack:
    """Weights of R networks of one shape: every one has the run as its first dimension."""

    capturable = True
    _hidden: Tensor | None = None
    hidden_width: int | None = None
    weights: dict[str, nn.Parameter]
    _snapshot: dict[str, Tensor]

    @property
    def hidden(self) -> Tensor | None:
        """See `Networks`."""
        return self._hidden

    def parameters(self) -> dict[str, nn.Parameter]:
        """See `Networks`."""
        return self.weights

    def select(self, runs: Tensor) -> None:
        """See `Networks`."""
        self.weights = {name: nn.Parameter(weight.detach()[runs]) for name, weight in self.weights.items()}
        self._snapshot = {name: weight[runs] for name, weight in self._snapshot.items()}

    def snapshot(self, runs: Tensor) -> None:
        """See `Networks`."""
        for name, weight in self.weights.items():
            if name not in self._snapshot:
                self._snapshot[name] = torch.empty_like(weight, requires_grad=False)
            self._snapshot[name][runs] = weight.detach()[runs]

    def snapshot_of(self, run: int) -> dict[str, np.ndarray]:
        """See `Networks`."""
        return {name: weight[run].cpu().numpy() for name, weight in self._snapshot.items()}

    def finite(self) -> dict[str, Tensor]:
        """See `Networks`; by the stack's names."""
        return {name: torch.isfinite(weight).flatten(1).all(1) for name, weight in self.weights.items()}


class StackedModules(Stack):
    """R modules of one shape as one, by `torch.func`: their forward pass is mapped over the runs.

    Args:
        modules: The modules, see `merloco.models.fusion.networks.module.FusionModule`.
        device: Where to compute.
    """

    def __init__(self, modules: Sequence[FusionModule], device: str) -> None:
        self.dropout_widths: Mapping[str, int] = modules[0].dropout_widths
        self.module = modules[0].to(device)
        parameters, _ = torch.func.stack_module_state(list(modules))
        self.weights = {name: nn.Parameter(weight.detach().to(device)) for name, weight in parameters.items()}
        self._snapshot = {}

    def __call__(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, noise: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Networks`; a module does not tell what a modality brought, the features stand for it."""
        self.module.train()
        return self._mapped(self.weights, features, present, noise), _sums(features)

    def backward(self, loss: Tensor, update: Update) -> None:
        """See `Networks`."""
        loss.backward()
        update(self.weights)

    def predict(self, runs: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """See `Networks`."""
        self.module.eval()
        return self._mapped({name: weight[runs] for name, weight in self.weights.items()}, features, present, None)

    def _mapped(self, weights: Mapping[str, Tensor], *arguments: Mapping[str, Tensor] | None) -> Tensor:
        def one(own: dict[str, Tensor], *of_run: Any) -> Tensor:
            logits: Tensor = torch.func.functional_call(self.module, own, of_run)
            return logits

        dims = (0, *(None if argument is None else 0 for argument in arguments))
        logits: Tensor = torch.vmap(one, in_dims=dims)(dict(weights), *arguments)
        return logits


class StackedFusion(Stack):
    """R fusion networks of one shape: every weight has the run as its first dimension.

    The gated layers' weights of a modality lie one below the other, (R, 2 * pairs * gated_dim, D), so that three wide
    products take the place of nine narrow ones.

    Args:
        networks: The networks.
        device: Where to compute.
        precision: Of the products with the wide layers: `float32`, `bf16`, or `tf32`, which on a CPU is float32.
        parallel_for: Goes through the modalities, which meet only in the fused layers, forward and backward; None takes
            them one after the other.
    """

    def __init__(
        self,
        networks: Sequence[FusionNet],
        device: str,
        precision: str = "float32",
        parallel_for: ParallelFor | None = None,
    ) -> None:
        first = networks[0]
        self.modalities, self.gate = first.modalities, first.gate
        self.dropout_widths: Mapping[str, int] = first.dropout_widths
        self.hidden_width = self.dropout_widths[FUSED]
        self.names = list(first.state_dict())
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.parallel_for = parallel_for
        packed = [self._packed(network.state_dict()) for network in networks]
        self.weights = {
            name: nn.Parameter(torch.stack([weights[name] for weights in packed]).to(device)) for name in packed[0]
        }
        self._layers = {m: [n for n in packed[0] if n.startswith((f"fc_{m}.", f"pairs_{m}."))] for m in self.modalities}
        self._snapshot = {}
        self._products: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}

    def _packed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published names -> the stack's: linear layers as they are, gated layers together per modality."""
        packed = {name: weight for name, weight in state.items() if not name.startswith("gal_")}
        for m in self.modalities if pairs_of(self.modalities) else ():
            packed[f"pairs_{m}.weight"] = torch.cat(pair_weights(state, m, self.modalities), dim=-1).T
        return packed

    def __call__(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None, noise: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Networks`."""

        def dropout(rows: Tensor, place: str) -> Tensor:
            dropped = rows if noise is None else rows.mul_(noise[place])
            if place == FUSED:
                self._hidden = dropped
            return dropped

        def forward_modality(m: str) -> None:
            self._products[m] = modality_products(
                features[m], m, len(self.modalities) == 1, self._linear, self._pair_products, dropout
            )

        if self.parallel_for is None:
            sequential(self.modalities, forward_modality)
            self._inputs = self._products
        else:  # the graph is cut where the modalities meet, so that each can be gone through backward by itself
            self.parallel_for(self.modalities, forward_modality)
            self._inputs = {m: self._products[m].detach().requires_grad_() for m in self.modalities}
        sums = {m: rows.detach().sum((1, 2)) for m, rows in self._inputs.items()}
        return fuse(self._inputs, present, self.gate, self._linear, dropout), sums

    def backward(self, loss: Tensor, update: Update) -> None:
        """See `Networks`."""
        loss.backward()
        if self.parallel_for is None:
            update(self.weights)
            return

        def backward_modality(m: str) -> None:
            self._products[m].backward(self._inputs[m].grad)
            update(self._layers[m])

        update(FUSED_LAYERS)
        self.parallel_for(self.modalities, backward_modality)

    def _linear(self, rows: Tensor, layer: str) -> Tensor:
        wide = layer not in ("fc_avt", "classifier")
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        return _product(rows, weight, bias, self.dtype if wide else torch.float32)

    def _pair_products(self, rows: Tensor, modality: str) -> Tensor:
        return _product(rows, self.weights[f"pairs_{modality}.weight"], None, self.dtype)

    def predict(self, runs: Tensor, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Tensor:
        """See `Networks`."""
        weights: Mapping[str, Tensor] = self.weights
        if len(runs) < len(weights["classifier.weight"]):
            weights = {name: weight[runs] for name, weight in weights.items()}

        def linear(rows: Tensor, layer: str) -> Tensor:
            return _product(rows, weights[f"{layer}.weight"], weights.get(f"{layer}.bias"))

        products = {
            m: modality_products(
                features[m],
                m,
                len(self.modalities) == 1,
                linear,
                lambda rows, m: linear(rows, f"pairs_{m}"),
                lambda rows, _: rows,
            )
            for m in self.modalities
        }
        return fuse(products, present, self.gate, linear, lambda rows, _: rows)

    def snapshot_of(self, run: int) -> dict[str, np.ndarray]:
        """See `Networks`; by the published names."""
        own = super().snapshot_of(run)
        pairs = pairs_of(self.modalities)
        columns = {
            m: iter(np.split(own[f"pairs_{m}.weight"].T, 2 * sum(m in pair for pair in pairs), axis=1))
            for m in (self.modalities if pairs else ())
        }
        for pair in pairs:
            (first, gate1), (second, gate2) = ((next(columns[m]), next(columns[m])) for m in pair)
            layer = layer_of(pair)
            own |= {f"{layer}.WF1": first, f"{layer}.WF2": second, f"{layer}.WF": np.concatenate([gate1, gate2])}
        return {name: np.array(own[name], order="C") for name in self.names}


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows (R, n, d) times weights (R, d', d), and biases (R, d'): float32 (R, n, d')."""
    if len(weight) == 1 and dtype == torch.float32:  # backward, a batched product of one is slower
        one = nn.functional.linear(rows.squeeze(0), weight.squeeze(0), None if bias is None else bias.squeeze(0))
        return one.unsqueeze(0)
    out = torch.bmm(rows.to(dtype), weight.to(dtype).mT).float()
    return out if bias is None else out + bias[:, None]

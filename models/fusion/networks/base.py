"""Fusion networks by name: the registry through which built-in ones and a user's own come.

A fusion network is a `torch.nn.Module`, built from the widths of the modalities and the number of classes:

    network = Network(dims, classes, **options)     # dims: modality -> width D
    logits = network(features, present)             # features: modality -> float32 (n, D), zeros where absent
                                                    # present: modality -> bool (n,), None where everything is there
                                                    # logits: float32 (n, K)

It handles missing modalities itself, by `present`. What the training settings may set in it, it declares as `options`
(option -> default, or a pydantic model). One that derives from
`merloco.models.fusion.networks.module.FusionModule` leaves dropout to the training loop: its runs then train beside
each other, and on a GPU as one stack. One that has a method `fit` is fitted by it and not by the loop, see
`merloco.models.fusion.networks.logistic.Logistic`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.errors import ModelError

GATED = "gated"
"""The paper's network, which has a stacked fast path of its own."""
BUILTIN = {
    GATED: "merloco.models.fusion.gated",
    **{
        name: f"merloco.models.fusion.networks.{name}"
        for name in ("concat_mlp", "late", "attention", "lmf", "logistic")
    },
}
"""Name -> the module that registers it."""
SHARED = ("gated_dim", "gate", "dropout")
"""Training settings of every network: one that declares an option of that name gets it from there."""

Build = Callable[..., Any]
"""`build(dims, classes, **options)`: a class or a function that gives a `torch.nn.Module`."""
B = TypeVar("B", bound=Build)


@dataclass(frozen=True, slots=True)
class RegisteredFusion:
    """A registered network and what can be set in it."""

    factory: Build
    options: Mapping[str, Any] | type[Any]
    """What `fusion_options` may hold, and those of `SHARED` that it takes: name -> default, or a pydantic model."""

    def build(
        self, dims: Mapping[str, int], classes: int, shared: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Any:
        """Build a network.

        Args:
            dims: Modality -> width.
            classes: Their number.
            shared: Values of `SHARED`.
            options: What the training settings say under `fusion_options`.
        """
        declared = self.options if isinstance(self.options, Mapping) else self.options.model_fields
        taken = {name: value for name, value in shared.items() if name in declared}
        if isinstance(self.options, Mapping):
            values = {**self.options, **options, **taken}
        else:
            values = self.options.model_validate({**options, **taken}).model_dump()
        return self.factory(dims, classes, **values)

    @property
    def version(self) -> str:
        """What of its code decides a result: the `version` that it has, else the sha256 of the file it is written in.

        Raises:
            ModelError: It has neither.
        """
        version = getattr(self.factory, "version", None)
        try:
            return sha256_of(inspect.getfile(self.factory)) if version is None else str(version)
        except (TypeError, OSError):
            raise ModelError(f"fusion {self.factory!r} has no source file: expected an attribute `version`") from None


_FUSIONS: dict[str, RegisteredFusion] = {}


def register_fusion(name: str) -> Callable[[B], B]:
    """Register a network under the name that training settings use as `fusion`.

    Raises:
        ModelError: Another module has registered one of that name.
    """

    def decorate(build: B) -> B:
        other = _FUSIONS[name].factory.__module__ if name in _FUSIONS else BUILTIN.get(name, build.__module__)
        if other != build.__module__:
            raise ModelError(f"fusion {name!r} is {other}'s already: register it under another name")
        own = getattr(build, "options", None)
        declares = isinstance(own, Mapping) or hasattr(own, "model_validate")
        _FUSIONS[name] = RegisteredFusion(build, own if own is not None and declares else {})
        return build

    return decorate


def registered_fusions() -> list[str]:
    """Names that are built in or that a plugin has registered."""
    return sorted({*BUILTIN, *_FUSIONS})


def registered_fusion(name: str) -> RegisteredFusion:
    """Look a network up by its name; only the module that has it is imported.

    Raises:
        ModelError: No such name; the sentence names the nearest one.
    """
    if name in BUILTIN:
        importlib.import_module(BUILTIN[name])
    if name not in _FUSIONS:
        known = registered_fusions()
        close = difflib.get_close_matches(name, known, n=1)
        nearest = f"did you mean {close[0]!r}? " if close else ""
        raise ModelError(f"unknown fusion {name!r}: {nearest}known: {', '.join(known)}")
    return _FUSIONS[name]

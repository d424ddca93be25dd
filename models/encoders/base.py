"""The Encoder protocol and its registry: the only door through which the feature store reaches models.

An encoder turns the items of a batch into vectors. What an item is depends on the modality:

=========  =====================================================  =========================
modality   one item                                               vectors per item
=========  =====================================================  =========================
audio      windows of sound, float32 (n_windows, n_samples)       one per window
video      RGB frames, uint8 (n_frames, height, width, 3)         one per frame
text       a string                                               one
=========  =====================================================  =========================
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.errors import ModelError as ModelError
from merloco.models.parallel import shared_cores as shared_cores

BUILTIN = {
    "prosody": "merloco.models.encoders.light.audio",
    "face_hog": "merloco.models.encoders.light.video",
    "minilm": "merloco.models.encoders.light.text",
    **dict.fromkeys(
        ("resnet50_affectnet", "wav2vec2_projector", "roberta_dense"), "merloco.models.encoders.published.encoders"
    ),
    **dict.fromkeys(("hf_audio", "hf_vision", "hf_text"), "merloco.models.encoders.huggingface"),
    "torchaudio_bundle": "merloco.models.encoders.torchaudio",
}
"""Kind -> the module that registers it."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """Vectors of one item."""

    vectors: np.ndarray
    """float32 (n, dim), one row per window, frame or text."""
    valid: np.ndarray
    """bool (n,): false where there was nothing to encode (a frame without a face). Such rows never reach a mean."""
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays to keep beside the vectors, for example face boxes and scores, one row per frame."""


class Encoder(Protocol):
    """What the feature store needs to know of a model."""

    modality: str
    dim: int
    """Width of one vector."""

    def encode(self, items: Sequence[Any]) -> list[Encoding]:
        """Encode a batch of items (see the module's table) in the given order.

        The values of an item do not depend on what else is in the batch (tolerance 1e-4).
        """
        ...


@runtime_checkable
class FaceEncoder(Encoder, Protocol):
    """An encoder in two steps, so that faces of the next clips are looked for while those of the last are encoded.

    `encode(items)` equals `encode_detections(items, find(items))`.
    """

    def detect(self, items: Sequence[np.ndarray]) -> Sequence[Any]:
        """What the frames of each clip show, one entry per clip."""
        ...

    def encode_detections(self, items: Sequence[np.ndarray], found: Sequence[Any]) -> list[Encoding]:
        """Encode clips whose faces are known (see `detect`)."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What a catalog entry says about an encoder, as plain data."""

    kind: str
    checkpoint: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    layer: int | None = None
    pooling: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parameters_of(spec: EncoderSpec, declared: Mapping[str, Any] | type[Any]) -> dict[str, Any]:
    """The encoder's parameters: defaults, overridden by the catalog.

    Args:
        spec: The catalog's entry.
        declared: Parameter -> default, or a pydantic model.

    Raises:
        ModelError: The catalog names a parameter that this encoder does not have, or one is wrong.
    """
    if not isinstance(declared, Mapping):
        try:
            return dict(declared.model_validate(dict(spec.parameters)).model_dump())
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"encoder kind {spec.kind!r} does not take its parameters: {reason}") from None
    for name in spec.parameters:
        if name not in declared:
            raise ModelError(f"encoder kind {spec.kind!r} has no parameter {name!r}: {_suggest(name, declared)}")
    return {**declared, **spec.parameters}


Build = Callable[[EncoderSpec, str], Encoder]
"""`build(spec, device)` loads the weights and returns the encoder: a class or a function."""
B = TypeVar("B", bound=Build)


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered encoder class and what the fingerprint needs to know without building it."""

    factory: Build
    identity: Callable[[EncoderSpec], dict[str, Any]]
    """Everything that can change a value: defaults filled in, code version, sha256 of the weights. Builds nothing."""
    parameters: Mapping[str, Any] | type[Any]
    """What a catalog's `parameters` may hold: parameter -> default, or a pydantic model."""

    def build(self, spec: EncoderSpec, device: str) -> Encoder:
        """Build the encoder; of the spec that it gets, every parameter has a value."""
        return self.factory(replace(spec, parameters=parameters_of(spec, self.parameters)), device)


_ENCODERS: dict[str, Registered] = {}


def register_encoder(
    kind: str,
    identity: Callable[[EncoderSpec], dict[str, Any]] | None = None,
    parameters: Mapping[str, Any] | type[Any] | None = None,
) -> Callable[[B], B]:
    """Register `build(spec, device)` (a class or a function) under the name that catalog entries use as `kind`.

    Args:
        kind: The name.
        identity: See `Registered.identity`; None takes the class's own `identity(spec)`, else `default_identity`.
        parameters: See `Registered.parameters`; None takes the class's own `parameters`, else there are none.

    Raises:
        ModelError: Another module has registered an encoder of that kind.
    """

    def decorate(build: B) -> B:
        other = _ENCODERS[kind].factory.__module__ if kind in _ENCODERS else BUILTIN.get(kind, build.__module__)
        if other != build.__module__:
            raise ModelError(f"encoder kind {kind!r} is {other}'s already: register it under another name")
        known = next((entry for entry in _ENCODERS.values() if entry.factory is build), None)
        if known and identity is None and parameters is None:  # under one more name
            _ENCODERS[kind] = known
            return build
        own = getattr(build, "parameters", None)
        declares = isinstance(own, Mapping) or hasattr(own, "model_validate")
        declared = parameters if parameters is not None else own if declares else {}
        own_identity = identity or getattr(build, "identity", None)
        _ENCODERS[kind] = Registered(
            build, own_identity or (lambda spec: default_identity(build, spec, declared or {})), declared or {}
        )
        return build

    return decorate


_SOURCE = ("hub_id", "revision", "layer", "pooling")
"""What of a spec is in an identity, where it is said."""


def default_identity(build: Build, spec: EncoderSpec, parameters: Mapping[str, Any] | type[Any]) -> dict[str, Any]:
    """What can change a value of an encoder that says nothing itself: its code, its parameters and its weights.

    Its code is the `version` that the class has, else the sha256 of the file that it is written in.

    Raises:
        ModelError: The weights are not there, a parameter is wrong, or nothing says which version this is.
    """
    values = parameters_of(spec, parameters)
    name = f"{build.__module__}:{getattr(build, '__qualname__', type(build).__qualname__)}"
    version = getattr(build, "version", None)
    try:
        version = sha256_of(inspect.getfile(build)) if version is None else version
    except (TypeError, OSError):
        raise ModelError(f"encoder {name} has no source file: expected an attribute `version`") from None
    return {
        "kind": name,
        "version": version,
        "parameters": values,
        **({"sample_rate": values["sample_rate"]} if "sample_rate" in values else {}),
        **({"weights": sha256_of(spec.checkpoint)} if spec.checkpoint else {}),
        **{key: value for key in _SOURCE if (value := getattr(spec, key)) is not None},
    }


def registered_kinds() -> list[str]:
    """Kinds that are built in or that a plugin has registered."""
    return sorted({*BUILTIN, *_ENCODERS})


def registered(kind: str) -> Registered:
    """Look an encoder up by its kind; only the module that has it is imported.

    Raises:
        ModelError: No such kind; the sentence names the nearest one.
    """
    if kind in BUILTIN:
        importlib.import_module(BUILTIN[kind])
    if kind not in _ENCODERS:
        raise ModelError(f"unknown encoder kind {kind!r}: {_suggest(kind, registered_kinds())}")
    return _ENCODERS[kind]


def _suggest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"{f'did you mean {close[0]!r}? ' if close else ''}known: {', '.join(names) or 'none'}"

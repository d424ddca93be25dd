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

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from merloco.models.errors import ModelError as ModelError
from merloco.models.parallel import shared_cores as shared_cores

MODULES = (
    "merloco.models.encoders.light.audio",
    "merloco.models.encoders.light.video",
    "merloco.models.encoders.light.text",
    "merloco.models.encoders.published.encoders",
    "merloco.models.encoders.huggingface",
    "merloco.models.encoders.torchaudio",
)


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


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered encoder class and what the fingerprint needs to know without building it."""

    build: Callable[[EncoderSpec, str], Encoder]
    """`build(spec, device)` loads the weights and returns the encoder."""
    identity: Callable[[EncoderSpec], dict[str, Any]]
    """Everything that can change a value: defaults filled in, code version, sha256 of the weights. Builds nothing."""


_ENCODERS: dict[str, Registered] = {}


def register_encoder(
    kind: str, identity: Callable[[EncoderSpec], dict[str, Any]]
) -> Callable[[Callable[[EncoderSpec, str], Encoder]], Callable[[EncoderSpec, str], Encoder]]:
    """Register `build(spec, device)` (a class or a function) under the name that catalog entries use as `kind`."""

    def decorate(build: Callable[[EncoderSpec, str], Encoder]) -> Callable[[EncoderSpec, str], Encoder]:
        _ENCODERS[kind] = Registered(build, identity)
        return build

    return decorate


def registered(kind: str) -> Registered:
    """Look an encoder up by its kind.

    Raises:
        ModelError: No such kind; the sentence lists the known ones.
    """
    for module in MODULES:
        importlib.import_module(module)
    if kind not in _ENCODERS:
        raise ModelError(f"unknown encoder kind {kind!r}: known: {', '.join(sorted(_ENCODERS))}")
    return _ENCODERS[kind]

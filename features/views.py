"""Feature views: encoder + checkpoint + preprocessing + windows + pooling, addressed by a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from merloco.features.encoders import find_encoder
from merloco.models.encoders.base import Encoder, EncoderSpec
from merloco.pipelines.catalog.loader import Catalog
from merloco.pipelines.errors import UsageError
from merloco.pipelines.files.hashing import canonical_json, sha256_text

VALUES_VERSION = 1
"""Raised when extraction code changes the values of every view."""


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One named view and everything that can change a value of it."""

    name: str
    modality: str
    spec: EncoderSpec
    definition: dict[str, Any]
    """Canonical description: what is in it is in the fingerprint; batch size, workers, device and paths are not."""
    trained_on: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the definition's canonical JSON."""
        return sha256_text(canonical_json(self.definition))[:16]

    @property
    def pooling(self) -> str:
        """`none`, `mean` or `mean_std`."""
        return str(self.definition["pooling"])

    def window_and_step(self, rate: float) -> tuple[int, int]:
        """Window and step in samples or frames at `rate` per second; a view without windows takes all as one."""
        window, step = self.definition["window"], self.definition["step"]
        whole = 2**62
        return (round(window * rate), round(step * rate)) if window else (whole, whole)

    @property
    def min_face_share(self) -> float:
        """Share of the frames that must show a face; below it the sample has the status `no_face`."""
        return float(self.definition.get("min_face_share", 0.0))

    def build(self, device: str) -> Encoder:
        """Load the weights and return the encoder."""
        return find_encoder(self.spec.kind).build(self.spec, device)


def resolve_view(catalog: Catalog, name: str) -> FeatureView:
    """Build the view of a catalog name.

    Raises:
        UsageError: The catalog has no such view, or its encoder is set to another sample rate.
        ModelError: The encoder's kind is unknown or its weights are not there.
    """
    entry = catalog.view(name)
    encoder = catalog.encoders[entry.encoder]
    # The plain-data form of a catalog entry that models understand.
    spec = EncoderSpec(**{field.name: getattr(encoder, field.name) for field in fields(EncoderSpec)})
    identity = find_encoder(spec.kind).identity(spec)
    if encoder.modality == "audio" and identity.get("sample_rate", entry.sample_rate) != entry.sample_rate:
        if "sample_rate" in encoder.parameters:
            raise UsageError(
                f"view {name!r} reads sound at {entry.sample_rate} Hz, and its encoder {entry.encoder!r} is set to "
                f"{identity['sample_rate']} Hz (parameters.sample_rate): expected one rate"
            )
        spec = replace(spec, parameters={**spec.parameters, "sample_rate": entry.sample_rate})
        identity = find_encoder(spec.kind).identity(spec)
    definition: dict[str, Any] = {
        "modality": encoder.modality,
        "encoder": identity,
        "window": entry.window,
        "step": entry.step if entry.step is not None else entry.window,
        "pooling": entry.pooling,
        "version": VALUES_VERSION,
    }
    if encoder.modality != "text":
        definition["clock"] = "container"
    if encoder.modality == "audio":
        definition["sample_rate"] = entry.sample_rate
        definition["down_mix"] = entry.down_mix
    if encoder.modality == "video":
        definition["fps"] = entry.fps
        if entry.faceless_frames == "drop":
            definition["faceless_frames"] = "drop"
        if entry.min_face_share:
            definition["min_face_share"] = entry.min_face_share
    return FeatureView(name, encoder.modality, spec, definition, encoder.trained_on)

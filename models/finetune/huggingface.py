"""Hugging Face encoders in training: one linear layer over the vector of each, saved as model folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.encoders.base import EncoderSpec
from merloco.models.encoders.huggingface import WHISPER_POSITION, HfAudio, HfText, HfVision
from merloco.models.encoders.transformer import pooled
from merloco.models.faces.crops import WHOLE_FRAME, face_identity
from merloco.models.faces.detection import POLICIES
from merloco.models.finetune.trainable import Trainable, frames_of, mean_input, windows_of, with_detector

SHORTEST = 400
"""Samples from which the convolutions of the wav2vec2 family give one frame."""


class _Folder(Trainable):
    """What the three modalities share."""

    def __init__(self, encoder: HfAudio | HfVision | HfText, spec: EncoderSpec, classes: int) -> None:
        self.spec, self.backbone = spec, encoder.backbone
        self.head = nn.Linear(encoder.dim, classes).to(encoder.backbone.device)
        self.network = nn.ModuleDict({"encoder": encoder.backbone.whole, "head": self.head})
        self.cutting = {}

    def _save(self, folder: Path, part: Any, parameters: dict[str, Any]) -> EncoderSpec:
        self.backbone.whole.save_pretrained(folder)
        part.save_pretrained(folder)
        return EncoderSpec(self.spec.kind, ".", layer=self.spec.layer, pooling=self.spec.pooling, parameters=parameters)


class TrainableHfAudio(_Folder):
    """A speech model; convolutions of the wav2vec2 family stay as they are, as is usual for corpora of hours."""

    def __init__(self, encoder: HfAudio, spec: EncoderSpec, classes: int) -> None:
        super().__init__(encoder, spec, classes)
        self.encoder = encoder
        convolutions = getattr(encoder.backbone.whole, "feature_extractor", None)
        if convolutions is not None:
            convolutions.requires_grad_(False)
        self.cutting = {"shortest": SHORTEST}

    def cut(self, values: Sequence[np.ndarray]) -> list[list[list[np.ndarray]]]:
        """Every window that is long enough."""
        return windows_of(values, SHORTEST)

    def prepare(self, unit: Sequence[np.ndarray]) -> np.ndarray:
        """The window, float32 (n_samples,)."""
        return unit[0]

    def logits(self, prepared: list[np.ndarray]) -> Tensor:
        """See `Trainable.logits`."""
        features = self.encoder.extractor(prepared, sampling_rate=self.encoder.rate, return_tensors="pt")
        tokens = self.backbone.hidden(features[self.backbone.input_name])
        if self.encoder.whisper:
            tokens = tokens[:, : max(1, -(-len(prepared[0]) // WHISPER_POSITION))]
        logits: Tensor = self.head(pooled(tokens, self.encoder.pooling))
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """A model folder with its feature extractor."""
        return self._save(folder, self.encoder.extractor, dict(self.spec.parameters))


class TrainableHfVision(_Folder):
    """An image model on face crops or whole frames."""

    def __init__(self, encoder: HfVision, spec: EncoderSpec, classes: int) -> None:
        super().__init__(encoder, spec, classes)
        self.encoder = encoder
        self.cutting = face_identity(encoder.parameters, (WHOLE_FRAME, *POLICIES))

    def cut(self, values: Sequence[np.ndarray]) -> list[list[list[np.ndarray]]]:
        """Crops of every frame in which something counts."""
        return frames_of(values, self.encoder.detect(values))

    def prepare(self, unit: Sequence[np.ndarray]) -> np.ndarray:
        """The model's input, float32 (3, height, width), as extraction makes it."""
        return mean_input(unit, self._one)

    def _one(self, crop: np.ndarray) -> np.ndarray:
        prepared = self.encoder.processor(images=crop, input_data_format="channels_last", return_tensors="np")
        return np.asarray(prepared["pixel_values"][0], dtype=np.float32)

    def logits(self, prepared: list[np.ndarray]) -> Tensor:
        """See `Trainable.logits`."""
        tokens = self.backbone.hidden(torch.from_numpy(np.stack(prepared)))
        logits: Tensor = self.head(pooled(tokens, self.encoder.pooling))
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """A model folder with its image processor, and the detector's weights if it has any."""
        return self._save(folder, self.encoder.processor, with_detector(self.encoder.parameters, folder))


class TrainableHfText(_Folder):
    """A text model."""

    def __init__(self, encoder: HfText, spec: EncoderSpec, classes: int) -> None:
        super().__init__(encoder, spec, classes)
        self.encoder = encoder

    def cut(self, values: Sequence[str]) -> list[list[str]]:
        """A text is one unit."""
        return [[value] for value in values]

    def logits(self, prepared: list[str]) -> Tensor:
        """See `Trainable.logits`."""
        tokens = self.encoder.tokenizer(
            prepared, padding=True, truncation=True, max_length=self.encoder.max_tokens, return_tensors="pt"
        )
        hidden = self.backbone.hidden(tokens["input_ids"], tokens["attention_mask"])
        logits: Tensor = self.head(pooled(hidden, self.encoder.pooling, tokens["attention_mask"]))
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """A model folder with its tokenizer."""
        return self._save(folder, self.encoder.tokenizer, dict(self.spec.parameters))


MAKERS: dict[str, Callable[[Any, EncoderSpec, int], Trainable]] = {
    "hf_audio": TrainableHfAudio,
    "hf_vision": TrainableHfVision,
    "hf_text": TrainableHfText,
}

"""The published encoders in training: their own networks with a new last layer, saved in the published key names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from merloco.models.encoders.base import EncoderSpec
from merloco.models.encoders.published import wav2vec2
from merloco.models.encoders.published.encoders import ResNet50Faces, RobertaDense, Wav2Vec2Projector
from merloco.models.encoders.published.resnet import preprocess
from merloco.models.faces.crops import face_identity
from merloco.models.finetune.trainable import Trainable, frames_of, mean_input, windows_of, with_detector

WEIGHTS = "model.safetensors"


class TrainableFaces(Trainable):
    """ResNet-50 of AffectNet: everything learns but the batch statistics, `fc2` from nothing."""

    def __init__(self, encoder: ResNet50Faces, spec: EncoderSpec, classes: int) -> None:
        self.encoder, self.spec, self.network = encoder, spec, encoder.network
        encoder.network.fc2 = self.head = nn.Linear(encoder.dim, classes).to(encoder.device)
        self.cutting = face_identity(encoder.parameters)

    def cut(self, values: Sequence[np.ndarray]) -> list[list[list[np.ndarray]]]:
        """Crops of every frame with a face."""
        return frames_of(values, self.encoder.detect(values))

    def prepare(self, unit: Sequence[np.ndarray]) -> np.ndarray:
        """The network's input, float32 (3, 224, 224), as extraction makes it."""
        return mean_input(unit, preprocess)

    def logits(self, prepared: list[np.ndarray]) -> Tensor:
        """See `Trainable.logits`."""
        logits: Tensor = self.network(torch.from_numpy(np.stack(prepared)).to(self.encoder.device))
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """One file, and the detector's weights if it has any."""
        _save_state(self.network, folder)
        return EncoderSpec(self.spec.kind, WEIGHTS, parameters=with_detector(self.encoder.parameters, folder))


class TrainableSpeech(Trainable):
    """wav2vec2 with projector; its convolutions stay as they are, as is usual for corpora of hours."""

    def __init__(self, encoder: Wav2Vec2Projector, spec: EncoderSpec, classes: int) -> None:
        self.encoder, self.spec, self.network = encoder, spec, encoder.network
        encoder.network.classifier = self.head = nn.Linear(encoder.dim, classes).to(encoder.device)
        encoder.network.config.num_labels = classes
        encoder.network.freeze_feature_encoder()
        self.cutting = {"shortest": wav2vec2.SHORTEST}

    def cut(self, values: Sequence[np.ndarray]) -> list[list[list[np.ndarray]]]:
        """Every window that is long enough for one frame."""
        return windows_of(values, wav2vec2.SHORTEST)

    def prepare(self, unit: Sequence[np.ndarray]) -> np.ndarray:
        """The window, float32 (n_samples,), scaled where the encoder scales."""
        return wav2vec2.normalize(unit[0][None])[0] if self.encoder.normalize else unit[0]

    def logits(self, prepared: list[np.ndarray]) -> Tensor:
        """See `Trainable.logits`; the head sees the mean over time that extraction keeps."""
        waves = torch.from_numpy(np.stack(prepared)).to(self.encoder.device)
        logits: Tensor = self.head(wav2vec2.project(self.encoder.network, waves).mean(dim=1))
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """A model folder."""
        _save_state(self.network, folder)
        self.encoder.network.config.save_pretrained(folder)
        return EncoderSpec(self.spec.kind, ".", parameters={**_own(self.spec), "normalize": self.encoder.normalize})


class TrainableText(Trainable):
    """(Distil)RoBERTa with its own classification head, whose first layer gives the features."""

    def __init__(self, encoder: RobertaDense, spec: EncoderSpec, classes: int) -> None:
        self.encoder, self.spec, self.network = encoder, spec, encoder.network
        encoder.network.classifier.out_proj = self.head = nn.Linear(encoder.dim, classes).to(encoder.device)
        encoder.network.config.num_labels = classes
        self.cutting = {}

    def cut(self, values: Sequence[str]) -> list[list[str]]:
        """A text is one unit."""
        return [[value] for value in values]

    def logits(self, prepared: list[str]) -> Tensor:
        """See `Trainable.logits`."""
        tokens = self.encoder.tokenizer(
            prepared, padding=True, truncation=True, max_length=self.encoder.max_tokens, return_tensors="pt"
        )
        given = {name: tokens[name].to(self.encoder.device) for name in ("input_ids", "attention_mask")}
        logits: Tensor = self.network(**given).logits
        return logits

    def save(self, folder: Path) -> EncoderSpec:
        """A model folder with its tokenizer."""
        _save_state(self.network, folder)
        self.encoder.network.config.save_pretrained(folder)
        self.encoder.tokenizer.save_pretrained(folder)
        return EncoderSpec(self.spec.kind, ".", parameters={**_own(self.spec), "max_tokens": self.encoder.max_tokens})


MAKERS: dict[str, Callable[[Any, EncoderSpec, int], Trainable]] = {
    "resnet50_affectnet": TrainableFaces,
    "wav2vec2_projector": TrainableSpeech,
    "roberta_dense": TrainableText,
}


def _own(spec: EncoderSpec) -> dict[str, Any]:
    """The base's parameters but for the files that lie beside the new weights."""
    return {name: value for name, value in spec.parameters.items() if name not in ("config", "tokenizer")}


def _save_state(network: nn.Module, folder: Path) -> None:
    # A copy of each tensor: safetensors refuses views that share memory.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    save_file(dict(sorted(state.items())), folder / WEIGHTS, metadata={"format": "pt"})

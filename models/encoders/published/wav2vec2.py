"""The published acoustic encoder: wav2vec2 with a projection to 256 values per 20 ms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.checkpoints.model_folder import read_config, read_json, settings_folder, weight_file
from merloco.models.checkpoints.state_dict import load_into, load_state_dict, rows_of
from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Wav2Vec2ForSequenceClassification

MODEL_TYPE = "wav2vec2"
SHORTEST = 400
"""Samples from which the convolutions give one frame."""


def find_config(path: Path, config: str | None = None) -> dict[str, Any] | None:
    """The configuration of a checkpoint: `config`, else config.json beside it, else None for wav2vec2-base.

    Raises:
        ModelError: See `merloco.models.checkpoints.model_folder.read_config`.
    """
    return read_config(path, MODEL_TYPE, config)


def find_normalize(path: Path) -> bool:
    """Whether windows are scaled to mean 0 and variance 1: as preprocessor_config.json beside the checkpoint says.

    Without one: yes. The published code calls the hub model's feature extractor for every window, and one of wav2vec2
    scales unless it is told not to.
    """
    file = settings_folder(path) / "preprocessor_config.json"
    return bool(read_json(file).get("do_normalize", True)) if file.is_file() else True


def network_for(state: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> Wav2Vec2ForSequenceClassification:
    """An untrained network with as many classes as the checkpoint has; None is wav2vec2-base with 256 projections.

    Raises:
        ModelError: The configuration mixes layers before the projection, which the published model does not.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    settings = Wav2Vec2Config.from_dict(dict(config)) if config else Wav2Vec2Config()
    if settings.use_weighted_layer_sum:
        raise ModelError(
            "wav2vec2 configuration with use_weighted_layer_sum: expected one that projects the last layer"
        )
    settings.num_labels = rows_of(state, "classifier.weight", 7)
    return Wav2Vec2ForSequenceClassification(settings)


def load_wav2vec2(
    path: str | Path, config: Mapping[str, Any] | None, device: str = "cpu"
) -> Wav2Vec2ForSequenceClassification:
    """Load a checkpoint with the keys `wav2vec2.*`, `projector.*` and `classifier.*`.

    Args:
        path: State dict file or model folder.
        config: See `find_config`.
        device: Torch device.

    Raises:
        ModelError: The checkpoint does not fit; the sentence names the keys.
    """
    file = weight_file(Path(path))
    state = load_state_dict(file)
    network = network_for(state, config)
    load_into(network, state, file, "wav2vec2 with projector (of the published size unless config.json says otherwise)")
    return network.eval().to(device)


def project(network: Wav2Vec2ForSequenceClassification, waves: Tensor) -> Tensor:
    """Projector output, float32 (n, n_frames, 256), of waves (n, n_samples) of one length."""
    hidden: Tensor = network.projector(network.wav2vec2(waves).last_hidden_state)
    return hidden


def normalize(waves: np.ndarray) -> np.ndarray:
    """Scale each wave of (n, n_samples) to mean 0 and variance 1, as the hub's feature extractor does."""
    mean = waves.mean(axis=1, keepdims=True, dtype=np.float64)
    variance = waves.var(axis=1, keepdims=True, dtype=np.float64)
    return np.asarray((waves - mean) / np.sqrt(variance + 1e-7), dtype=np.float32)

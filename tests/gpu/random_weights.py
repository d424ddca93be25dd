"""The published encoders with random weights, in the files that the catalog names: full size, or small but as wide."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    RobertaConfig,
    RobertaForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from merloco.models.encoders.published.encoders import RESNET_FILE
from merloco.models.encoders.published.resnet import ResNet50AffectNet
from merloco.models.encoders.published.roberta import DISTILROBERTA
from merloco.models.faces.retinaface import MEAN, STD, make_network
from tests.gpu.measuring import DEVICE
from tests.helpers.tiny_models import save_audio, save_tokenizer, text_config

AUDIO, VIDEO, TEXT = "audio.pt", RESNET_FILE, "emotion-english-distilroberta-base"
DETECTOR = "retinaface_resnet50.pth"
THRESHOLD = 0.8
MARGIN = 0.1
"""By how much the logit of a face lies above the threshold's: rounding must not lose it."""


def save_encoders(folder: Path, full: bool = True) -> None:
    """Write the checkpoints of all three modalities; of the small ones only the face network is as large."""
    torch.manual_seed(0)
    torch.save(ResNet50AffectNet().state_dict(), folder / VIDEO)
    if full:
        torch.save(Wav2Vec2ForSequenceClassification(Wav2Vec2Config(num_labels=7)).state_dict(), folder / AUDIO)
        config = RobertaConfig(**DISTILROBERTA, num_labels=7)
    else:
        save_audio(folder)
        small = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 64, "num_hidden_layers": 1}
        config = RobertaConfig(**{**text_config(), **small})
    RobertaForSequenceClassification(config).save_pretrained(folder / TEXT)
    save_tokenizer(folder / TEXT, config.vocab_size)


def save_detector(folder: Path, frames: np.ndarray, faces: int = 2) -> None:
    """Write RetinaFace weights that find so many faces in a frame or more, as untrained ones find none or thousands.

    Args:
        folder: Where to.
        frames: uint8 RGB (n, height, width, 3), alike to those that it will see.
        faces: How many, before overlapping boxes are joined.
    """
    torch.manual_seed(0)
    network = make_network().eval().to(DEVICE)
    mean, std = (torch.tensor(values, device=DEVICE).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        pictures = torch.from_numpy(frames).to(DEVICE).permute(0, 3, 1, 2) / 255
        _, logits, _ = network((pictures - mean) / std)
        likely = (logits[..., 1] - logits[..., 0]).topk(faces).values[:, -1].min()
        shift = math.log(THRESHOLD / (1 - THRESHOLD)) + MARGIN - likely
        for layer in network.ClassHead.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias[1::2] += shift
    torch.save(network.state_dict(), folder / DETECTOR)

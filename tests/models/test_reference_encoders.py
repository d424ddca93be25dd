"""The published networks give the published numbers (folder: MERLOCO_REFERENCE, by default tests/data/reference)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from merloco.models.encoders.published.resnet import ResNet50AffectNet, load_resnet, preprocess
from merloco.models.encoders.published.roberta import dense, load_roberta
from merloco.models.encoders.published.wav2vec2 import load_wav2vec2, project
from tests.helpers.tiny_models import audio_config, draw, old_weight_norm, seeded_state, text_config, vectors

TOLERANCE = 1e-4


def close(ours: torch.Tensor, published: np.ndarray, relative: float = 0.0) -> None:
    np.testing.assert_allclose(ours.numpy(), published, rtol=0, atol=TOLERANCE + relative * np.abs(published).max())


@pytest.fixture(scope="module")
def face_network(tmp_path_factory: pytest.TempPathFactory) -> ResNet50AffectNet:
    path = tmp_path_factory.mktemp("face") / "FER_static_ResNet50_AffectNet.pt"
    torch.save(seeded_state("face_resnet50"), path)
    return load_resnet(path)


@torch.inference_mode()
def test_face_features_and_logits(face_network: ResNet50AffectNet) -> None:
    expected = vectors("face_resnet50")
    face = torch.from_numpy(draw("input.face", (2, 3, 224, 224)) * 60)
    # Random weights drive the features above 1000, where neighbouring float32 numbers are 1.2e-4 apart and the order of
    # summation (threads, instruction set) shows: beside 1e-4, one millionth of the largest value is allowed.
    close(face_network.features(face), expected["features"], relative=1e-6)
    close(face_network(face), expected["logits"], relative=1e-6)


def test_face_preprocessing() -> None:
    expected = vectors("face_preprocess")
    np.testing.assert_array_equal(preprocess(expected["rgb"])[None], expected["tensor"])


@pytest.mark.parametrize("names", [dict, old_weight_norm], ids=["parametrizations", "weight_g"])
@torch.inference_mode()
def test_audio_projector_under_both_weight_norm_namings(names: type, tmp_path: Path) -> None:
    expected = vectors("audio_wav2vec2_tiny")
    torch.save(names(seeded_state("audio_wav2vec2_tiny")), tmp_path / "audio.pt")
    network = load_wav2vec2(tmp_path / "audio.pt", audio_config())
    hidden = project(network, torch.from_numpy(draw("input.wav", (2, 64000)) * 0.1))
    assert hidden.shape[1] == expected["n_frames"]
    close(hidden[:, :3], expected["hidden_first"])
    close(hidden.mean(dim=1), expected["hidden_mean"])
    close(network.classifier(hidden.mean(dim=1)), expected["logits"])


@torch.inference_mode()
def test_text_dense_before_tanh(tmp_path: Path) -> None:
    expected = vectors("text_roberta_tiny")
    torch.save(seeded_state("text_roberta_tiny"), tmp_path / "text.pt")
    network = load_roberta(tmp_path / "text.pt", text_config())
    tokens = [torch.from_numpy(expected[name]) for name in ("input_ids", "attention_mask")]
    features = dense(network, *tokens)
    close(features, expected["features"])
    close(network.classifier.out_proj(torch.tanh(features)), expected["logits"])

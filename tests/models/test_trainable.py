"""Encoders in training: the head sees what extraction keeps, and what is saved is what was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from merloco.models.encoders.base import EncoderSpec, registered
from merloco.models.encoders.light.text import model_folder
from merloco.models.errors import ModelError
from merloco.models.faces.retinaface import make_network
from merloco.models.finetune.registry import make_trainable
from merloco.models.finetune.run import seeded
from merloco.models.finetune.trainable import Trainable
from tests.helpers.tiny_models import (
    SENTENCES,
    photograph,
    save_audio,
    save_resnet,
    save_roberta,
    save_speech,
    save_text,
    save_vit,
    save_whisper,
    seeded_state,
    waves,
)

CLASSES = 7
MTCNN = {"detector": "mtcnn", "detector_checkpoint": None}


def faces(folder: Path) -> EncoderSpec:
    torch.save(seeded_state("face_resnet50"), folder / "face.pt")
    return EncoderSpec("resnet50_affectnet", str(folder / "face.pt"), parameters=MTCNN)


BASES: dict[str, Callable[[Path], EncoderSpec]] = {
    "resnet50_affectnet": faces,
    "wav2vec2_projector": lambda f: EncoderSpec(
        "wav2vec2_projector", str(save_audio(f)), parameters={"normalize": True}
    ),
    "roberta_dense": lambda f: EncoderSpec("roberta_dense", str(save_text(f)), parameters={"max_tokens": 20}),
    "wav2vec2": lambda f: EncoderSpec("hf_audio", str(save_speech(f))),
    "wavlm": lambda f: EncoderSpec("hf_audio", str(save_speech(f, "wavlm", "layer")), layer=1, pooling="max"),
    "whisper": lambda f: EncoderSpec("hf_audio", str(save_whisper(f))),
    "vit": lambda f: EncoderSpec("hf_vision", str(save_vit(f)), pooling="first"),
    "resnet": lambda f: EncoderSpec("hf_vision", str(save_resnet(f)), parameters={"faces": "none"}),
    "roberta": lambda f: EncoderSpec("hf_text", str(save_roberta(f)), parameters={"max_tokens": 30}),
    "minilm": lambda f: EncoderSpec("minilm"),
}
ITEMS = {
    "audio": [waves(2, 16000), waves(1, 16000, seed=1)],
    "video": [np.stack([photograph(), photograph()[:, ::-1]])],
    "text": list(SENTENCES[:3]),
}


def make(spec: EncoderSpec) -> Trainable:
    with seeded(0, "cpu"):
        return make_trainable(spec, CLASSES, "cpu")


def with_paths(spec: EncoderSpec, folder: Path) -> EncoderSpec:
    return EncoderSpec(
        spec.kind, str(folder / str(spec.checkpoint)), None, None, spec.layer, spec.pooling, spec.parameters
    )


def logits(trainable: Trainable, items: list[Any]) -> torch.Tensor:
    units = [unit for sample in trainable.cut(items) for unit in sample]
    return trainable.logits([trainable.prepare(unit) for unit in units])


def head_on(trainable: Trainable, vectors: np.ndarray, kind: str) -> np.ndarray:
    """The head over vectors of an encoder, with the activation that lies between in the published networks."""
    features = torch.from_numpy(vectors)
    between = {"resnet50_affectnet": torch.relu, "roberta_dense": torch.tanh}.get(kind, lambda x: x)
    return trainable.head(between(features)).detach().numpy()


@pytest.mark.parametrize("base", BASES)
def test_what_is_saved_is_what_was_trained(base: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    spec = BASES[base](tmp_path / "base")
    trainable = make(spec)
    before = {name: tensor.clone() for name, tensor in trainable.network.state_dict().items()}
    modality = registered(spec.kind).factory.modality  # type: ignore[attr-defined]
    items = ITEMS[modality]
    with seeded(0, "cpu"):
        trainable.train_mode()
        torch.nn.functional.cross_entropy(out := logits(trainable, items), torch.arange(len(out)) % CLASSES).backward()
    learned = [p for p in trainable.network.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    with torch.no_grad():
        for parameter in learned:
            parameter -= 1e-3 * parameter.grad / parameter.grad.norm()
    state = trainable.network.state_dict()
    changed = {name for name, tensor in state.items() if not torch.equal(tensor, before[name])}
    assert len(changed) > len(list(trainable.head.parameters())), "the encoder itself has to learn"
    assert not any("running_" in name for name in changed)

    trainable.network.eval()
    folder = tmp_path / "weights"
    folder.mkdir()
    saved = with_paths(trainable.save(folder), folder)
    with torch.no_grad():
        expected = logits(trainable, items).numpy()
    encodings = registered(saved.kind).build(saved, "cpu").encode(items)
    vectors = np.concatenate([encoding.vectors[encoding.valid] for encoding in encodings])
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(head_on(trainable, vectors, saved.kind), expected, atol=1e-4 * scale)
    identity = registered(saved.kind).identity(saved)
    assert len(identity["weights"]) == 64 and str(tmp_path) not in str(identity)


def test_the_same_seed_draws_the_same_head(tmp_path: Path) -> None:
    spec = BASES["roberta"](tmp_path)
    one, other = make(spec), make(spec)
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    )


def test_crops_are_those_that_extraction_encodes(tmp_path: Path) -> None:
    """A frame without a face gives no unit; the others give their crops as they are in the picture."""
    trainable = make(BASES["vit"](tmp_path))
    face, blank = photograph(), np.zeros((256, 256, 3), np.uint8)
    ((unit,),) = trainable.cut([np.stack([blank, face])])
    (crop,) = unit
    assert crop.dtype == np.uint8 and crop.shape[2] == 3 and 30 < crop.shape[0] < 256
    assert any(
        (face[y : y + crop.shape[0], x : x + crop.shape[1]] == crop).all() for y in range(200) for x in range(200)
    )


def test_the_detectors_weights_go_along(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(make_network().state_dict(), tmp_path / "retinaface.pth")
    parameters = {"detector_checkpoint": str(tmp_path / "retinaface.pth"), "threshold": 0.9}
    spec = EncoderSpec("resnet50_affectnet", faces(tmp_path).checkpoint, parameters=parameters)
    folder = tmp_path / "weights"
    folder.mkdir()
    saved = make(spec).save(folder)
    assert saved.parameters["threshold"] == 0.9 and saved.parameters["faces"] == "mean_all"
    copy = folder / saved.parameters["detector_checkpoint"]
    assert copy.read_bytes() == (tmp_path / "retinaface.pth").read_bytes()


def test_an_encoder_without_weights_is_one_sentence() -> None:
    with pytest.raises(
        ModelError, match="encoder kind 'prosody' has no weights to fine-tune: kinds that have: hf_audio"
    ):
        make(EncoderSpec("prosody"))


def test_minilm_is_saved_as_a_model_folder(tmp_path: Path) -> None:
    saved = make(EncoderSpec("minilm")).save(tmp_path)
    assert (saved.kind, saved.parameters) == ("hf_text", {"max_tokens": 256})
    own = registered("minilm").build(EncoderSpec("minilm"), "cpu").encode(["hello world"])[0].vectors[0]
    other = registered("hf_text").build(with_paths(saved, tmp_path), "cpu").encode(["hello world"])[0].vectors[0]
    np.testing.assert_allclose(other / np.linalg.norm(other), own, atol=1e-5)
    assert model_folder() != tmp_path

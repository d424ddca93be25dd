"""The published method's encoders, from small random checkpoints in the published formats."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merloco.models.checkpoints.convert import convert
from merloco.models.device import float32_products
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, registered
from merloco.models.encoders.batching import BatchSize
from merloco.models.encoders.published.resnet import preprocess
from merloco.models.faces.crops import detect_faces, frame_inputs
from merloco.models.faces.detection import NO_FACE, Faces
from merloco.models.faces.retinaface import make_network
from tests.helpers.tiny_models import (
    SENTENCES,
    old_weight_norm,
    photograph,
    save_audio,
    save_roberta,
    save_text,
    seeded_state,
    text_config,
    waves,
)

MTCNN = {"detector": "mtcnn"}
KINDS = ("resnet50_affectnet", "wav2vec2_projector", "roberta_dense")


@pytest.fixture(scope="session")
def face_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("face") / "FER_static_ResNet50_AffectNet.pt"
    torch.save(seeded_state("face_resnet50"), path)
    return str(path)


@pytest.fixture(scope="session")
def face_encoder(face_checkpoint: str) -> Encoder:
    return build(EncoderSpec("resnet50_affectnet", face_checkpoint, parameters=MTCNN))


def build(spec: EncoderSpec) -> Encoder:
    return registered(spec.kind).build(spec, "cpu")


def clip(*frames: np.ndarray) -> np.ndarray:
    return np.stack(frames)


def largest_difference(one: list[Encoding], other: list[Encoding]) -> float:
    return max(float(np.abs(a.vectors - b.vectors).max()) for a, b in zip(one, other, strict=True))


# ---- from the catalog's words to vectors


def test_face_encoder_gives_512_values_per_frame_with_a_face(face_encoder: Encoder) -> None:
    face, blank = photograph(), np.zeros((256, 256, 3), dtype=np.uint8)
    encodings = face_encoder.encode([clip(face, blank, face), clip(blank)])
    assert [e.vectors.shape for e in encodings] == [(3, 512), (1, 512)]
    assert encodings[0].vectors.dtype == np.float32
    assert encodings[0].valid.tolist() == [True, False, True]
    assert encodings[1].valid.tolist() == [False]
    np.testing.assert_allclose(encodings[0].vectors[0], encodings[0].vectors[2], rtol=1e-5, atol=1e-2)
    assert encodings[0].extras["n_faces"].tolist() == [1, 0, 1]
    assert encodings[0].extras["chosen"].tolist() == [[True], [False], [True]]
    assert np.isnan(encodings[0].extras["boxes"][1]).all()
    assert encodings[0].extras["scores"][0, 0] > 0.8


def test_face_encoder_runs_on_the_papers_detector(face_checkpoint: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = make_network().state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "retinaface.pth")
    assert convert(tmp_path / "retinaface.pth", tmp_path / "retinaface.safetensors").kind == "retinaface"
    parameters = {"detector_checkpoint": str(tmp_path / "retinaface.safetensors"), "threshold": 0.5}
    encoder = build(EncoderSpec("resnet50_affectnet", face_checkpoint, parameters=parameters))
    frames = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    (encoding,) = encoder.encode([frames])  # untrained weights see faces everywhere
    faces = encoding.extras["n_faces"][0]
    assert faces > 1 and encoding.extras["chosen"][0, :faces].all()
    assert encoding.vectors.shape == (1, 512) and np.isfinite(encoding.vectors).all()


def test_audio_encoder_gives_256_values_per_window(tmp_path: Path) -> None:
    encoder = build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path))))
    encodings = encoder.encode([waves(3, 64000), waves(1, 64000, seed=1)])
    assert encoder.dim == 256
    assert [e.vectors.shape for e in encodings] == [(3, 256), (1, 256)]
    assert all(e.valid.all() and np.isfinite(e.vectors).all() for e in encodings)


def test_text_encoder_gives_one_vector_of_the_dense_width(tmp_path: Path) -> None:
    encoder = build(EncoderSpec("roberta_dense", str(save_text(tmp_path))))
    encodings = encoder.encode(["what a surprise", "", "hello world"])
    assert [e.vectors.shape for e in encodings] == [(1, text_config()["hidden_size"])] * 3
    assert all(e.valid.all() and np.isfinite(e.vectors).all() for e in encodings)


def test_text_encoder_reads_a_hugging_face_folder(tmp_path: Path) -> None:
    from transformers import RobertaForSequenceClassification, RobertaTokenizer

    folder = save_roberta(tmp_path)
    ours = build(EncoderSpec("roberta_dense", str(folder))).encode(["hello world"])[0].vectors
    model = RobertaForSequenceClassification.from_pretrained(folder).eval()
    seen: list[torch.Tensor] = []
    model.classifier.dense.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    with torch.inference_mode():
        model(**RobertaTokenizer.from_pretrained(folder)("hello world", return_tensors="pt"))
    np.testing.assert_allclose(ours, seen[0].numpy(), atol=1e-5)


# ---- values do not depend on the batch


def test_audio_values_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    encoder = build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path))))
    # Lengths differ, as in a view without windows: padding would change group-norm values.
    items = [waves(1, 16000 + 1600 * (i % 4), seed=i) for i in range(8)]
    assert largest_difference(encoder.encode(items), [encoder.encode([item])[0] for item in items]) < 1e-4


def test_text_values_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    encoder = build(EncoderSpec("roberta_dense", str(save_text(tmp_path))))
    items = ["a", *SENTENCES, " ".join(SENTENCES)]
    assert largest_difference(encoder.encode(items), [encoder.encode([item])[0] for item in items]) < 1e-4


def test_values_do_not_depend_on_tf32_and_torchs_setting_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's default on a GPU would round convolutions to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    encoder = build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path))))
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(allowed()))
    encoder.encode([np.zeros((1, 16000), np.float32)])
    hook.remove()
    assert set(seen) == {(False, False)}
    assert allowed() == (True, False)


def allowed() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_tf32_is_on_only_while_it_will_do_for_all_that_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with float32_products(tf32=True):
        assert allowed() == (True, True)
        with float32_products():
            assert allowed() == (False, False)
        assert allowed() == (True, True)
    assert allowed() == (True, False)


def test_face_values_do_not_depend_on_the_batch(face_encoder: Encoder) -> None:
    items = [clip(np.roll(photograph(), 4 * i, axis=1)) for i in range(4)]
    items += [clip(np.zeros((128, 96, 3), dtype=np.uint8))] * 4
    together = face_encoder.encode(items)
    assert [bool(e.valid[0]) for e in together] == [True] * 4 + [False] * 4
    # Random weights give values in the hundreds (see test_reference_encoders): the tolerance is relative to them.
    scale = max(float(np.abs(e.vectors).max()) for e in together)
    assert largest_difference(together, [face_encoder.encode([item])[0] for item in items]) < 1e-5 * scale


# ---- the method's own rules


def test_windows_are_scaled_where_the_checkpoints_preprocessor_says_so(tmp_path: Path) -> None:
    checkpoint = save_audio(tmp_path)
    spec = EncoderSpec("wav2vec2_projector", str(checkpoint))
    scaled = build(spec).encode([waves(1, 16000)])[0].vectors
    assert registered(spec.kind).identity(spec)["normalize"] is True, "without a preprocessor, as the published code"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    as_it_is = build(spec).encode([waves(1, 16000)])[0].vectors
    assert registered(spec.kind).identity(spec)["normalize"] is False
    assert np.abs(scaled - as_it_is).max() > 1e-3
    overruled = build(replace(spec, parameters={"normalize": True})).encode([waves(1, 16000)])[0].vectors
    np.testing.assert_array_equal(overruled, scaled)


@pytest.mark.parametrize("level", [-25, -45, -65])
def test_quiet_windows_are_scaled_as_the_hubs_feature_extractor_scales_them(tmp_path: Path, level: int) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    wave = waves(1, 16000)
    wave *= 10 ** (level / 20) / np.sqrt(np.mean(wave**2))
    encoder = build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path))))
    (scaled,) = Wav2Vec2FeatureExtractor()(wave[0], sampling_rate=16000)["input_values"]
    plain = build(EncoderSpec("wav2vec2_projector", str(tmp_path / "audio.pt"), parameters={"normalize": False}))
    expected = plain.encode([scaled[None]])[0].vectors
    np.testing.assert_allclose(encoder.encode([wave])[0].vectors, expected, atol=1e-4)


def test_window_below_one_frame_of_sound_is_not_valid(tmp_path: Path) -> None:
    encoding = build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path)))).encode([waves(1, 399)])[0]
    assert encoding.valid.tolist() == [False]


def test_long_text_is_cut_at_the_models_positions(tmp_path: Path) -> None:
    encoder = build(EncoderSpec("roberta_dense", str(save_text(tmp_path))))
    long = "happy " * 600
    kept = "happy " * 10 + "happy"  # 64 tokens of one character, begin and end among them, leave 62
    vectors = [e.vectors for e in encoder.encode([long, kept[:62]])]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


class FixedFaces:
    """A detector that finds the same faces in every frame."""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        box = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        self.faces = Faces(box, np.linspace(1, 0.9, len(box), dtype=np.float32), np.zeros((len(box), 5, 2), np.float32))

    def detect(self, frames: np.ndarray) -> list[Faces]:
        return [self.faces if frame.any() else NO_FACE for frame in frames]


SMALL, LARGE = (1.7, 2.0, 11.2, 12.9), (20.0, 10.0, 50.0, 60.0)


@pytest.mark.parametrize("policy", ["mean_all", "largest", "track"])
def test_all_faces_of_a_frame_are_averaged_into_one_input(policy: str) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    items = [clip(frame, np.zeros_like(frame), frame)]
    clips = detect_faces(FixedFaces(SMALL, LARGE), items, policy, BatchSize(8))
    (places, inputs) = next(frame_inputs(items, clips, preprocess, batch=8))
    small, large = preprocess(frame[2:12, 1:11]), preprocess(frame[10:60, 20:50])
    expected = {"mean_all": (small + large) / 2, "largest": large, "track": small}[policy]
    assert places == [(0, 0), (0, 2)]
    np.testing.assert_allclose(inputs[0], expected, atol=1e-4)
    np.testing.assert_allclose(inputs[1], expected, atol=1e-4)


def test_box_cut_to_nothing_at_the_border_is_no_face() -> None:
    frames = np.ones((2, 64, 80, 3), dtype=np.uint8)
    clips = detect_faces(FixedFaces((80, 5, 80, 20)), [frames], "mean_all", BatchSize(8))
    assert clips[0].valid.tolist() == [False, False]


def test_converted_checkpoint_gives_the_same_vectors(tmp_path: Path) -> None:
    published = save_audio(tmp_path, old_weight_norm(seeded_state("audio_wav2vec2_tiny")))
    converted = convert(published, tmp_path / "audio.safetensors").path
    one, other = (
        build(EncoderSpec("wav2vec2_projector", str(path))).encode([waves(1, 16000)])[0].vectors
        for path in (published, converted)
    )
    np.testing.assert_array_equal(one, other)

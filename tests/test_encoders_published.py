"""The published method's encoders, from small random checkpoints in the published formats."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints import convert
from models.encoders import Encoder, EncoderSpec, Encoding, registered
from models.errors import ModelError
from models.face_inputs import find_faces, frame_inputs
from models.faces import NO_FACE, Faces
from models.resnet_affectnet import preprocess
from models.retinaface import make_network
from tests.tiny_models import (
    SENTENCES,
    audio_config,
    old_weight_norm,
    photograph,
    save_audio,
    save_roberta,
    save_text,
    save_tokenizer,
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


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def build(spec: EncoderSpec) -> Encoder:
    return registered(spec.kind).build(spec, "cpu")


def identity(spec: EncoderSpec) -> dict:
    return registered(spec.kind).identity(spec)


def cache_hub_model(cache: Path, hub_id: str, commit: str, make: Callable[[Path], object]) -> None:
    """Lay a model out as the hub's cache holds it."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    make(folder / "snapshots" / commit)


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


def test_values_do_not_depend_on_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's default on a GPU would round convolutions to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    build(EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path))))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_face_values_do_not_depend_on_the_batch(face_encoder: Encoder) -> None:
    items = [clip(np.roll(photograph(), 4 * i, axis=1)) for i in range(4)]
    items += [clip(np.zeros((128, 96, 3), dtype=np.uint8))] * 4
    together = face_encoder.encode(items)
    assert [bool(e.valid[0]) for e in together] == [True] * 4 + [False] * 4
    # Random weights give values in the hundreds (see test_reference_encoders): the tolerance is relative to them.
    scale = max(float(np.abs(e.vectors).max()) for e in together)
    assert largest_difference(together, [face_encoder.encode([item])[0] for item in items]) < 1e-5 * scale


# ---- identity


@pytest.fixture
def specs(tmp_path: Path, face_checkpoint: str) -> dict[str, EncoderSpec]:
    return {
        "resnet50_affectnet": EncoderSpec("resnet50_affectnet", face_checkpoint, parameters=MTCNN),
        "wav2vec2_projector": EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path / "audio"))),
        "roberta_dense": EncoderSpec("roberta_dense", str(save_text(tmp_path / "text"))),
    }


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("resnet50_affectnet", {"faces": "largest"}),
        ("resnet50_affectnet", {"threshold": 0.9}),
        ("resnet50_affectnet", {"min_face": 20}),
        ("wav2vec2_projector", {"normalize": True}),
        ("roberta_dense", {"max_tokens": 128}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_identity_changes_with_a_parameter_that_can_change_values(kind: str, change: dict, specs: dict) -> None:
    spec = specs[kind]
    assert identity(replace(spec, parameters={**spec.parameters, **change})) != identity(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_identity_fills_defaults_in(kind: str, specs: dict) -> None:
    module = {"resnet50_affectnet": {"faces": "mean_all", "threshold": 0.8}, "wav2vec2_projector": {"normalize": False}}
    spec = specs[kind]
    spelled_out = {**spec.parameters, **module.get(kind, {"max_tokens": 512})}
    assert identity(replace(spec, parameters=spelled_out)) == identity(spec)


@pytest.mark.parametrize("kind", ["wav2vec2_projector", "roberta_dense"])
def test_identity_knows_contents_and_no_path(kind: str, specs: dict, tmp_path: Path) -> None:
    spec = specs[kind]
    before = identity(spec)
    moved = tmp_path / "elsewhere"
    shutil.copytree(Path(str(spec.checkpoint)).parent, moved)
    copy = moved / Path(str(spec.checkpoint)).name
    assert identity(replace(spec, checkpoint=str(copy))) == before
    assert str(tmp_path) not in json.dumps(before)
    state = torch.load(copy, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, copy)
    assert identity(replace(spec, checkpoint=str(copy))) != before


def test_identity_knows_the_configuration_and_the_tokenizer(specs: dict) -> None:
    spec = specs["roberta_dense"]
    folder, before = Path(str(spec.checkpoint)).parent, identity(specs["roberta_dense"])
    (folder / "config.json").write_text(json.dumps({**text_config(), "layer_norm_eps": 1e-3}))
    other_config = identity(spec)
    save_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "add_prefix_space": True}))
    assert len({json.dumps(i, sort_keys=True) for i in (before, other_config, identity(spec))}) == 3


def test_identity_knows_the_detector_checkpoint(face_checkpoint: str, tmp_path: Path) -> None:
    spec = EncoderSpec(
        "resnet50_affectnet", face_checkpoint, parameters={"detector_checkpoint": str(tmp_path / "r.pth")}
    )
    (tmp_path / "r.pth").write_bytes(b"one")
    one = identity(spec)
    (tmp_path / "r.pth").write_bytes(b"another")
    assert identity(spec) != one
    assert "detector_checkpoint" not in one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["layer", "pooling"])
def test_published_encoders_have_no_choice_of_layer_or_pooling(kind: str, name: str, specs: dict) -> None:
    with pytest.raises(ModelError, match=f"has no choice of {name}"):
        identity(replace(specs[kind], **{name: {"layer": 1, "pooling": "mean"}[name]}))


def test_unknown_parameter_is_named(specs: dict) -> None:
    with pytest.raises(ModelError, match="did you mean 'normalize'"):
        identity(replace(specs["wav2vec2_projector"], parameters={"normalise": True}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"faces": "loudest"}, "unknown face policy 'loudest': known: largest, track, mean_all"),
        ({"detector": "haar"}, "unknown face detector 'haar': known: mtcnn, retinaface"),
        (
            {"detector": "retinaface"},
            "detector 'retinaface' has no weights: put the ResNet-50 RetinaFace checkpoint at",
        ),
    ],
    ids=["policy", "detector", "detector_weights"],
)
def test_face_parameters_are_checked_before_anything_is_built(change: dict, sentence: str, specs: dict) -> None:
    spec = specs["resnet50_affectnet"]
    with pytest.raises(ModelError) as caught:
        identity(replace(spec, parameters={**spec.parameters, **change}))
    assert sentence in str(caught.value)


# ---- where weights come from


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [identity, build], ids=["identity", "build"])
def test_missing_weights_are_one_sentence(kind: str, use: Callable, offline: Path) -> None:
    spec = EncoderSpec(kind, "checkpoints/model.pt", hub_id="merloco-tests/absent", parameters={})
    with pytest.raises(ModelError) as caught:
        use(replace(spec, parameters=MTCNN) if kind == "resnet50_affectnet" else spec)
    sentence = str(caught.value)
    assert sentence.startswith(f"encoder kind '{kind}' has no weights: put them at 'checkpoints/model.pt'; ")
    assert "hub model 'merloco-tests/absent' could not be reached" in sentence
    assert "\n" not in sentence


def test_without_checkpoint_and_hub_id_the_sentence_asks_for_either(offline: Path) -> None:
    with pytest.raises(ModelError, match="name a file or folder on disk, or name a hub_id"):
        identity(EncoderSpec("wav2vec2_projector"))


def hub_audio(folder: Path) -> None:
    """The hub's layout: weights as pytorch_model.bin, normalisation asked for."""
    save_audio(folder, old_weight_norm(seeded_state("audio_wav2vec2_tiny")), "pytorch_model.bin")
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))


def test_cached_hub_model_is_used_where_the_checkpoint_is_absent(
    offline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit = "0123456789" * 4
    cache_hub_model(offline, "merloco-tests/audio", commit, hub_audio)
    spec = EncoderSpec("wav2vec2_projector", str(tmp_path / "absent.pt"), "merloco-tests/audio")
    assert identity(spec) | {"hub_id": "merloco-tests/audio", "revision": commit} == identity(spec)
    loud, quiet = waves(1, 64000), 0.5 * waves(1, 64000)
    one, other = build(spec).encode([loud, quiet])
    assert "absent.pt is not there: taking the weights of hub model merloco-tests/audio" in caplog.text
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-3)


def test_checkpoint_on_disk_goes_before_the_hub(offline: Path, tmp_path: Path) -> None:
    cache_hub_model(offline, "merloco-tests/before", "a" * 40, hub_audio)
    spec = EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path / "own")), "merloco-tests/before")
    assert identity(spec) == identity(replace(spec, hub_id=None))


def test_text_checkpoint_without_tokenizer_takes_the_hub_models(offline: Path, tmp_path: Path) -> None:
    cache_hub_model(offline, "merloco-tests/text", "b" * 40, save_roberta)
    checkpoint = save_text(tmp_path / "own")
    with_own = build(EncoderSpec("roberta_dense", str(checkpoint))).encode(["hello world"])[0].vectors
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint.parent / name).unlink()
    spec = EncoderSpec("roberta_dense", str(checkpoint), "merloco-tests/text")
    assert identity(spec)["tokenizer"] == {"hub_id": "merloco-tests/text", "revision": "b" * 40}
    np.testing.assert_array_equal(build(spec).encode(["hello world"])[0].vectors, with_own)
    with pytest.raises(ModelError, match="no tokenizer beside it"):
        identity(replace(spec, hub_id=None))


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = save_text(tmp_path, {**seeded_state("text_roberta_tiny")})
    small = {**text_config(), "vocab_size": 20}
    (tmp_path / "config.json").write_text(json.dumps(small))
    state = torch.load(checkpoint, weights_only=True)
    name = "roberta.embeddings.word_embeddings.weight"
    torch.save({**state, name: state[name][:20]}, checkpoint)
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens, the network 20"):
        build(EncoderSpec("roberta_dense", str(checkpoint)))


def test_config_of_another_model_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text(json.dumps(text_config()))
    spec = EncoderSpec(
        "wav2vec2_projector", str(save_audio(tmp_path / "a")), parameters={"config": str(tmp_path / "text.json")}
    )
    with pytest.raises(ModelError, match="model_type is 'roberta', expected 'wav2vec2'"):
        identity(spec)


def test_configs_beside_other_checkpoints_are_left_alone(tmp_path: Path) -> None:
    """One folder for all checkpoints: the config.json in it is the text model's."""
    save_text(tmp_path)
    (tmp_path / "audio.json").write_text(json.dumps(audio_config()))
    torch.save(seeded_state("audio_wav2vec2_tiny"), tmp_path / "audio.pt")
    spec = EncoderSpec(
        "wav2vec2_projector", str(tmp_path / "audio.pt"), parameters={"config": str(tmp_path / "audio.json")}
    )
    assert build(spec).dim == 256
    assert identity(replace(spec, parameters={}))["config"] == "published"


# ---- the method's own rules


def test_windows_are_scaled_where_the_checkpoints_preprocessor_says_so(tmp_path: Path) -> None:
    checkpoint = save_audio(tmp_path)
    spec = EncoderSpec("wav2vec2_projector", str(checkpoint))
    as_it_is = build(spec).encode([waves(1, 16000)])[0].vectors
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    scaled = build(spec).encode([waves(1, 16000)])[0].vectors
    assert identity(spec)["normalize"] is True
    assert np.abs(scaled - as_it_is).max() > 1e-3
    overruled = build(replace(spec, parameters={"normalize": False})).encode([waves(1, 16000)])[0].vectors
    np.testing.assert_array_equal(overruled, as_it_is)


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
    clips = find_faces(FixedFaces(SMALL, LARGE), items, policy)
    (places, inputs) = next(frame_inputs(items, clips, preprocess, batch=8))
    small, large = preprocess(frame[2:12, 1:11]), preprocess(frame[10:60, 20:50])
    expected = {"mean_all": (small + large) / 2, "largest": large, "track": small}[policy]
    assert places == [(0, 0), (0, 2)]
    np.testing.assert_allclose(inputs[0], expected, atol=1e-4)
    np.testing.assert_allclose(inputs[1], expected, atol=1e-4)


def test_box_cut_to_nothing_at_the_border_is_no_face() -> None:
    frames = np.ones((2, 64, 80, 3), dtype=np.uint8)
    clips = find_faces(FixedFaces((80, 5, 80, 20)), [frames], "mean_all")
    assert clips[0].valid.tolist() == [False, False]


def test_converted_checkpoint_gives_the_same_vectors(tmp_path: Path) -> None:
    published = save_audio(tmp_path, old_weight_norm(seeded_state("audio_wav2vec2_tiny")))
    converted = convert(published, tmp_path / "audio.safetensors").path
    one, other = (
        build(EncoderSpec("wav2vec2_projector", str(path))).encode([waves(1, 16000)])[0].vectors
        for path in (published, converted)
    )
    np.testing.assert_array_equal(one, other)

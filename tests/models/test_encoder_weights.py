"""Identity of the published encoders, and where their weights come from."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merloco.models.encoders.base import Encoder, EncoderSpec, registered
from merloco.models.errors import ModelError
from tests.helpers.tiny_models import (
    audio_config,
    old_weight_norm,
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


def build(spec: EncoderSpec) -> Encoder:
    return registered(spec.kind).build(spec, "cpu")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def identity(spec: EncoderSpec) -> dict:
    return registered(spec.kind).identity(spec)


def cache_hub_model(cache: Path, hub_id: str, commit: str, make: Callable[[Path], object]) -> None:
    """Lay a model out as the hub's cache holds it."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    make(folder / "snapshots" / commit)


# ---- identity


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, EncoderSpec]:
    (tmp_path / "face.pt").write_bytes(b"an identity reads the bytes and builds nothing")
    return {
        "resnet50_affectnet": EncoderSpec("resnet50_affectnet", str(tmp_path / "face.pt"), parameters=MTCNN),
        "wav2vec2_projector": EncoderSpec("wav2vec2_projector", str(save_audio(tmp_path / "audio"))),
        "roberta_dense": EncoderSpec("roberta_dense", str(save_text(tmp_path / "text"))),
    }


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("resnet50_affectnet", {"faces": "largest"}),
        ("resnet50_affectnet", {"threshold": 0.9}),
        ("resnet50_affectnet", {"min_face": 20}),
        ("wav2vec2_projector", {"normalize": False}),
        ("roberta_dense", {"max_tokens": 128}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_identity_changes_with_a_parameter_that_can_change_values(kind: str, change: dict, specs: dict) -> None:
    spec = specs[kind]
    assert identity(replace(spec, parameters={**spec.parameters, **change})) != identity(spec)


@pytest.mark.parametrize("kind", KINDS)
def test_identity_fills_defaults_in(kind: str, specs: dict) -> None:
    module = {"resnet50_affectnet": {"faces": "mean_all", "threshold": 0.8}, "wav2vec2_projector": {"normalize": True}}
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


def test_identity_knows_the_detector_checkpoint(specs: dict, tmp_path: Path) -> None:
    spec = replace(specs["resnet50_affectnet"], parameters={"detector_checkpoint": str(tmp_path / "r.pth")})
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

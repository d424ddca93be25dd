"""Generic Hugging Face encoders and torchaudio bundles, on tiny random models."""

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
    CONV_KERNEL,
    CONV_STRIDE,
    SENTENCES,
    photograph,
    save_resnet,
    save_roberta,
    save_speech,
    save_vit,
    save_whisper,
    waves,
)

MAKERS: dict[str, Callable[[Path], Path]] = {
    "wav2vec2_group": lambda folder: save_speech(folder, "wav2vec2", "group"),
    "wav2vec2_layer": lambda folder: save_speech(folder, "wav2vec2", "layer"),
    "hubert": lambda folder: save_speech(folder, "hubert"),
    "wavlm": lambda folder: save_speech(folder, "wavlm"),
    "whisper": save_whisper,
    "vit": save_vit,
    "resnet": save_resnet,
    "roberta": save_roberta,
}
SPEECH = ("wav2vec2_group", "wav2vec2_layer", "hubert", "wavlm", "whisper")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("hf")
    return {name: str(make(root / name)) for name, make in MAKERS.items()}


def build(spec: EncoderSpec) -> Encoder:
    return registered(spec.kind).build(spec, "cpu")


def identity(spec: EncoderSpec) -> dict:
    return registered(spec.kind).identity(spec)


def audio(folders: dict, name: str = "wav2vec2_group", **more) -> EncoderSpec:
    return EncoderSpec("hf_audio", folders[name], **more)


def vision(folders: dict, name: str = "vit", faces: str = "none", **more) -> EncoderSpec:
    return EncoderSpec("hf_vision", folders[name], parameters={"faces": faces}, **more)


def text(folders: dict, **more) -> EncoderSpec:
    return EncoderSpec("hf_text", folders["roberta"], **more)


def assert_same(encoder: Encoder, items: list) -> None:
    together = encoder.encode(items)
    assert len(together) == len(items)
    for item, encoding in zip(items, together, strict=True):
        np.testing.assert_allclose(encoding.vectors, encoder.encode([item])[0].vectors, rtol=0, atol=1e-4)


# ---- values do not depend on the batch


@pytest.mark.parametrize("name", SPEECH)
def test_speech_values_do_not_depend_on_the_batch(name: str, folders: dict) -> None:
    encoder = build(audio(folders, name))
    assert_same(encoder, [waves(2, 8000 + 800 * (i % 3), seed=i) for i in range(8)])
    assert encoder.dim == 32


@pytest.mark.parametrize("pooling", ["mean", "first", "max"])
def test_text_values_do_not_depend_on_the_batch(pooling: str, folders: dict) -> None:
    assert_same(build(text(folders, pooling=pooling)), ["", "a", *SENTENCES])


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_picture_values_do_not_depend_on_the_batch(name: str, folders: dict) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (1 + i % 3, 40, 60, 3), dtype=np.uint8) for i in range(8)]
    assert_same(build(vision(folders, name)), clips)


# ---- what the values are


@pytest.mark.parametrize("pooling", ["mean", "first", "max"])
@pytest.mark.parametrize("layer", [None, 0, 1, -1])
def test_layer_and_pooling_select_what_the_model_computes(layer: int | None, pooling: str, folders: dict) -> None:
    from transformers import AutoModel, AutoTokenizer

    ours = build(text(folders, layer=layer, pooling=pooling)).encode(["what a surprise"])[0].vectors[0]
    model = AutoModel.from_pretrained(folders["roberta"]).eval()
    tokens = AutoTokenizer.from_pretrained(folders["roberta"])("what a surprise", return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens, output_hidden_states=True)
    hidden = (states.last_hidden_state if layer is None else states.hidden_states[layer])[0].numpy()
    expected = {"mean": hidden.mean(axis=0), "first": hidden[0], "max": hidden.max(axis=0)}[pooling]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_whisper_pools_only_the_positions_that_hold_sound(folders: dict) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    wave = waves(1, 16000)
    ours = build(audio(folders, "whisper")).encode([wave])[0].vectors
    features = WhisperFeatureExtractor.from_pretrained(folders["whisper"])(
        wave[0], sampling_rate=16000, return_tensors="pt"
    ).input_features
    model = WhisperModel.from_pretrained(folders["whisper"]).eval()
    with torch.inference_mode():
        hidden = model.encoder(features).last_hidden_state[0].numpy()
    assert len(hidden) == 1500
    np.testing.assert_allclose(ours[0], hidden[:50].mean(axis=0), atol=1e-4)


def test_whisper_refuses_a_window_longer_than_it_hears(folders: dict) -> None:
    with pytest.raises(ModelError, match=r"a window of 31.0 s: .* at most 30 s: set `window`"):
        build(audio(folders, "whisper")).encode([waves(1, 31 * 16000)])


def test_windows_are_scaled_as_the_feature_extractor_says(folders: dict) -> None:
    encoder = build(audio(folders))
    loud, quiet = encoder.encode([waves(1, 16000), 0.5 * waves(1, 16000)])
    np.testing.assert_allclose(loud.vectors, quiet.vectors, atol=1e-3)


def test_window_below_one_frame_of_sound_is_not_valid(folders: dict) -> None:
    encodings = build(audio(folders)).encode([waves(2, 399), waves(1, 400)])
    assert [e.valid.tolist() for e in encodings] == [[False, False], [True]]


def test_faces_are_cut_out_before_encoding(folders: dict) -> None:
    face, blank = photograph(), np.zeros((256, 256, 3), dtype=np.uint8)
    items = [np.stack([face, blank])]
    whole = build(vision(folders)).encode(items)[0]
    largest = build(vision(folders, faces="largest")).encode(items)[0]
    mean_all = build(vision(folders, faces="mean_all")).encode(items)[0]
    assert whole.valid.tolist() == [True, True] and not whole.extras
    assert largest.valid.tolist() == mean_all.valid.tolist() == [True, False]
    assert np.abs(whole.vectors[0] - largest.vectors[0]).max() > 1e-3
    np.testing.assert_allclose(largest.vectors[0], mean_all.vectors[0], atol=1e-5)  # one face: the same either way
    assert largest.extras["chosen"].tolist() == [[True], [False]]


def test_narrow_pictures_keep_their_channels_last(folders: dict) -> None:
    encodings = build(vision(folders)).encode([np.full((1, 3, 5, 3), 100, dtype=np.uint8)])
    assert encodings[0].vectors.shape == (1, 32)


def test_weights_are_float32_whatever_the_file_holds(folders: dict, tmp_path: Path) -> None:
    from transformers import AutoModel

    shutil.copytree(folders["roberta"], tmp_path / "half")
    AutoModel.from_pretrained(folders["roberta"], dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    vectors = build(EncoderSpec("hf_text", str(tmp_path / "half"))).encode(["hello world"])[0].vectors
    assert np.abs(vectors - build(text(folders)).encode(["hello world"])[0].vectors).max() < 0.05
    assert not np.array_equal(vectors, torch.from_numpy(vectors).bfloat16().float().numpy())


# ---- identity


@pytest.mark.parametrize(
    "change",
    [{"layer": 1}, {"layer": -1}, {"pooling": "max"}, {"pooling": "cls"}, {"parameters": {"max_tokens": 64}}],
    ids=["layer", "negative_layer", "max", "cls", "max_tokens"],
)
def test_identity_changes_with_what_can_change_values(change: dict, folders: dict) -> None:
    assert identity(replace(text(folders), **change)) != identity(text(folders))


def test_identity_of_pictures_changes_with_the_face_policy(folders: dict) -> None:
    about = [identity(vision(folders, faces=faces)) for faces in ("none", "largest", "mean_all", "track")]
    assert len({json.dumps(one, sort_keys=True) for one in about}) == 4


def test_threshold_is_no_part_of_whole_frames(folders: dict) -> None:
    whole = vision(folders)
    assert identity(replace(whole, parameters={"faces": "none", "threshold": 0.5})) == identity(whole)


def test_identity_knows_contents_and_no_path(folders: dict, tmp_path: Path) -> None:
    shutil.copytree(folders["wav2vec2_group"], tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("a model card changes no value")
    copy = EncoderSpec("hf_audio", str(tmp_path / "copy"))
    assert identity(copy) == identity(audio(folders))
    settings = json.loads((tmp_path / "copy" / "preprocessor_config.json").read_text())
    (tmp_path / "copy" / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": False}))
    assert identity(copy) != identity(audio(folders))


# ---- a user's mistakes


@pytest.mark.parametrize("layer", [3, -4])
def test_layer_that_the_model_has_not_got(layer: int, folders: dict) -> None:
    with pytest.raises(ModelError, match=rf"layer {layer}: .*hidden states 0 to 2, or -3 to -1"):
        build(text(folders, layer=layer))


def test_unknown_pooling_lists_the_known(folders: dict) -> None:
    with pytest.raises(ModelError, match="unknown pooling 'median': known: cls, mean, first, max"):
        identity(text(folders, pooling="median"))


def test_sample_rate_of_another_model_is_refused(folders: dict) -> None:
    with pytest.raises(ModelError, match="the model expects 16000 Hz, parameter sample_rate is 8000"):
        build(audio(folders, parameters={"sample_rate": 8000}))


def test_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"model.pt' is no model folder"):
        build(EncoderSpec("hf_text", str(tmp_path / "model.pt")))


def test_folder_without_weights_is_named(folders: dict, tmp_path: Path) -> None:
    shutil.copytree(folders["roberta"], tmp_path / "empty", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match=r"holds no weights: expected model\.safetensors"):
        identity(EncoderSpec("hf_text", str(tmp_path / "empty")))


def test_weights_that_do_not_fit_their_config_are_refused(folders: dict, tmp_path: Path) -> None:
    shutil.copytree(folders["roberta"], tmp_path / "deep")
    settings = json.loads((tmp_path / "deep" / "config.json").read_text())
    (tmp_path / "deep" / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"weights are missing: encoder\.layer\.2"):
        build(EncoderSpec("hf_text", str(tmp_path / "deep")))


def test_model_that_brings_its_own_code_is_refused(folders: dict, tmp_path: Path) -> None:
    shutil.copytree(folders["roberta"], tmp_path / "own")
    settings = json.loads((tmp_path / "own" / "config.json").read_text())
    own = {**settings, "model_type": "own", "auto_map": {"AutoModel": "own.Own", "AutoConfig": "own.Config"}}
    (tmp_path / "own" / "config.json").write_text(json.dumps(own))
    (tmp_path / "own" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        build(EncoderSpec("hf_text", str(tmp_path / "own")))
    assert not (tmp_path / "ran").exists()


def test_hub_model_is_pinned_to_its_commit(folders: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit, cached = "c" * 40, tmp_path / "models--merloco-tests--roberta"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "v1").write_text(commit)
    shutil.copytree(folders["roberta"], cached / "snapshots" / commit)
    spec = EncoderSpec("hf_text", hub_id="merloco-tests/roberta", revision="v1")
    assert identity(spec)["revision"] == commit
    np.testing.assert_array_equal(
        build(spec).encode(["hello"])[0].vectors, build(text(folders)).encode(["hello"])[0].vectors
    )
    with pytest.raises(ModelError, match="could not be reached"):
        identity(replace(spec, revision="v2"))


# ---- torchaudio bundles


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderSpec:
    """A bundle with a tiny network, and its weight file."""
    import torchaudio

    kernels = zip(CONV_KERNEL, CONV_STRIDE, strict=True)
    sizes = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": [(16, kernel, stride) for kernel, stride in kernels],
        "extractor_conv_bias": False,
        "encoder_embed_dim": 32,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 2,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 64,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": False,
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    torch.manual_seed(0)
    tiny = torchaudio.pipelines.Wav2Vec2Bundle("tiny.pth", sizes, 16000, False, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", tiny, raising=False)
    torch.save(torchaudio.models.wav2vec2_model(**sizes).state_dict(), tmp_path / "tiny.pth")
    return EncoderSpec("torchaudio_bundle", str(tmp_path / "tiny.pth"), parameters={"bundle": "TINY"})


def test_bundle_values_do_not_depend_on_the_batch(bundle: EncoderSpec) -> None:
    encoder = build(bundle)
    assert encoder.dim == 32
    assert_same(encoder, [waves(2, 8000 + 800 * (i % 3), seed=i) for i in range(8)])


def test_bundle_layers_count_from_one_and_from_the_end(bundle: EncoderSpec) -> None:
    wave = [waves(1, 8000)]
    last, second, first = (build(replace(bundle, layer=layer)).encode(wave)[0].vectors for layer in (None, 2, -2))
    np.testing.assert_array_equal(last, second)
    np.testing.assert_array_equal(first, build(replace(bundle, layer=1)).encode(wave)[0].vectors)
    assert not np.allclose(first, last)
    for layer in (0, 3, -3):
        with pytest.raises(ModelError, match=f"layer {layer}: the bundle has layers 1 to 2"):
            build(replace(bundle, layer=layer))


def test_bundle_identity_changes_with_what_can_change_values(bundle: EncoderSpec) -> None:
    changes = ({}, {"layer": 1}, {"pooling": "max"}, {"parameters": {"bundle": "HUBERT_BASE"}}, {"checkpoint": None})
    about = [json.dumps(identity(replace(bundle, **change)), sort_keys=True) for change in changes]
    assert len(set(about)) == len(changes)
    assert str(bundle.checkpoint) not in about[0]


def test_bundle_mistakes_are_named(bundle: EncoderSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown torchaudio bundle 'WAV2VEC3': known: .*WAV2VEC2_BASE"):
        build(replace(bundle, parameters={"bundle": "WAV2VEC3"}))
    with pytest.raises(ModelError, match="has no weights: put the bundle's file at"):
        identity(replace(bundle, checkpoint=str(tmp_path / "absent.pth")))
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="not the weights of bundle TINY"):
        build(replace(bundle, checkpoint=str(tmp_path / "other.pth")))

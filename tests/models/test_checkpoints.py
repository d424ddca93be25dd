"""Published state dicts load as they are, and misfits say what does not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from merloco.models.checkpoints.convert import convert
from merloco.models.checkpoints.state_dict import load_state_dict
from merloco.models.encoders.published.wav2vec2 import load_wav2vec2
from merloco.models.errors import ModelError
from tests.helpers.tiny_models import audio_config, old_weight_norm, save_audio, save_text, seeded_state

WEIGHT_NORM = "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return seeded_state("audio_wav2vec2_tiny")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        old_weight_norm,
        lambda s: {f"module.{key}": tensor for key, tensor in s.items()},
        lambda s: {"epoch": 3, "state_dict": s},
        lambda s: {"epoch": 3, "optimizer": {"lr": 1e-4}, "model_state_dict": s},
        lambda s: {"state_dict": {f"module.{key}": tensor for key, tensor in old_weight_norm(s).items()}},
    ],
    ids=["plain", "weight_g", "module", "state_dict", "model_state_dict", "all_together"],
)
def test_every_way_of_saving_gives_the_same_weights(wrap, state, tmp_path: Path) -> None:
    torch.save(wrap(state), tmp_path / "audio.pth")
    assert same(load_state_dict(tmp_path / "audio.pth"), state)


@pytest.mark.parametrize("classes", [6, 7])
def test_heads_of_six_and_of_seven_classes(classes: int, state, tmp_path: Path) -> None:
    heads = {"classifier.weight": torch.zeros(classes, 256), "classifier.bias": torch.zeros(classes)}
    path = save_audio(tmp_path, {**state, **heads})
    assert load_wav2vec2(path, audio_config()).classifier.out_features == classes


def test_misshaped_head_is_named_with_both_shapes(state, tmp_path: Path) -> None:
    path = save_audio(tmp_path, {**state, "classifier.weight": torch.zeros(7, 255)})
    with pytest.raises(ModelError, match=r"misshaped: classifier.weight is \(7, 255\), expected \(7, 256\)"):
        load_wav2vec2(path, audio_config())


def test_missing_and_unexpected_keys_are_named(state, tmp_path: Path) -> None:
    renamed = {key.replace("projector.", "projection."): tensor for key, tensor in state.items()}
    path = save_audio(tmp_path, renamed)
    with pytest.raises(ModelError) as caught:
        load_wav2vec2(path, audio_config())
    assert "missing: projector.bias, projector.weight" in str(caught.value)
    assert "unexpected: projection.bias, projection.weight" in str(caught.value)


def test_many_missing_keys_are_counted(state, tmp_path: Path) -> None:
    path = save_audio(tmp_path, {key: tensor for key, tensor in state.items() if "encoder.layers.0." not in key})
    with pytest.raises(ModelError, match="and 11 more"):
        load_wav2vec2(path, audio_config())


def test_values_that_play_no_part_may_be_there_or_not(tmp_path: Path) -> None:
    state = {
        key: tensor for key, tensor in seeded_state("face_resnet50").items() if not key.endswith("num_batches_tracked")
    }
    torch.save({**state, "position_ids": torch.zeros(1)}, tmp_path / "face.pt")
    from merloco.models.encoders.published.resnet import load_resnet

    assert load_resnet(tmp_path / "face.pt").fc2.out_features == 7


class Payload:
    """What a pickled model would be: an object that runs on loading."""

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_pickled_object_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "ran"), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="expected named tensors only") as caught:
        load_state_dict(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value), "torch's advice to switch the protection off"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_file_is_one_sentence(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"model{suffix}").write_bytes(content)
    with pytest.raises(ModelError, match="not a readable state dict") as caught:
        load_state_dict(tmp_path / f"model{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, [torch.zeros(1)], {"epoch": 3, "lr": 0.1}], ids=["empty", "list", "numbers"])
def test_content_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="state dict"):
        load_state_dict(tmp_path / "model.pt")


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent.pt' not found"):
        load_state_dict(tmp_path / "absent.pt")


# ---- conversion


def test_conversion_keeps_every_tensor_and_reports(state, tmp_path: Path) -> None:
    path = save_audio(tmp_path, {f"module.{key}": tensor for key, tensor in old_weight_norm(state).items()})
    done = convert(path, tmp_path / "out" / "audio.safetensors")
    assert same(load_file(done.path), state)
    assert (done.kind, done.tensors, done.classes) == ("wav2vec2_projector", len(state), 7)
    assert done.parameters == sum(tensor.numel() for tensor in state.values())
    assert WEIGHT_NORM in load_file(done.path)


def test_conversion_gives_the_same_bytes_again_and_leaves_nothing_else(state, tmp_path: Path) -> None:
    path = save_audio(tmp_path / "in", state)
    first = convert(path, tmp_path / "out" / "a.safetensors")
    second = convert(path, tmp_path / "out" / "b.safetensors")
    assert first.sha256 == second.sha256
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    ("network", "kind"), [("face_resnet50", "resnet50_affectnet"), ("fusion_64", "fusion"), ("fusion_128", "fusion")]
)
def test_published_networks_are_recognised_by_their_keys(network: str, kind: str, tmp_path: Path) -> None:
    torch.save(seeded_state(network), tmp_path / "model.pt")
    done = convert(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert (done.kind, done.classes) == (kind, 7)


def test_text_checkpoint_converts_with_its_config_beside_it(tmp_path: Path) -> None:
    assert convert(save_text(tmp_path), tmp_path / "text.safetensors").kind == "roberta_dense"


def test_audio_of_another_size_without_its_config_does_not_convert(state, tmp_path: Path) -> None:
    path = save_audio(tmp_path, state)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="misshaped"):
        convert(path, tmp_path / "audio.safetensors")
    assert not (tmp_path / "audio.safetensors").exists()


def test_conversion_of_another_network_says_what_was_expected(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"not a published checkpoint: .*projector.weight.* got encoder.weight"):
        convert(tmp_path / "other.pt", tmp_path / "other.safetensors")


def test_conversion_wants_a_safetensors_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a file name that ends with .safetensors"):
        convert(tmp_path / "model.pt", tmp_path / "model.pt")

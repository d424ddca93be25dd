"""The fusion network: any one to three modalities, missing ones masked, gates as published and as drawn."""

import numpy as np
import pytest
import torch

from merloco.models.errors import ModelError
from merloco.models.fusion.gated import FusionNet

DIMS = {"audio": 6, "video": 8, "text": 4}
SUBSETS = [("audio",), ("text", "video"), ("audio", "text"), ("audio", "video", "text")]


def features(n: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(n, d, generator=generator) for m, d in DIMS.items()}


def network(modalities: tuple[str, ...], gate: str = "softmax") -> FusionNet:
    torch.manual_seed(1)
    return FusionNet({m: DIMS[m] for m in modalities}, 3, 7, gate).eval()


@pytest.mark.parametrize("modalities", SUBSETS)
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_any_subset_classifies(modalities: tuple[str, ...], gate: str) -> None:
    logits = network(modalities, gate)(features())
    assert logits.shape == (5, 7) and torch.isfinite(logits).all()


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_the_fusion_is_the_papers_formula(gate: str) -> None:
    net, rows = network(("audio", "text"), gate), features()
    w = {name: weight.detach().numpy() for name, weight in net.named_parameters()}
    f = {m: rows[m].numpy() @ w[f"fc_{m}.weight"].T + w[f"fc_{m}.bias"] for m in ("audio", "text")}
    scores = np.concatenate([f["text"], f["audio"]], axis=1) @ w["gal_ta.WF"]
    z = np.exp(scores) / np.exp(scores).sum(1, keepdims=True) if gate == "softmax" else 1 / (1 + np.exp(-scores))
    out = z * np.tanh(f["text"] @ w["gal_ta.WF1"]) + (1 - z) * np.tanh(f["audio"] @ w["gal_ta.WF2"])
    hidden = np.maximum(out, 0) @ w["fc_avt.weight"].T + w["fc_avt.bias"]
    logits = net(rows)
    assert np.allclose(logits.detach(), hidden @ w["classifier.weight"].T + w["classifier.bias"], atol=1e-5)


@pytest.mark.parametrize("modalities", SUBSETS)
def test_all_present_equals_no_mask(modalities: tuple[str, ...]) -> None:
    net, rows = network(modalities), features()
    everything = {m: torch.ones(5, dtype=torch.bool) for m in modalities}
    assert torch.allclose(net(rows), net(rows, everything), atol=1e-6)


@pytest.mark.parametrize("missing", list(DIMS))
def test_a_missing_modality_cannot_be_seen(missing: str) -> None:
    net, rows, other = network(tuple(DIMS)), features(), features(seed=9)
    present = {m: torch.full((5,), m != missing) for m in DIMS}
    changed = rows | {missing: other[missing]}
    kept = next(m for m in DIMS if m != missing)
    assert torch.allclose(net(rows, present), net(changed, present), atol=1e-6)
    assert not torch.allclose(net(rows, present), net(rows | {kept: other[kept]}, present), atol=1e-3)


def test_a_row_does_not_depend_on_its_batch() -> None:
    net, rows = network(tuple(DIMS)), features(8)
    alone = torch.cat([net({m: f[i : i + 1] for m, f in rows.items()}) for i in range(8)])
    assert torch.allclose(net(rows), alone, atol=1e-5)


@pytest.mark.parametrize(("dims", "gate"), [({}, "softmax"), ({"smell": 3}, "softmax"), ({"text": 3}, "tanh")])
def test_wrong_settings_are_one_sentence(dims: dict[str, int], gate: str) -> None:
    with pytest.raises(ModelError, match=r"expected one to three|known: softmax, sigmoid"):
        FusionNet(dims, 3, 7, gate)

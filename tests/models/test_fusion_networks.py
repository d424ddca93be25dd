"""Fusion networks by name: each learns, heeds its masks, and gives the same alone, in a stack and from its weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.networks.base import BUILTIN, register_fusion, registered_fusion
from merloco.models.fusion.networks.module import stackable
from merloco.models.fusion.prediction import build_network, predict
from merloco.models.fusion.spec import RunResult, TrainConfig
from merloco.models.fusion.trainer import STACK, train_run, train_runs
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, DIMS, planted

FOLD = Fold(("a", "b"), ("c",))
SHORT = replace(CONFIG, epochs=5, dropout=0.2)


def trained(data: Dataset, config: TrainConfig, seed: int = 0) -> RunResult:
    return train_run(data, run_spec(data, FOLD, config, seed))


def without(data: Dataset, modality: str, every: int = 2) -> Dataset:
    """The same rows, each `every`th of them without a modality, as a store has it: zeros and a mask."""
    there = np.arange(len(data.label)) % every != 0
    features = {**data.features, modality: data.features[modality] * there[:, None]}
    return replace(data, features=features, present={**data.present, modality: there})


@pytest.mark.parametrize("fusion", sorted(BUILTIN))
@pytest.mark.parametrize("modalities", [tuple(DIMS), ("text",), ("audio", "text")], ids="+".join)
def test_every_network_finds_what_is_planted(fusion: str, modalities: tuple[str, ...]) -> None:
    data = planted().select_modalities(modalities)
    result = trained(data, replace(CONFIG, fusion=fusion, modalities=modalities))
    assert max(row["val_uar"] for row in result.history) > 0.8


@pytest.mark.parametrize("fusion", sorted(BUILTIN))
def test_what_lies_behind_a_mask_counts_nowhere(fusion: str) -> None:
    data = without(planted(300), "audio")
    config = replace(SHORT, fusion=fusion)
    result = trained(data, config)
    dirty = data.features["audio"] + np.float32(7) * ~data.present["audio"][:, None]
    other = replace(data, features={**data.features, "audio": dirty})
    again = trained(other, config)
    assert all(np.array_equal(result.weights[name], again.weights[name]) for name in result.weights)
    rows = np.arange(60)
    assert np.array_equal(predict(result, data, rows), predict(result, other, rows))


@pytest.mark.parametrize("fusion", ["attention", "gated", "late", "lmf"])
def test_a_missing_modality_is_as_if_there_were_none(fusion: str) -> None:
    """Not so `concat_mlp` and `logistic`, for which it is the mean."""
    data = planted(300)
    result = trained(data, replace(SHORT, fusion=fusion))
    rows = np.arange(40)
    left = predict(result, data, rows, leave_out=("audio", "video"))
    zeros = {m: np.zeros_like(data.features[m]) for m in ("audio", "video")}
    lacking = {m: np.zeros(len(data.label), bool) for m in ("audio", "video")}
    alone = replace(data, features={**data.features, **zeros}, present={**data.present, **lacking})
    assert np.allclose(left, predict(result, alone, rows), atol=1e-6)
    assert not np.allclose(left, predict(result, data, rows), atol=1e-3)
    nothing = predict(result, data, rows, leave_out=tuple(DIMS))
    assert np.isfinite(nothing).all() and np.allclose(nothing, nothing[0], atol=1e-6)


@pytest.mark.parametrize("fusion", sorted(set(BUILTIN) - {"logistic"}))
@pytest.mark.parametrize("complete", [True, False], ids=["complete", "with gaps"])
def test_a_stack_gives_what_a_run_gives_alone(monkeypatch: pytest.MonkeyPatch, fusion: str, complete: bool) -> None:
    data = planted(300) if complete else without(planted(300), "video", 3)
    specs = [run_spec(data, FOLD, replace(SHORT, fusion=fusion, patience=p), seed) for seed, p in ((0, 1), (1, 5))]
    alone = [train_run(data, spec) for spec in specs]
    monkeypatch.setitem(STACK, "cpu", 10)
    together = sorted(train_runs([(data, spec) for spec in specs]), key=lambda result: result.position)
    for one, other in zip(alone, together, strict=True):
        assert set(one.weights) == set(other.weights) and one.best_epoch == other.best_epoch
        for name, weight in one.weights.items():
            assert np.allclose(weight, other.weights[name], atol=1e-4), name


@pytest.mark.parametrize("fusion", sorted(BUILTIN))
def test_the_same_run_has_the_same_weights_whoever_trains_beside_it(fusion: str) -> None:
    data = planted(300)
    config = replace(SHORT, fusion=fusion)
    alone = trained(data, config)
    specs = [run_spec(data, FOLD, config, seed) for seed in (3, 0, 5)]
    beside = next(r for r in train_runs([(data, spec) for spec in specs]) if r.spec.seed == 0)
    assert all(np.array_equal(alone.weights[name], beside.weights[name]) for name in alone.weights)


@pytest.mark.parametrize("fusion", ["concat_mlp", "logistic", "late"])
def test_several_labels_at_once(fusion: str) -> None:
    data = planted(300)
    result = trained(data, replace(CONFIG, fusion=fusion, task="multi", epochs=30))
    assert max(row["val_uar"] for row in result.history) > 0.8


def test_logistic_is_scikit_learns_own() -> None:
    from sklearn.linear_model import LogisticRegression

    data = planted(300, signal=("audio", "text"))
    result = trained(data, replace(CONFIG, fusion="logistic", fusion_options={"C": 0.5}))
    rows = result.spec.train_rows
    stacked = np.hstack([data.features[m] for m in DIMS])
    mean, std = stacked[rows].mean(axis=0), stacked[rows].std(axis=0)
    model = LogisticRegression(C=0.5, class_weight="balanced", max_iter=500, tol=1e-3)
    model.fit((stacked[rows] - mean) / std, data.label[rows])
    test = np.flatnonzero(data.corpus == "c")
    expected = model.predict_proba((stacked[test] - mean) / std)
    assert np.allclose(predict(result, data, test), expected, atol=2e-3)


def test_a_class_that_no_training_row_shows_is_never_said() -> None:
    data = planted(300)
    data.label[data.label == 2] = 1
    result = trained(data, replace(CONFIG, fusion="logistic"))
    assert predict(result, data, np.arange(100))[:, 2].max() < 1e-6


class Plain(torch.nn.Module):
    """A user's network with torch's own dropout."""

    def __init__(self, dims: dict[str, int], classes: int, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(sum(dims.values()), width), torch.nn.Dropout(0.3), torch.nn.Linear(width, classes)
        )

    def forward(self, features: dict[str, torch.Tensor], present: Any) -> torch.Tensor:
        return self.layers(torch.cat(list(features.values()), dim=-1))


def plain(dims: dict[str, int], classes: int, width: int) -> torch.nn.Module:
    return Plain(dims, classes, width)


plain.options = {"width": 12}  # type: ignore[attr-defined]


def test_a_network_of_ones_own_with_torchs_own_dropout_is_repeatable() -> None:
    register_fusion("plain")(plain)
    plain_one, late, gated = (replace(SHORT, fusion=name) for name in ("plain", "late", "gated"))
    assert not stackable(plain_one) and stackable(late) and stackable(gated)
    data = planted(300)
    config = replace(SHORT, fusion="plain")
    one = trained(data, config)
    specs = [run_spec(data, FOLD, config, seed) for seed in (1, 0, 2)]
    before = torch.random.get_rng_state()
    results = {r.spec.seed: r for r in train_runs([(data, spec) for spec in specs])}
    assert torch.equal(before, torch.random.get_rng_state()), "the process's own random numbers are the user's"
    assert all(np.array_equal(one.weights[name], results[0].weights[name]) for name in one.weights)
    assert not np.array_equal(one.weights["layers.0.weight"], results[1].weights["layers.0.weight"])
    rows = np.arange(30)
    assert np.array_equal(predict(one, data, rows), predict(results[0], data, rows))


def test_options_reach_the_network_and_shared_settings_have_one_name() -> None:
    network = build_network(planted(30), replace(CONFIG, fusion="late", fusion_options={"hidden": 3}, dropout=0.4))
    assert network.hidden["text"].out_features == 3 and network.dropout == 0.4
    assert build_network(planted(30), replace(CONFIG, fusion="gated")).fc_avt.out_features == CONFIG.gated_dim


def test_an_unknown_network_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="unknown fusion 'lat': did you mean 'late'"):
        registered_fusion("lat")
    with pytest.raises(ModelError, match=r"fusion 'late' is .*networks.late's already"):
        register_fusion("late")(Plain)
    with pytest.raises(ModelError, match="a width of 10 with 4 heads"):
        build_network(planted(30), replace(CONFIG, fusion="attention", fusion_options={"width": 10}))

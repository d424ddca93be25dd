"""Training that leaves the finite numbers has no result: it says which run, when and where, and spoils no other run."""

from dataclasses import replace

import numpy as np
import pytest

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.divergence import DivergedError
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.trainer import STACK, train_run, train_runs
from merloco.models.metrics.evaluation import evaluate
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, planted

SHORT = replace(CONFIG, epochs=3)


def run_of(data: Dataset, seed: int = 0, **settings: object) -> RunSpec:
    return run_spec(data, Fold(("a", "b"), ("c",)), replace(SHORT, **settings), seed)


def with_value(data: Dataset, modality: str, row: int, value: float) -> Dataset:
    matrix = data.features[modality].copy()
    matrix[row, 1] = value
    return replace(data, features={**data.features, modality: matrix})


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("standardize", [True, False])
def test_one_feature_that_is_not_finite_is_named(value: float, standardize: bool) -> None:
    data = planted(n=120)
    spec = run_of(data, standardize=standardize)
    ill = with_value(data, "video", int(spec.train_rows[5]), value)
    with pytest.raises(DivergedError, match=r"'a\+b -> c, seed 0' diverged in epoch 1: the video features of 1 rows"):
        train_run(ill, spec)


def test_a_value_of_a_row_that_lacks_the_modality_does_no_harm() -> None:
    data = planted(n=120)
    spec = run_of(data)
    row = int(spec.train_rows[5])
    present = data.present["video"].copy()
    present[row] = False
    lacking = replace(data, present={**data.present, "video": present})
    same = train_run(with_value(lacking, "video", row, 7.0), spec).weights
    assert all(np.array_equal(same[name], weight) for name, weight in train_run(lacking, spec).weights.items())


def test_features_too_large_for_float32_products_name_their_modality() -> None:
    data = planted(n=120)
    spec = run_of(data, standardize=False)
    ill = with_value(data, "text", int(spec.train_rows[5]), 3e38)
    with pytest.raises(DivergedError, match=r"seed 0' diverged in epoch 1: the loss is not finite \(text\)"):
        train_run(ill, spec)


def test_a_learning_rate_too_high_is_said_at_the_first_epoch() -> None:
    data = planted(n=120)
    with pytest.raises(DivergedError, match=r"diverged in epoch 1: .*\(audio, video, text\).* than 1e\+30"):
        train_run(data, run_of(data, learning_rate=1e30))


def test_weights_that_left_in_the_last_step_of_an_epoch_are_found() -> None:
    data = planted(n=120)
    spec = run_of(data, learning_rate=1e39, batch_size=1000, dropout=0.0)
    with pytest.raises(DivergedError, match="epoch 1: weights are not finite"):
        train_run(data, spec)


@pytest.mark.parametrize("most", [1, 10])
def test_the_other_runs_of_a_sweep_are_trained_as_if_alone(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setitem(STACK, "cpu", most)
    data = planted(n=120)
    specs = [run_of(data, 0), run_of(data, 1, learning_rate=1e30), run_of(data, 2), run_of(data, 3, learning_rate=1e30)]
    found: list[RunResult] = []
    with pytest.raises(
        DivergedError, match=r"seed [13]' diverged in epoch 1: .*; 1 more runs diverged: run .* seed [13]'"
    ):
        for result in train_runs([(data, spec) for spec in specs]):
            found.append(result)
    assert sorted(result.position for result in found) == [0, 2]
    for result in found:
        alone = train_run(data, result.spec)
        assert all(np.allclose(weight, alone.weights[name], atol=1e-4) for name, weight in result.weights.items())


def test_test_rows_with_such_features_are_not_given_a_class() -> None:
    data = planted(n=120)
    result = train_run(data, run_of(data))
    row = int(data.rows(("c",), "test")[0])
    with pytest.raises(DivergedError, match="the audio features of 1 rows are not finite, first of 'x/"):
        evaluate(with_value(data, "audio", row, np.nan), result, "c", "test")

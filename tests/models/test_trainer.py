"""Training and leave-one-corpus-out: deterministic, blind to test rows, honest about what it cannot score."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merloco.models.errors import ModelError
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.prediction import contributions, predict
from merloco.models.fusion.trainer import train_run
from merloco.models.metrics.evaluation import evaluate
from merloco.models.protocols import Fold, loco_folds, run_spec
from tests.helpers.training import CONFIG, planted


def test_the_same_spec_gives_the_same_weights_and_another_seed_others() -> None:
    data = planted()
    spec = run_spec(data, Fold(("a", "b"), ("c",)), replace(CONFIG, epochs=3), seed=1)
    one, same, other = (train_run(data, s) for s in (spec, spec, replace(spec, seed=2)))
    assert all(np.array_equal(one.weights[name], same.weights[name]) for name in one.weights)
    assert not np.array_equal(one.weights["classifier.weight"], other.weights["classifier.weight"])


def test_leave_one_corpus_out_learns_a_shared_cue() -> None:
    data = planted()
    for fold in loco_folds(["a", "b", "c"]):
        found = evaluate(data, train_run(data, run_spec(data, fold, CONFIG, 0)), fold.test[0], "test")
        assert found.scores["uar"] > 0.8 > found.majority["uar"]


def test_shuffled_labels_score_at_chance() -> None:
    data = planted(n=900)
    shuffled = replace(data, label=np.random.default_rng(5).permutation(data.label), mask=np.ones((900, 3), bool))
    found = [
        evaluate(shuffled, train_run(shuffled, run_spec(shuffled, fold, CONFIG, 0)), fold.test[0], "test").scores["uar"]
        for fold in loco_folds(["a", "b", "c"])
    ]
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.1)


def test_a_fold_uses_no_row_of_the_held_out_corpus_and_no_test_row() -> None:
    data = planted()
    spec = run_spec(data, Fold(("a", "b"), ("c",)), CONFIG, 0)
    used = np.concatenate([spec.train_rows, spec.val_rows])
    assert set(data.corpus[used]) == {"a", "b"} and "test" not in set(data.split[used])


def test_test_rows_do_not_change_what_is_learnt() -> None:
    data = planted()
    spec = run_spec(data, Fold(("a", "b"), ("c",)), replace(CONFIG, epochs=3), 0)
    hidden = {
        m: np.where((data.split == "test")[:, None], 99.0, f).astype(np.float32) for m, f in data.features.items()
    }
    one, other = train_run(data, spec), train_run(replace(data, features=hidden), spec)
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_early_stopping_keeps_the_best_epoch() -> None:
    data = planted()
    result = train_run(data, run_spec(data, Fold(("a", "b"), ("c",)), CONFIG, 0))
    uars = [row["val_uar"] for row in result.history]
    assert result.best_epoch == int(np.argmax(uars)) + 1
    # As published: training ends after the first epoch in which `patience` is exceeded.
    assert len(uars) == min(result.best_epoch + CONFIG.patience + 1, CONFIG.epochs)


def test_weights_begin_as_published() -> None:
    network = FusionNet({"audio": 512, "video": 1024, "text": 768}, 128, 7, generator=torch.Generator().manual_seed(0))
    for name, weight in network.named_parameters():
        if name.endswith("bias"):
            bound = 1 / np.sqrt(dict(network.named_parameters())[name.replace("bias", "weight")].shape[1])
        else:
            bound = np.sqrt(6 / sum(weight.shape))  # Xavier-uniform
        assert float(weight.abs().max()) <= bound + 1e-6, name
        if weight.numel() > 5000:
            assert float(weight.std()) == pytest.approx(bound / np.sqrt(3), rel=0.03), name


@pytest.mark.parametrize("modalities", [("text",), ("audio", "text"), ("audio", "video", "text")])
def test_rows_without_a_modality_train_and_predict(modalities: tuple[str, ...]) -> None:
    data = planted(signal=("text", "audio"))
    present = {m: p.copy() for m, p in data.present.items()}
    present["audio"][np.random.default_rng(2).random(len(data.label)) < 0.5] = False
    holes = replace(data, present=present)
    config = replace(CONFIG, modalities=modalities)
    found = evaluate(holes, train_run(holes, run_spec(holes, Fold(("a", "b"), ("c",)), config, 0)), "c", "test")
    assert found.scores["uar"] > 0.7
    if "audio" in modalities:
        assert found.coverage["audio"] == pytest.approx(0.5, abs=0.2)


def test_taking_the_only_telling_modality_away_hurts() -> None:
    data = planted(signal=("text",))
    result = train_run(data, run_spec(data, Fold(("a",), ("a",)), CONFIG, 0))
    rows = data.rows(("a",), "test")
    accuracy = {
        m: (predict(result, data, rows, nullify=[m]).argmax(1) == data.label[rows]).mean() for m in ("text", "video")
    }
    assert accuracy["video"] > accuracy["text"] + 0.25


def test_plain_and_balanced_loss_differ_on_imbalanced_rows() -> None:
    data = planted(n=900, signal=("text",))
    rare = data.label == 2
    keep = ~rare | (np.random.default_rng(3).random(900) < 0.25)
    label = np.where(keep, data.label, -1)
    noisy = {m: f + np.random.default_rng(1).normal(0, 4, f.shape).astype(np.float32) for m, f in data.features.items()}
    thin = replace(data, label=label, features=noisy)
    recall = {}
    for loss in ("balanced", "plain"):
        config = replace(CONFIG, loss=loss, modalities=("text",))
        found = evaluate(thin, train_run(thin, run_spec(thin, Fold(("a", "b"), ("a",)), config, 0)), "a", "test")
        recall[loss] = found.recall["sad"]
    assert recall["balanced"] > recall["plain"]


def test_nothing_to_train_on_is_one_sentence() -> None:
    data = planted()
    with pytest.raises(ModelError, match="no training rows"):
        train_run(data, run_spec(data, Fold(("nowhere",), ("a",)), CONFIG, 0))
    with pytest.raises(ModelError, match="two corpora or more"):
        loco_folds(["a"])


def test_the_telling_modality_adds_most_and_a_silent_one_nothing() -> None:
    data = planted(signal=("text",))
    result = train_run(data, run_spec(data, Fold(("a",), ("a",)), CONFIG, 0))
    rows = data.rows(("a",), "test")
    probabilities = predict(result, data, rows)
    found = np.nanmean(contributions(result, data, rows, probabilities, probabilities.argmax(axis=1)), axis=0)
    added = dict(zip(result.spec.config.modalities, found, strict=True))
    assert added["text"] > 0.1 and all(added["text"] > 3 * abs(v) for m, v in added.items() if m != "text")


def test_it_is_the_fall_of_the_class_without_the_modality() -> None:
    data = planted()
    result = train_run(data, run_spec(data, Fold(("a",), ("a",)), CONFIG, 0))
    rows = data.rows(("a",), "test")
    probabilities = predict(result, data, rows)
    chosen = probabilities.argmax(axis=1)
    found = contributions(result, data, rows, probabilities, chosen)
    for column, modality in enumerate(result.spec.config.modalities):
        blind = replace(data, present=data.present | {modality: np.zeros(len(data.label), dtype=bool)})
        place = np.arange(len(rows)), chosen
        fall = predict(result, data, rows)[place] - predict(result, blind, rows)[place]
        there = ~np.isnan(found[:, column])
        np.testing.assert_allclose(found[there, column], fall[there], atol=1e-6)


def test_a_modality_that_is_absent_or_alone_has_none() -> None:
    data = planted()
    result = train_run(data, run_spec(data, Fold(("a",), ("a",)), CONFIG, 0))
    rows = data.rows(("a",), "test")[:4]
    present = {m: there.copy() for m, there in data.present.items()}
    first, *others = result.spec.config.modalities
    for modality in others:
        present[modality][rows[0]] = False  # one modality alone
    present[first][rows[1]] = False
    partial = replace(data, present=present)
    found = contributions(result, partial, rows, predict(result, partial, rows), np.zeros(4, dtype=np.int64))
    assert np.isnan(found[0]).all() and np.isnan(found[1, 0]) and not np.isnan(found[1, 1:]).any()

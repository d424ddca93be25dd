"""The trainer of fine-tuning: what it learns, what it validates on, when it stops, and how it goes on."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from merloco.flows.finetune.snapshots import read_snapshot, write_snapshot
from merloco.models.encoders.base import EncoderSpec
from merloco.models.errors import ModelError
from merloco.models.finetune.loop import Finetuned, finetune, resumed
from merloco.models.finetune.run import FinetuneConfig, Snapshot, TrainingUnits, seeded
from merloco.models.finetune.trainable import Trainable
from merloco.pipelines.errors import DataError

CLASSES = ("neutral", "happy", "sad")
ALL = np.ones(3, dtype=bool)
CONFIG = FinetuneConfig(learning_rate=1e-2, epochs=6, patience=6, batch_size=8, seed=3)


class Points(Trainable):
    """A small network over points of the plane, with dropout: its weights depend on every random draw."""

    def __init__(self) -> None:
        with seeded(0, "cpu"):
            self.head = nn.Linear(16, 3)
            self.network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.2), self.head)
        self.cutting = {}

    def cut(self, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        return [list(value) for value in values]

    def logits(self, prepared: list[Any]) -> Tensor:
        return self.network(torch.from_numpy(np.stack(prepared)))

    def save(self, folder: Path) -> EncoderSpec:
        raise AssertionError("the trainer writes nothing")


def points(utterances: int, seed: int) -> TrainingUnits:
    """Utterances of one to three units around their class's corner."""
    generator = np.random.default_rng(seed)
    corners = np.array([[0, 1], [1, -1], [-1, -1]], dtype=np.float32)
    label = np.arange(utterances) % 3
    sample_index = np.repeat(np.arange(utterances), 1 + np.arange(utterances) % 3)
    units = corners[label[sample_index]] + 0.4 * generator.standard_normal((len(sample_index), 2)).astype(np.float32)
    return TrainingUnits(list(units.astype(np.float32)), sample_index, label)


TRAIN, VAL = points(40, 1), points(15, 2)


def run(
    config: FinetuneConfig = CONFIG, resume: Snapshot | None = None, val: TrainingUnits = VAL
) -> tuple[Finetuned, dict[str, Tensor], list[Snapshot]]:
    trainable, kept = Points(), []
    result = finetune(trainable, TRAIN, val, CLASSES, ALL, config, resume=resume, keep=kept.append)
    return result, trainable.network.state_dict(), kept


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_and_keeps_the_best_epoch() -> None:
    result, weights, kept = run(replace(CONFIG, epochs=12))
    assert result.uar_after == 1.0 > result.uar_before
    scores = [row["val_uar"] for row in result.history]
    assert scores[result.best_epoch] == max(scores[1:]) and result.best_epoch == 1 + int(np.argmax(scores[1:]))
    best = {
        n.removeprefix("model."): t for n, t in kept[result.best_epoch - 1].tensors.items() if n.startswith("model.")
    }
    assert same(weights, best)


def test_it_stops_when_validation_no_longer_improves() -> None:
    result = run(replace(CONFIG, epochs=100, patience=3))[0]
    assert len(result.history) - 1 == result.best_epoch + 3


@pytest.mark.parametrize("after", [1, 3, 5, 6])
def test_a_training_that_goes_on_ends_with_the_same_weights(after: int, tmp_path: Path) -> None:
    result, weights, kept = run()
    write_snapshot(tmp_path / "training.safetensors", kept[after - 1], {"seed": 3})
    torch.manual_seed(99)  # whatever else was drawn in the process plays no part
    np.random.seed(99)
    again, other, later = run(resume=read_snapshot(tmp_path / "training.safetensors", {"seed": 3}))
    assert same(weights, other)
    assert again.history == result.history and again.best_epoch == result.best_epoch
    assert len(later) == CONFIG.epochs - after


def test_another_seed_gives_other_weights() -> None:
    assert not same(run()[1], run(replace(CONFIG, seed=4))[1])


def test_it_leaves_the_generators_of_the_process_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    run()
    assert (torch.rand(1), np.random.random()) == expected


def test_an_utterance_is_scored_by_the_mean_of_its_units() -> None:
    """Two weak votes for one class and one strong vote for another: the mean decides, not the majority."""
    trainable = Points()
    with torch.no_grad():
        trainable.network[0].weight.copy_(torch.eye(16, 2))
        trainable.network[0].bias.zero_()
        trainable.head.weight.zero_()
        trainable.head.weight[1, 0], trainable.head.weight[2, 1] = 4.0, 4.0
        trainable.head.bias.copy_(torch.tensor([-9.0, 0.0, 0.0]))
    weak, strong = np.array([0.1, 0.0], np.float32), np.array([0.0, 2.0], np.float32)
    val = TrainingUnits([weak, weak, strong, weak], np.array([0, 0, 0, 1]), np.array([2, 1]))
    result = finetune(trainable, TRAIN, val, CLASSES, ALL, replace(CONFIG, epochs=1))
    assert result.uar_before == 1.0


def test_classes_that_the_corpus_does_not_annotate_are_never_predicted() -> None:
    trainable = Points()
    with torch.no_grad():
        trainable.head.weight.zero_()
        trainable.head.bias.copy_(torch.tensor([9.0, 1.0, 0.0]))
    val = TrainingUnits(VAL.units[:1], np.array([0]), np.array([1]))
    result = finetune(trainable, TRAIN, val, CLASSES, np.array([False, True, True]), replace(CONFIG, epochs=1))
    assert result.uar_before == 1.0


def test_a_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    many = TrainingUnits([np.zeros(2, np.float32)] * 20, np.arange(20), np.array([0] * 18 + [1] * 2))
    trainable = Points()
    config = replace(CONFIG, epochs=60, patience=60, batch_size=20)
    finetune(trainable, many, many, CLASSES, ALL, config)
    trainable.network.eval()
    probability = torch.softmax(trainable.logits([np.zeros(2, np.float32)]), -1)[0].detach()
    assert float(probability[0]) == pytest.approx(float(probability[1]), abs=0.1)


def test_nothing_to_learn_from_and_divergence_are_one_sentence() -> None:
    nothing = TrainingUnits([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(ModelError, match="no validation utterance has a label"):
        run(val=nothing)
    broken = replace(TRAIN, units=[np.full(2, np.nan, np.float32)] * len(TRAIN.units))
    with pytest.raises(ModelError, match="training diverged in epoch 1: lower the learning rate"):
        finetune(Points(), broken, VAL, CLASSES, ALL, CONFIG)


# ---- snapshots on disk


def settings(config: FinetuneConfig) -> dict[str, Any]:
    return {"corpus": "meld", "settings": asdict(config)}


def test_a_snapshot_of_other_settings_is_discarded_with_a_word(tmp_path: Path) -> None:
    path, said = tmp_path / "training.safetensors", []
    write_snapshot(path, run(replace(CONFIG, epochs=1))[2][0], settings(CONFIG))
    assert read_snapshot(path, settings(replace(CONFIG, seed=4, learning_rate=0.5, epochs=9)), said.append) is None
    assert read_snapshot(path, {**settings(CONFIG), "corpus": "afew"}, said.append) is None
    assert said == [
        "a snapshot of 1 epochs is discarded, and training begins anew: it was made with other settings (learning_rate "
        "0.01, now 0.5; seed 3, now 4)",
        "a snapshot of 1 epochs is discarded, and training begins anew: it was made with other corpus",
    ]
    assert read_snapshot(tmp_path / "none.safetensors", settings(CONFIG), said.append) is None and len(said) == 2


@pytest.mark.parametrize("stop", [{"epochs": 9}, {"epochs": 4}, {"patience": 2}, {"epochs": 30, "patience": 1}])
@pytest.mark.parametrize("after", [2, 4, 6])
def test_with_other_epochs_or_patience_it_goes_on_where_that_gives_the_same_weights(
    stop: dict[str, int], after: int, tmp_path: Path
) -> None:
    path, said = tmp_path / "training.safetensors", []
    write_snapshot(path, run()[2][after - 1], settings(CONFIG))
    wanted = replace(CONFIG, **stop)
    snapshot = read_snapshot(path, settings(wanted), said.append)
    result, weights, trained = run(wanted, resume=snapshot)
    afresh = run(wanted)
    assert result.history == afresh[0].history and same(weights, afresh[1])
    if snapshot is None:
        assert len(said) == 1 and "the weights of its best epoch come after" in said[0]
    else:
        assert not said and len(trained) == max(0, len(result.history) - 1 - after)


def test_some_snapshots_of_more_epochs_are_used_and_some_are_not(tmp_path: Path) -> None:
    history = [{"epoch": n, "val_uar": uar} for n, uar in enumerate((0.1, 0.5, 0.7, 0.6, 0.6, 0.9))]
    assert resumed(history, epochs=30, patience=5) == history
    assert resumed(history[:5], epochs=3, patience=5) == history[:4]
    assert resumed(history, epochs=3, patience=5) is None
    assert resumed(history[:5], epochs=30, patience=1) == history[:4]


class Edge(Points):
    """The loss is finite and its gradient is not: that of a square root at 0."""

    def logits(self, prepared: list[Any]) -> Tensor:
        return super().logits(prepared) + (0 * self.network[0].weight).sqrt().sum()


def test_weights_that_left_the_finite_numbers_in_the_last_step_are_not_kept() -> None:
    with pytest.raises(ModelError, match="training diverged in epoch 1"):
        finetune(Edge(), TRAIN, VAL, CLASSES, ALL, replace(CONFIG, epochs=1, batch_size=1000))


def test_a_damaged_snapshot_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    write_snapshot(path, run(replace(CONFIG, epochs=1))[2][0], {})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="not a snapshot of a training"):
        read_snapshot(path, {})

"""Runs that train as one stack, as they do on a GPU, get what each gets alone to 1e-4, whatever they differ in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import ModelError
from models.fusion import FusionNet
from models.learner import Learner
from models.losses import Losses
from models.optimizers import OPTIMIZERS, SCHEDULES, StackOptimizer, learning_rate
from models.protocols import Fold, run_spec
from models.spec import RunResult
from models.stack import Stack
from models.step import Batch, Steps
from models.train import STACK, predict, train_run, train_runs
from tests.test_train import CONFIG, DIMS, planted

SHORT = replace(CONFIG, epochs=6, patience=2, dropout=0.1)
MULTI = replace(CONFIG, task="multi", epochs=25, patience=8)


def close(one: RunResult, other: RunResult, tolerance: float = 1e-4) -> bool:
    return set(one.weights) == set(other.weights) and all(
        np.allclose(one.weights[name], other.weights[name], atol=tolerance) for name in one.weights
    )


@pytest.fixture(autouse=True)
def stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU trains runs one by one; here it stacks them as a GPU does."""
    monkeypatch.setitem(STACK, "cpu", 10)


def test_a_stacked_run_equals_the_same_run_alone() -> None:
    data = planted()
    folds = (Fold(("a", "b"), ("c",)), Fold(("a",), ("c",)), Fold(("b", "c"), ("a",)))
    settings = (SHORT, replace(SHORT, loss="plain", learning_rate=1e-3, weight_decay=0.1), replace(SHORT, patience=1))
    specs = [run_spec(data, f, c, seed) for f, c in zip(folds, settings, strict=True) for seed in (0, 1)]
    together = {r.spec.name: r for r in train_runs([(data, spec) for spec in specs])}
    assert len({len(r.history) for r in together.values()}) > 1, "no run left the stack before another"
    for spec in specs:
        alone = train_run(data, spec)
        assert close(together[spec.name], alone)
        assert together[spec.name].best_epoch == alone.best_epoch
        assert np.allclose([h["loss"] for h in alone.history], [h["loss"] for h in together[spec.name].history])


def test_runs_on_other_features_of_equal_width_share_a_stack() -> None:
    one, other = planted(signal=("text",)), planted(signal=("audio",), seed=3)
    specs = [(d, run_spec(d, Fold(("a", "b"), ("c",)), SHORT, seed)) for seed, d in enumerate((one, other))]
    together = {result.spec.seed: result for result in train_runs(specs)}
    assert all(close(together[seed], train_run(*specs[seed])) for seed in (0, 1))


def test_rows_with_holes_train_alike_in_a_stack() -> None:
    data = planted()
    present = {m: np.random.default_rng(i).random(len(data.label)) < 0.7 for i, m in enumerate(DIMS)}
    holes = replace(data, present=present)
    specs = [run_spec(holes, Fold(("a", "b"), ("c",)), SHORT, seed) for seed in (0, 1)]
    together = {result.spec.seed: result for result in train_runs([(holes, spec) for spec in specs])}
    assert all(close(together[spec.seed], train_run(holes, spec)) for spec in specs)


def test_more_runs_than_a_stack_holds_all_come_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACK, "cpu", 3)
    data = planted(n=200)
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), replace(SHORT, epochs=1), seed) for seed in range(7)]
    assert sorted(result.spec.seed for result in train_runs([(data, spec) for spec in specs])) == list(range(7))


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_a_stack_optimizer_is_torchs_own(kind: str) -> None:
    torch.manual_seed(0)
    networks = [FusionNet(DIMS, 4, 3) for _ in range(3)]
    stack = Stack(networks, "cpu")
    optimizer = StackOptimizer(kind, stack)
    rates, decays = [1e-2, 1e-2, 3e-3], [0.1, 0.1, 0.0]
    make = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": lambda p, **settings: torch.optim.SGD(p, momentum=0.9, **settings),
    }[kind]
    own = [make(n.parameters(), lr=r, weight_decay=d) for n, r, d in zip(networks, rates, decays, strict=True)]
    for step in range(3):
        gradients = {name: torch.randn_like(weight) for name, weight in stack.weights.items()}
        for run, network in enumerate(networks):
            for name, gradient in stack.published({n: g[run] for n, g in gradients.items()}).items():
                network.get_parameter(name).grad = gradient.clone()
        optimizer.begin(step, rates, decays)
        for name, gradient in gradients.items():
            for start, runs in ((0, 2), (2, 1)):
                optimizer.update(0, (name,), slice(start, start + runs), [gradient[start : start + runs]])
        for each in own:
            each.step()
    for run, network in enumerate(networks):
        for name, weight in network.named_parameters():
            assert np.allclose(stack.arrays(run)[name], weight.detach(), atol=1e-6)


def test_lion_moves_by_its_rate_and_decays_decoupled() -> None:
    stack = Stack([FusionNet({"text": 4}, 4, 3)], "cpu")
    before = {name: weight.clone() for name, weight in stack.weights.items()}
    gradients = {name: torch.randn_like(weight) for name, weight in before.items()}
    optimizer = StackOptimizer("lion", stack)
    optimizer.begin(0, [1e-3], [0.1])
    optimizer.update(0, tuple(gradients), slice(0, 1), [gradient.clone() for gradient in gradients.values()])
    for name, weight in stack.weights.items():
        expected = before[name] * (1 - 1e-4) - 1e-3 * gradients[name].sign()
        assert torch.allclose(weight, expected, atol=1e-7)


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_learns(kind: str, schedule: str) -> None:
    data = planted()
    rate = {"sgd": 3e-2, "lion": 3e-3}.get(kind, 3e-3)
    config = replace(CONFIG, epochs=8, optimizer=kind, schedule=schedule, learning_rate=rate)
    result = train_run(data, run_spec(data, Fold(("a", "b"), ("c",)), config, 0))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert max(h["val_uar"] for h in result.history) > 0.6


def test_schedules() -> None:
    assert [learning_rate(1.0, "none", e) for e in (1, 50)] == [1.0, 1.0]
    assert [round(learning_rate(1.0, "cosine_restarts", e), 3) for e in (1, 6, 10, 11)] == [1.0, 0.5, 0.024, 1.0]
    assert [learning_rate(1.0, "step", e) for e in (1, 10, 11, 21)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    with pytest.raises(ModelError, match="known: none, cosine_restarts, step"):
        learning_rate(1.0, "nonsense", 1)
    with pytest.raises(ModelError, match="known: adam, adamw, sgd, lion"):
        StackOptimizer("nonsense", Stack([FusionNet({"text": 2}, 2, 2)], "cpu"))


def test_a_stack_gives_its_networks_back() -> None:
    for modalities in (("text",), ("video", "text"), ("audio", "video", "text")):
        networks = [FusionNet({m: DIMS[m] for m in modalities}, 4, 3) for _ in range(2)]
        stack = Stack(networks, "cpu")
        for run, network in enumerate(networks):
            found = stack.arrays(run)
            assert list(found) == list(network.state_dict())
            assert all(np.array_equal(found[name], weight) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("modalities", [("text",), ("video", "text"), ("audio", "video", "text")])
def test_a_stacks_gradients_are_autograds(gate: str, modalities: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    dims = {m: DIMS[m] for m in modalities}
    networks = [FusionNet(dims, 4, 3, gate, dropout=0.0) for _ in range(2)]
    stack = Stack(networks, "cpu")
    features = {m: torch.randn(2, 5, d) for m, d in dims.items()}
    present = {m: torch.rand(2, 5) < 0.7 for m in dims}
    found: dict[str, list[torch.Tensor]] = {}

    def collect(_: int, names: tuple[str, ...], __: slice, gradients: list[torch.Tensor]) -> None:
        for name, gradient in zip(names, gradients, strict=True):
            found.setdefault(name, []).extend(gradient.clone())

    squares = Batch(features.__getitem__, present, {}, lambda logits: (logits.square().sum((1, 2)), 2 * logits))
    Steps(stack, collect).learn([squares])
    for run, network in enumerate(networks):
        logits = network({m: f[run] for m, f in features.items()}, {m: p[run] for m, p in present.items()})
        logits.square().sum().backward()
        own = stack.published({name: gradients[run] for name, gradients in found.items()})
        for name, weight in network.named_parameters():
            assert torch.allclose(own[name], weight.grad, atol=1e-5), name


def test_products_in_bfloat16_learn_alike_from_float32_weights() -> None:
    data = planted()
    fold = Fold(("a", "b"), ("c",))
    exact, rough = (train_run(data, run_spec(data, fold, replace(SHORT, precision=p), 0)) for p in ("float32", "bf16"))
    assert all(weight.dtype == np.float32 for weight in rough.weights.values())
    assert not close(exact, rough, 1e-6) and close(exact, rough, 0.1)
    assert [h["loss"] for h in rough.history] == pytest.approx([h["loss"] for h in exact.history], abs=0.05)


def test_losses_are_torchs_own() -> None:
    data = planted()
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), replace(CONFIG, loss=loss), 0) for loss in ("balanced", "plain")]
    losses = Losses([(data, spec) for spec in specs], "cpu")
    rows = torch.from_numpy(specs[0].train_rows[:8])
    logits, label = torch.randn(2, 8, 3), torch.from_numpy(data.label)[rows].repeat(2, 1)
    target, mask = (torch.from_numpy(a)[rows].repeat(2, 1, 1) for a in (data.target, data.mask))
    counts = torch.ones(2, 8)
    counts[:, 6:] = 0
    found, slope = losses(logits, label, target, mask, counts)
    for run in (0, 1):
        own = logits[run, :6].clone().requires_grad_()
        expected = torch.nn.functional.cross_entropy(own, label[run, :6], weight=losses.weights[run])
        expected.backward()
        assert torch.allclose(found[run], expected, atol=1e-6)
        assert torch.allclose(slope[run, :6], own.grad, atol=1e-6) and not slope[run, 6:].any()


def test_multi_label_losses_are_torchs_own() -> None:
    data = planted()
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), replace(MULTI, loss=loss), 0) for loss in ("balanced", "plain")]
    losses = Losses([(data, spec) for spec in specs], "cpu")
    torch.manual_seed(0)
    logits, target, mask = torch.randn(2, 8, 3), torch.rand(2, 8, 3).round(), torch.rand(2, 8, 3) < 0.7
    counts = torch.ones(2, 8)
    counts[:, 6:] = 0
    found, slope = losses(logits, torch.zeros(2, 8, dtype=torch.int64), target, mask, counts)
    for run in (0, 1):
        own = logits[run, :6].clone().requires_grad_()
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            own, target[run, :6], pos_weight=losses.weights[run], reduction="none"
        )
        expected = each[mask[run, :6]].mean()
        expected.backward()
        assert torch.allclose(found[run], expected, atol=1e-6)
        assert torch.allclose(slope[run, :6], own.grad, atol=1e-6) and not slope[run, 6:].any()


def test_several_emotions_at_once_are_learnt_and_unannotated_classes_ignored() -> None:
    data = planted()
    target = data.target.copy()
    both = np.random.default_rng(4).random(len(target)) < 0.3
    target[both & (data.label == 1), 2] = 1
    poisoned = np.where(data.mask, target, 1.0).astype(np.float32)
    labels = replace(data, target=target)
    spec = run_spec(labels, Fold(("a", "c"), ("a",)), MULTI, 0)
    result = train_run(labels, spec)
    same = train_run(replace(labels, target=poisoned), spec)
    assert all(np.array_equal(result.weights[name], same.weights[name]) for name in result.weights)
    rows = labels.rows(("a",), "test", "multi")
    probabilities = predict(result, labels, rows)
    hit = ((probabilities > 0.5) == (target[rows] > 0)).mean()
    assert hit > 0.75 and (probabilities.sum(1) > 1.2).any()


def test_multi_label_rows_are_those_with_an_annotation() -> None:
    data = planted(n=24)
    label, mask = data.label.copy(), data.mask.copy()
    label[:6], mask[3:6] = -1, False
    holes = replace(data, label=label, mask=mask)
    every = np.concatenate([holes.rows(("a", "b", "c"), s, "multi") for s in ("train", "val", "test")])
    assert set(every.tolist()) == set(range(24)) - {3, 4, 5}


def test_a_learner_sees_every_row_once_an_epoch() -> None:
    data = planted(n=300)
    spec = run_spec(data, Fold(("a", "b"), ("c",)), replace(CONFIG, batch_size=32), 0)
    learner = Learner(0, data, spec, 0, "cpu")
    rows, counts = learner.take(learner.left)
    assert sorted(rows[counts > 0].tolist()) == spec.train_rows.tolist()
    assert learner.left == 0

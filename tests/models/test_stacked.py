"""Runs that train as one stack, as they do on a GPU, get what the plain loop gives to 1e-4."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from merloco.models.errors import ModelError
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.losses import FusionLoss
from merloco.models.fusion.optimizers import OPTIMIZERS, SCHEDULES, Optimizer, learning_rate
from merloco.models.fusion.prediction import build_network, predict
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.spec import RunResult
from merloco.models.fusion.stacked import SingleNetwork, StackedFusion
from merloco.models.fusion.trainer import STACK, train_module, train_run, train_runs
from merloco.models.parallel import parallel_for
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, DIMS, planted, weights_of

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


def test_the_plain_loop_gives_what_the_stack_gives() -> None:
    data = planted()
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), SHORT, seed) for seed in (0, 1)]
    together = {r.spec.seed: r for r in train_runs([(data, spec) for spec in specs])}
    for spec in specs:
        plain = train_module(build_network(data, spec.config, spec.seed), data, spec)
        assert close(together[spec.seed], plain)
        assert plain.best_epoch == together[spec.seed].best_epoch


def test_the_plain_loop_trains_any_module() -> None:
    class Concatenated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(sum(DIMS.values()), 3)

        def forward(self, features: dict, present: dict | None) -> torch.Tensor:
            return self.layer(torch.cat([features[m] for m in DIMS], dim=-1))

    data = planted()
    result = train_module(Concatenated(), data, run_spec(data, Fold(("a", "b"), ("c",)), CONFIG, 0))
    assert max(row["val_uar"] for row in result.history) > 0.8
    assert set(result.weights) >= {"layer.weight", "layer.bias", "scale.text.mean"}


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
def test_updates_are_torchs_own(kind: str) -> None:
    torch.manual_seed(0)
    network = FusionNet(DIMS, 4, 3)
    stack = StackedFusion([network, FusionNet(DIMS, 4, 3)], "cpu")
    config = replace(CONFIG, optimizer=kind, learning_rate=1e-2, weight_decay=0.1)
    optimizer = Optimizer(stack.parameters(), config)
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[kind]
    own = make(network.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        features = {m: torch.randn(2, 5, d) for m, d in DIMS.items()}
        logits, _ = stack(features, None, None)
        stack.backward(logits.square().sum(), optimizer.update)
        network.eval()({m: f[0] for m, f in features.items()}).square().sum().backward()
        own.step()
        own.zero_grad()
    for name, weight in network.named_parameters():
        assert np.allclose(weights_of(stack, 0)[name], weight.detach(), atol=1e-6)


def test_lion_moves_by_its_rate_and_decays_decoupled() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3))
    before, weight.grad = weight.detach().clone(), torch.randn(4, 3)
    moved = before * (1 - 1e-4) - 1e-3 * weight.grad.sign()
    Optimizer({"w": weight}, replace(CONFIG, optimizer="lion", learning_rate=1e-3, weight_decay=0.1)).update(["w"])
    assert torch.allclose(weight, moved, atol=1e-7) and weight.grad is None


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_and_schedule_learns(kind: str, schedule: str) -> None:
    data = planted()
    rate = {"sgd": 3e-1, "lion": 3e-3}.get(kind, 3e-3)
    config = replace(CONFIG, epochs=8, optimizer=kind, schedule=schedule, learning_rate=rate)
    result = train_run(data, run_spec(data, Fold(("a", "b"), ("c",)), config, 0))
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert max(h["val_uar"] for h in result.history) > 0.6


def test_schedules() -> None:
    assert [learning_rate(1.0, "none", b, 7) for b in (0, 350)] == [1.0, 1.0]
    with pytest.raises(ModelError, match="known: none, cosine_restarts, step"):
        learning_rate(1.0, "nonsense", 1, 7)
    with pytest.raises(ModelError, match="known: adam, adamw, sgd, lion"):
        Optimizer({}, replace(CONFIG, optimizer="nonsense"))


@pytest.mark.parametrize("schedule", ["cosine_restarts", "step"])
def test_schedules_are_torchs_own_as_the_published_code_steps_them(schedule: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = (
        torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=20)
        if schedule == "cosine_restarts"
        else torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    )
    batches = 4
    for epoch in range(240):
        for i in range(batches):
            expected = optimizer.param_groups[0]["lr"]
            assert learning_rate(1.0, schedule, epoch * batches + i, batches) == pytest.approx(expected, abs=1e-9)
            optimizer.step()
            if schedule == "cosine_restarts":
                torchs.step(epoch + i / batches)
        if schedule == "step":
            torchs.step()


def test_a_stack_gives_its_networks_back() -> None:
    for modalities in (("text",), ("video", "text"), ("audio", "video", "text")):
        networks = [FusionNet({m: DIMS[m] for m in modalities}, 4, 3) for _ in range(2)]
        stack = StackedFusion(networks, "cpu")
        for run, network in enumerate(networks):
            found = weights_of(stack, run)
            assert list(found) == list(network.state_dict())
            assert all(np.array_equal(found[name], weight) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("cores", [0, 1, 2])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("modalities", [("text",), ("video", "text"), ("audio", "video", "text")])
def test_a_stack_learns_what_plain_networks_learn(gate: str, modalities: tuple[str, ...], cores: int) -> None:
    torch.manual_seed(0)
    dims = {m: DIMS[m] for m in modalities}
    networks = [FusionNet(dims, 4, 3, gate, dropout=0.0) for _ in range(2)]
    features = {m: torch.randn(2, 5, d) for m, d in dims.items()}
    present = {m: torch.rand(2, 5) < 0.7 for m in dims}
    with parallel_for(dims, cores) if cores else nullcontext() as each:
        stack = StackedFusion(networks, "cpu", parallel_for=each)
        optimizer = Optimizer(stack.parameters(), CONFIG)
        logits, _ = stack(features, present, None)
        stack.backward(logits.square().sum(), optimizer.update)
    for run, network in enumerate(networks):
        plain = SingleNetwork(network)
        optimizer = Optimizer(plain.parameters(), CONFIG)
        own = {m: f[run : run + 1] for m, f in features.items()}, {m: p[run : run + 1] for m, p in present.items()}
        alone, _ = plain(*own, None)
        plain.backward(alone.square().sum(), optimizer.update)
        assert torch.allclose(logits[run], alone[0], atol=1e-5)
        found, expected = weights_of(stack, run), weights_of(plain, 0)
        assert all(np.allclose(found[name], weight, atol=1e-4) for name, weight in expected.items())


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
    losses = FusionLoss([(data, spec) for spec in specs], "cpu")
    rows = torch.from_numpy(specs[0].train_rows[:8])
    logits, label = torch.randn(2, 8, 3), torch.from_numpy(data.label)[rows].repeat(2, 1)
    target, mask = (torch.from_numpy(a)[rows].repeat(2, 1, 1) for a in (data.target, data.mask))
    counts = torch.ones(2, 8)
    counts[:, 6:] = 0
    found = losses(logits.requires_grad_(), label, target, mask, counts)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    for run in (0, 1):
        own = logits[run, :6].detach().clone().requires_grad_()
        expected = torch.nn.functional.cross_entropy(own, label[run, :6], weight=losses.weights[run])
        expected.backward()
        assert torch.allclose(found[run], expected, atol=1e-6)
        assert torch.allclose(slope[run, :6], own.grad, atol=1e-6) and not slope[run, 6:].any()


def test_multi_label_losses_are_torchs_own() -> None:
    data = planted()
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), replace(MULTI, loss=loss), 0) for loss in ("balanced", "plain")]
    losses = FusionLoss([(data, spec) for spec in specs], "cpu")
    torch.manual_seed(0)
    logits, target, mask = torch.randn(2, 8, 3), torch.rand(2, 8, 3).round(), torch.rand(2, 8, 3) < 0.7
    counts = torch.ones(2, 8)
    counts[:, 6:] = 0
    found = losses(logits.requires_grad_(), torch.zeros(2, 8, dtype=torch.int64), target, mask, counts)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    for run in (0, 1):
        own = logits[run, :6].detach().clone().requires_grad_()
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


def test_a_run_sees_every_row_once_an_epoch() -> None:
    data = planted(n=300)
    spec = run_spec(data, Fold(("a", "b"), ("c",)), replace(CONFIG, batch_size=32), 0)
    state = RunState(0, data, spec, 0, "cpu")
    rows, counts = state.next_batches(state.steps_remaining)
    assert sorted(rows[counts > 0].tolist()) == spec.train_rows.tolist()
    assert state.steps_remaining == 0

"""Steps as a GPU takes them: without a look at the host, with noise that is computed, in stacks that thin out late."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from merloco.models.fusion import steps, trainer
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.dropout import CounterNoise, GeneratorNoise
from merloco.models.fusion.losses import make_loss
from merloco.models.fusion.prediction import build_network
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.spec import RunSpec, TrainConfig
from merloco.models.fusion.stacked import StackedFusion
from merloco.models.fusion.steps import Steps
from merloco.models.fusion.table import FeatureTable, StandardScaler
from merloco.models.fusion.trainer import train_run, train_runs
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, planted

SHORT = replace(CONFIG, epochs=6, patience=2, dropout=0.3)
WIDTHS = {"audio": 40, "fused": 8}
NOISES = [GeneratorNoise, CounterNoise]
HOST = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal", "unique"}
"""Operators whose result the host waits for."""


class NoHost(TorchDispatchMode):
    """Refuses operators that wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in HOST, f"{func} within a step"
        return func(*args, **(kwargs or {}))


def folds_of_seeds(data: Dataset, config: TrainConfig = SHORT) -> list[RunSpec]:
    folds = (Fold(("a", "b"), ("c",)), Fold(("a",), ("c",)), Fold(("b", "c"), ("a",)))
    settings = (config, replace(config, epochs=config.epochs - 3))
    return [run_spec(data, fold, settings[seed], seed) for fold in folds for seed in (0, 1)]


@pytest.fixture
def gpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU's stacks do but for the capture, on a CPU."""
    monkeypatch.setitem(trainer.STACK, "cpu", 10)
    monkeypatch.setitem(trainer.NOISE, "cpu", CounterNoise)
    monkeypatch.setitem(steps.BLOCK, "cpu", steps.BLOCK["cuda"])


@pytest.mark.parametrize("noise", NOISES)
def test_noise_drops_its_share_and_keeps_the_mean(noise: type) -> None:
    drawn = [noise([7, 8], WIDTHS, 33, 0.25, "cpu")]
    parts = [{place: part.clone() for place, part in drawn[0].next().items()} for _ in range(60)]
    assert {place: part.shape for place, part in parts[0].items()} == {"audio": (2, 33, 40), "fused": (2, 33, 8)}
    values = torch.cat([torch.cat(list(part.values()), dim=-1).flatten() for part in parts])
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("noise", NOISES)
def test_a_runs_noise_is_its_own_wherever_it_trains(noise: type) -> None:
    together, alone = noise([3, 5, 9], WIDTHS, 32, 0.5, "cpu"), noise([9], WIDTHS, 32, 0.5, "cpu")
    seen = []
    for step in range(20):
        if step == 11:
            together.select(torch.tensor([0, 2]))
        stack, own = together.next(), alone.next()
        assert all(torch.equal(stack[place][-1], own[place][0]) for place in WIDTHS)
        seen.append((stack["audio"] > 0).float().reshape(len(stack["audio"]), -1))
    runs = torch.stack([part[[0, -1]] for part in seen])
    steps_apart = float((runs[1:] == runs[:-1]).float().mean())
    runs_apart = float((runs[:, 0] == runs[:, 1]).float().mean())
    assert steps_apart == pytest.approx(0.5, abs=0.02) and runs_apart == pytest.approx(0.5, abs=0.02)


def test_a_stack_on_the_path_of_a_gpu_equals_its_runs_alone(gpu_path: None) -> None:
    data = planted()
    specs = folds_of_seeds(data)
    together = {r.spec.name: r for r in train_runs([(data, spec) for spec in specs])}
    assert len({len(r.history) for r in together.values()}) > 1, "no run left the stack before another"
    for spec in specs:
        alone, found = train_run(data, spec), together[spec.name]
        assert all(np.allclose(found.weights[name], alone.weights[name], atol=1e-4) for name in alone.weights)
        assert found.best_epoch == alone.best_epoch


@pytest.mark.parametrize("spare", [0.5, 10**6])
def test_when_a_finished_run_leaves_its_stack_changes_no_other(
    gpu_path: None, monkeypatch: pytest.MonkeyPatch, spare: float
) -> None:
    data = planted()
    specs = folds_of_seeds(data)
    usual = {r.spec.name: r for r in train_runs([(data, spec) for spec in specs])}
    monkeypatch.setattr(trainer, "SPARE", spare)
    shown: list[str] = []
    for result in train_runs([(data, spec) for spec in specs], progress=lambda spec, row: shown.append(spec.name)):
        other = usual[result.spec.name]
        assert len(result.history) == len(other.history) == shown.count(result.spec.name)
        assert all(np.allclose(result.weights[name], other.weights[name], atol=1e-4) for name in other.weights)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "schedule": "cosine_restarts"},
        {"optimizer": "sgd", "gate": "sigmoid"},
        {"optimizer": "lion", "precision": "bf16"},
        {"task": "multi", "modalities": ("text",)},
    ],
    ids=lambda settings: " ".join(str(value) for value in settings.values()),
)
@pytest.mark.parametrize("whole", [True, False], ids=["all modalities", "with holes"])
def test_nothing_in_a_step_waits_for_the_host(settings: dict, whole: bool) -> None:
    data = planted()
    if not whole:
        data = replace(data, present={m: np.arange(len(data.label)) % 5 != i for i, m in enumerate(data.present)})
    config = replace(SHORT, **settings)
    runs = [(data, spec) for spec in folds_of_seeds(data, config)[:2]]
    networks = StackedFusion([build_network(data, config, seed) for seed in (0, 1)], "cpu", config.precision)
    table, states = FeatureTable([data], config, "cpu"), [RunState(i, *run, 0, "cpu") for i, run in enumerate(runs)]
    noise = CounterNoise([0, 1], networks.dropout_widths, config.batch_size, config.dropout, "cpu")
    scaler, loss = StandardScaler(runs, table.corpora, "cpu"), make_loss(runs, table.corpora, "cpu")
    stack = Steps(networks, table, scaler, loss, config, [0, 1], noise, "cpu")
    stack.run(states, 2, [1e-3, 1e-3])
    stack.position.zero_()
    with NoHost():
        stack._step()
    assert torch.isfinite(stack.totals).all()

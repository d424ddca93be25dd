"""The published fusion to the last number: golden vectors with seeded weights."""

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from merloco.features.extraction.segments import bounds, frame_segments, pool, repeat_to
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.losses import FusionLoss
from merloco.models.fusion.optimizers import Optimizer
from merloco.models.fusion.spec import RunSpec, TrainConfig
from merloco.models.fusion.stacked import Networks, SingleNetwork, StackedFusion
from merloco.models.fusion.table import FeatureTable, StandardScaler
from merloco.models.metrics.scores import score

FOLDER = Path(os.environ.get("MERLOCO_REFERENCE", Path(__file__).parents[1] / "data" / "reference"))
SEED = json.loads((FOLDER / "meta.json").read_text())["seed"]
DIMS = {"audio": 512, "video": 1024, "text": 768}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A seeded weight by its own name."""
    d = draw(name, shape)
    if len(shape) < 2:
        return 1 + 0.1 * d if name.endswith("weight") else 0.1 * d
    scale = shape[0] if name.rsplit(".", 1)[-1].startswith("WF") else np.prod(shape[1:])
    return d / np.sqrt(np.float32(scale))


def network(gated_dim: int, gate: str, dropout: float = 0.1) -> FusionNet:
    net = FusionNet(DIMS, gated_dim, 7, gate, dropout)
    shapes = json.loads((FOLDER / "state_dict_shapes.json").read_text())[f"fusion_{gated_dim}"]
    assert {name: list(t.shape) for name, t in net.state_dict().items()} == shapes
    net.load_state_dict({name: torch.from_numpy(seeded(name, tuple(shape))) for name, shape in shapes.items()})
    return net.eval()


@pytest.mark.parametrize("gated_dim", [64, 128])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_both_gates_give_the_published_logits(gated_dim: int, gate: str) -> None:
    golden = np.load(FOLDER / f"fusion_{gated_dim}.npz")
    features = {m: torch.from_numpy(golden[m]) for m in DIMS}
    with torch.inference_mode():
        logits = network(gated_dim, gate)(features)
    assert np.abs(logits.numpy() - golden[f"logits_{gate}"]).max() < 1e-4


@pytest.mark.parametrize("runs", [1, 3])
def test_forty_training_steps_give_the_published_losses(runs: int) -> None:
    """Through the batched trainer's own parts, alone and as one run of a stack whose other runs differ."""
    golden = np.load(FOLDER / "training.npz")
    labels = golden["labels"].astype(np.int64)
    data = Dataset(
        **dict.fromkeys(("sample_id", "corpus", "split", "dialogue"), np.full(320, "x")),
        features={
            m: draw(f"train.{m}", (320, d)) + 0.3 * draw(f"train.centroid.{m}", (7, d))[labels] for m, d in DIMS.items()
        },
        present={m: np.ones(320, bool) for m in DIMS},
        label=labels,
        target=np.eye(7, dtype=np.float32)[labels],
        mask=np.ones((320, 7), bool),
        classes=tuple("abcdefg"),
    )
    config = TrainConfig(gated_dim=64, dropout=0.0)
    specs = [RunSpec("published", np.arange(320), np.arange(320), config, 0)]
    specs += [
        RunSpec(f"other {i}", np.arange(320), np.arange(320), replace(config, loss="plain"), i) for i in range(1, runs)
    ]
    loss = FusionLoss([(data, spec) for spec in specs], "cpu")
    assert np.abs(loss.weights[0].numpy() - golden["class_weights"]).max() < 1e-6
    fusions = [network(64, "softmax", 0.0), *(FusionNet(DIMS, 64, 7, dropout=0.0) for _ in specs[1:])]
    networks: Networks = SingleNetwork(fusions[0]) if runs == 1 else StackedFusion(fusions, "cpu")
    optimizer = Optimizer(networks.parameters(), config)
    table = FeatureTable([data] * runs, config, "cpu")
    scaler = StandardScaler([(data, spec) for spec in specs], table.corpora, "cpu")
    found = []
    for _ in range(4):
        for chosen in torch.arange(320).split(32):
            rows = chosen.expand(runs, -1)
            features = {m: table.rows(rows, scaler, m) for m in table.modalities}
            logits, _ = networks(features, table.presence(rows), None)
            losses = loss(logits, counts=torch.ones(runs, 32), **table.truth(rows))
            networks.backward(losses.sum(), optimizer.update)
            found.append(float(losses[0].detach()))
    assert np.abs(np.array(found) - golden["losses"]).max() < 2e-3
    logits = networks.predict(torch.zeros(1, dtype=torch.int64), {m: f[None] for m, f in table.features.items()}, None)
    assert np.abs(logits[0].detach().numpy() - golden["final_logits"]).max() < 2e-3


def test_metrics() -> None:
    golden = np.load(FOLDER / "metrics.npz")
    s = score(golden["y"], golden["pred"], tuple("abcdefg"))
    for value, name in ((s.accuracy, "acc"), (s.uar, "uar"), (s.macro_f1, "macro_f1"), (s.weighted_f1, "weighted_f1")):
        assert value == pytest.approx(float(golden[name]), abs=1e-6)


def test_windows_and_pooling() -> None:
    golden = np.load(FOLDER / "segments.npz")
    for name in golden.files:
        parts = name.split("_")
        if parts[0] == "audio":
            assert bounds(int(parts[1]), 64000, 32000) == [tuple(pair) for pair in golden[name].tolist()]
        elif parts[-1] == "pooled":
            n = int(parts[1])
            segments = frame_segments(draw(f"frames.{n}", (n, 8)), np.ones(n, bool), 20, 10)
            assert len(segments) == int(golden[f"video_{n}_segments"])
            assert np.abs(pool(segments, "mean_std") - golden[name]).max() < 1e-4
    assert np.allclose(repeat_to(np.arange(10), 27), golden["pad_repeat_10_to_27"])

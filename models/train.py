"""Training the fusion on arrays that sit in memory: rows are gathered by index, early stopping on validation UAR."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.data import Dataset
from models.errors import ModelError
from models.fusion import FusionNet
from models.metrics import balanced_weights, masked_prediction, score


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyper-parameters; the defaults are the paper's."""

    modalities: tuple[str, ...] = ("audio", "video", "text")
    gated_dim: int = 128
    gate: str = "softmax"
    dropout: float = 0.1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    """L2 penalty added to the gradient (Adam), not decoupled."""
    batch_size: int = 32
    epochs: int = 300
    patience: int = 20
    loss: str = "balanced"
    """`balanced`: cross-entropy weighted by inverse class frequency; `plain`."""
    standardize: bool = False
    """Scale every feature to zero mean and unit variance of the training rows where the modality is present."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One training run."""

    name: str
    train_rows: np.ndarray
    val_rows: np.ndarray
    config: TrainConfig
    seed: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """A trained network and how it got there."""

    spec: RunSpec
    weights: dict[str, np.ndarray]
    """Best weights by the network's own names; `scale.<modality>.mean` and `.std` where standardized."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row per epoch: epoch, loss, val_uar."""
    best_epoch: int = 0
    seconds: float = 0.0


Progress = Callable[[RunSpec, dict[str, float]], None]


def standardized(result_weights: Mapping[str, np.ndarray], modality: str, matrix: np.ndarray) -> np.ndarray:
    """Features as the network saw them in training."""
    mean = result_weights.get(f"scale.{modality}.mean")
    if mean is None:
        return matrix
    return np.asarray((matrix - mean) / result_weights[f"scale.{modality}.std"], dtype=np.float32)


def _scales(dataset: Dataset, spec: RunSpec) -> dict[str, np.ndarray]:
    scales = {}
    for modality in spec.config.modalities if spec.config.standardize else ():
        rows = spec.train_rows[dataset.present[modality][spec.train_rows]]
        if len(rows) == 0:
            raise ModelError(f"run {spec.name!r}: no training row has {modality}: leave the modality out")
        seen = dataset.features[modality][rows].astype(np.float64)
        std = seen.std(axis=0)
        scales[f"scale.{modality}.mean"] = seen.mean(axis=0).astype(np.float32)
        scales[f"scale.{modality}.std"] = np.where(std > 1e-6, std, 1.0).astype(np.float32)
    return scales


def _tensors(
    dataset: Dataset, rows: np.ndarray, config: TrainConfig, scales: Mapping[str, np.ndarray], device: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    features, present = {}, {}
    for modality in config.modalities:
        there = dataset.present[modality][rows]
        matrix = standardized(scales, modality, dataset.features[modality][rows]) * there[:, None]
        features[modality] = torch.from_numpy(np.ascontiguousarray(matrix)).to(device)
        present[modality] = torch.from_numpy(there).to(device)
    return features, present


def train_run(dataset: Dataset, spec: RunSpec, progress: Progress | None = None, device: str = "cpu") -> RunResult:
    """Train one network and keep the weights of its best epoch.

    Args:
        dataset: All rows.
        spec: Which rows, settings and seed; the same spec gives the same weights on the same machine.
        progress: Called after every epoch with its row of the history.
        device: Where to train.

    Raises:
        ModelError: There is nothing to train or to validate on.
    """
    config = spec.config
    for what, rows in (("training", spec.train_rows), ("validation", spec.val_rows)):
        if len(rows) == 0:
            raise ModelError(f"run {spec.name!r} has no {what} rows with a label and a modality of {config.modalities}")
    begun = time.perf_counter()
    scales = _scales(dataset, spec)
    features, present = _tensors(dataset, spec.train_rows, config, scales, device)
    val_features, val_present = _tensors(dataset, spec.val_rows, config, scales, device)
    complete = all(bool(p.all()) for p in present.values())
    labels = torch.from_numpy(dataset.label[spec.train_rows]).to(device)
    weight = balanced_weights(dataset.label[spec.train_rows], len(dataset.classes))
    loss_weight = torch.from_numpy(weight).to(device) if config.loss == "balanced" else None
    history: list[dict[str, float]] = []
    best, best_uar, best_epoch = {}, -1.0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = build_network(dataset, config).to(device)
        optimizer = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        for epoch in range(1, config.epochs + 1):
            network.train()
            order = torch.randperm(len(labels)).to(device)
            total = torch.zeros((), device=device)
            for chosen in order.split(config.batch_size):
                batch = {m: f[chosen] for m, f in features.items()}
                has = None if complete else {m: p[chosen] for m, p in present.items()}
                logits, _ = network(batch, has)
                loss = torch.nn.functional.cross_entropy(logits, labels[chosen], weight=loss_weight)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(chosen)
            probabilities, _ = _forward(network, val_features, val_present)
            uar = _validation_uar(dataset, spec.val_rows, probabilities)
            history.append({"epoch": epoch, "loss": float(total) / len(labels), "val_uar": uar})
            if progress:
                progress(spec, history[-1])
            if uar > best_uar:
                best_uar, best_epoch = uar, epoch
                best = {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
            elif epoch - best_epoch >= config.patience:
                break
    return RunResult(spec, {**best, **scales}, history, best_epoch, time.perf_counter() - begun)


def build_network(dataset: Dataset, config: TrainConfig) -> FusionNet:
    """A fresh network for a dataset's widths and classes."""
    dims = {m: dataset.features[m].shape[1] for m in config.modalities}
    return FusionNet(dims, config.gated_dim, len(dataset.classes), config.gate, config.dropout)


def _forward(
    network: FusionNet, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    network.eval()
    with torch.inference_mode():
        logits, shares = network(features, present)
        return torch.softmax(logits, dim=-1).cpu().numpy(), shares.cpu().numpy()


def _validation_uar(dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the validation corpora of their UAR on the classes that each of them annotates."""
    prediction = masked_prediction(probabilities, dataset.mask[rows])
    scores = []
    for corpus in sorted(set(dataset.corpus[rows])):
        here = dataset.corpus[rows] == corpus
        mask = dataset.mask[rows][here][0]
        scores.append(score(dataset.label[rows][here], prediction[here], dataset.classes, mask).uar)
    return float(np.mean(scores))


def predict(
    result: RunResult, dataset: Dataset, rows: np.ndarray, nullify: Sequence[str] = (), device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a trained network to rows.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows to predict.
        nullify: Modalities that get a zero vector (the paper's nullification).
        device: Where to compute.

    Returns:
        Probabilities float32 (n, K), and the gate share of each of the run's modalities (n, modalities).
    """
    config = replace(result.spec.config)
    network = build_network(dataset, config)
    state = {name: torch.from_numpy(value) for name, value in result.weights.items() if not name.startswith("scale.")}
    network.load_state_dict(state)
    features, present = _tensors(dataset, rows, config, result.weights, device)
    for modality in nullify:
        features[modality] = torch.zeros_like(features[modality])
    return _forward(network.to(device), features, present)

"""A trained network applied to rows, and what each modality contributes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from merloco.models.device import float32_products
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.divergence import DivergedError, require_finite
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.networks.base import GATED, SHARED, registered_fusion
from merloco.models.fusion.spec import RunResult, TrainConfig
from merloco.models.fusion.table import standardized
from merloco.models.parallel import seeded, threads


def _widths(dataset: Dataset, config: TrainConfig) -> dict[str, int]:
    """Modality -> width of its features, of the modalities that a run takes."""
    views_of = dataset.by_modality(config.modalities)
    return {m: sum(dataset.features[view].shape[1] for view in views) for m, views in views_of.items()}


def build_network(dataset: Dataset, config: TrainConfig, seed: int = 0) -> nn.Module:
    """A fresh network for a dataset's widths and classes.

    The paper's takes its weights from a generator of its own, so that threads that train and score at once need not
    wait for each other's turn with torch's global one (`seeded`).

    Raises:
        ModelError: There is no such network, or it does not take its options.
    """
    widths, classes = _widths(dataset, config), len(dataset.classes)
    shared = {name: getattr(config, name) for name in SHARED}
    if config.fusion == GATED:
        return FusionNet(widths, classes=classes, **shared, generator=torch.Generator().manual_seed(seed))
    with seeded(seed):
        network: nn.Module = registered_fusion(config.fusion).build(widths, classes, shared, config.fusion_options)
    return network


def probabilities_of(logits: Tensor, task: str) -> np.ndarray:
    """Softmax over the classes, or a sigmoid for each."""
    return (torch.softmax(logits, dim=-1) if task == "single" else torch.sigmoid(logits)).cpu().numpy()


def predict(
    result: RunResult,
    dataset: Dataset,
    rows: np.ndarray,
    nullify: Sequence[str] = (),
    device: str = "cpu",
    leave_out: Sequence[str] = (),
) -> np.ndarray:
    """Apply a trained network to rows.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows to predict.
        nullify: Modalities, or views of one that has several, that get a zero vector (the paper's nullification):
            there, and saying nothing.
        device: Where to compute.
        leave_out: Modalities or views that are taken as absent from every row.

    Returns:
        Probabilities float32 (n, K).

    Raises:
        DivergedError: A row's features, or what the network makes of them, are not finite.
    """
    config = result.spec.config
    network = build_network(dataset, config)
    # Copies, of weights as of features: they lie where torch aligns them, and a product's last bits depend on that.
    state = {name: torch.tensor(value) for name, value in result.weights.items() if not name.startswith("scale.")}
    network.load_state_dict(state, assign=True)
    network.to(device).eval()
    features, present = {}, {}
    for modality, views in dataset.by_modality(config.modalities).items():
        there = np.stack([dataset.present[view][rows] & (view not in leave_out) for view in views])
        joined = np.hstack([dataset.features[view][rows] for view in views])
        matrix = standardized(result.weights, modality, joined, dataset.corpus[rows])
        widths = [dataset.features[view].shape[1] for view in views]
        matrix = matrix * np.repeat(there, widths, axis=0).T
        if not np.isfinite(matrix.sum()):
            require_finite(dataset, rows, views, f"run {result.spec.name!r}")
        matrix *= np.repeat([view not in nullify for view in views], widths)
        features[modality] = torch.from_numpy(matrix).to(device, copy=True)
        present[modality] = torch.from_numpy(there.any(axis=0)).to(device)
    one = threads(1) if torch.device(device).type == "cpu" else nullcontext()
    with one, float32_products(), torch.inference_mode():
        logits = network(features, present)
        probabilities = probabilities_of(logits, config.task)
    if not torch.isfinite(logits).all():
        raise DivergedError(f"run {result.spec.name!r}: outputs for {len(rows)} rows are not finite: train it again")
    return probabilities


def contributions(
    result: RunResult,
    dataset: Dataset,
    rows: np.ndarray,
    probabilities: np.ndarray,
    chosen: np.ndarray,
    nullify: Sequence[str] = (),
) -> np.ndarray:
    """How much each modality adds to the probability of a class: what it falls by when the modality is left out.

    Where a modality has several views, each of them is one here.

    Args:
        result: The trained run.
        dataset: All rows.
        rows: Indices of the rows.
        probabilities: float32 (n, K), what `predict` gives for them.
        chosen: int (n,): the class of each row, for example the predicted one.
        nullify: As for `predict`.

    Returns:
        float32 (n, modalities), in the order of the run's modalities; NaN where a row lacks the modality, or has no
        other: without it there is nothing to predict from.
    """
    modalities = result.spec.config.modalities
    there = np.stack([dataset.present[m][rows] for m in modalities], axis=1)
    whole = probabilities[np.arange(len(rows)), chosen]
    found = np.full(there.shape, np.nan, dtype=np.float32)
    for column, modality in enumerate(modalities):
        asked = there[:, column] & (there.sum(axis=1) > 1)
        if asked.any():
            left = predict(result, dataset, rows[asked], nullify, leave_out=(modality,))
            found[asked, column] = whole[asked] - left[np.arange(len(left)), chosen[asked]]
    return found

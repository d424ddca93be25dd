"""What a training run is: its settings, its rows, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyper-parameters; the defaults are the paper's."""

    fusion: str = "gated"
    """Name of the network (`merloco.models.fusion.networks.base`)."""
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    """What the network declares to be set in it, but for the settings of this class that have the same name."""
    modalities: tuple[str, ...] = ("audio", "video", "text")
    """Keys of a data set's features: modalities, or views of one that has several."""
    gated_dim: int = 128
    gate: str = "softmax"
    dropout: float = 0.1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    """L2 penalty added to the gradient (Adam, SGD), or decoupled (AdamW, Lion)."""
    batch_size: int = 32
    epochs: int = 300
    patience: int = 20
    loss: str = "balanced"
    """`balanced`: classes weighted by inverse frequency; `plain`."""
    task: str = "single"
    """`single`: softmax and cross-entropy on the one label; `multi`: sigmoid and BCE on every annotated class."""
    optimizer: str = "adam"
    schedule: str = "none"
    precision: str = "float32"
    """Of the products with the wide layers: `float32`, `bf16`, or `tf32`, which on a CPU is float32."""
    standardize: bool = False
    """Scale every feature to zero mean and unit variance of the training rows where the modality is present."""
    standardize_by: str = "all"
    """`all` training rows together, or each `corpus` by itself; one that does not train is scaled by all."""
    transductive: bool = False
    """With `corpus`, scale one that does not train by all its own rows."""
    sampling: str = "none"
    """See `merloco.models.fusion.shift.sampling`."""
    modality_dropout: float = 0.0
    mixup: float = 0.0
    """See `merloco.models.fusion.shift.augmentation`, as for the line above."""
    coral: float = 0.0
    adversarial: float = 0.0
    """See `merloco.models.fusion.shift.alignment`, as for the line above."""
    label_smoothing: float = 0.0
    mask_unannotated: bool = False
    """Leave classes that a row's corpus does not annotate out of its softmax."""
    balance: str = "pooled"
    """Count classes for the balanced loss over all corpora, or within each `corpus`."""
    soft_targets: bool = False
    """Train on rows of several labels and no single one by their shares."""
    selection: str = "corpora"
    """Weights are chosen by the mean of the `corpora`'s validation UAR, by that of all rows (`pooled`), or are those of
    the epoch that transfers best to a left-out training corpus (`transfer`); `last` takes those of the last epoch."""


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
    """From the start of the run's stack until it left it; runs of a stack share this time."""
    position: int = 0
    """Of the run among those that were given."""

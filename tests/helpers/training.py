"""Planted data sets and settings of short trainings."""

from collections.abc import Mapping

import numpy as np
import torch

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import TrainConfig
from merloco.models.fusion.stacked import Networks

CLASSES = ("neutral", "happy", "sad")


CONFIG = TrainConfig(gated_dim=8, epochs=40, patience=10, learning_rate=3e-3, standardize=True)


DIMS = {"audio": 5, "video": 6, "text": 4}
WIDTHS = {"audio": 512, "video": 1024, "text": 768}
"""Of the published features, pooled."""
CORPORA = ("iemocap", "mosei", "meld", "afew")


def planted(n: int = 600, signal: tuple[str, ...] = ("text",), seed: int = 0) -> Dataset:
    """Three corpora whose labels show in some modalities only; corpus c annotates no neutral."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, n)
    corpus = np.array(["a", "b", "c"])[np.arange(n) % 3]
    label[(corpus == "c") & (label == 0)] = 1
    centre = {m: generator.normal(size=(3, d)) * 3 for m, d in DIMS.items()}
    features = {
        m: (generator.normal(size=(n, d)) + (centre[m][label] if m in signal else 0)).astype(np.float32)
        for m, d in DIMS.items()
    }
    mask = np.ones((n, 3), bool)
    mask[corpus == "c", 0] = False
    return Dataset(
        sample_id=np.array([f"x/{i}" for i in range(n)]),
        corpus=corpus,
        split=np.array(["train", "train", "val", "test"])[np.arange(n) // 3 % 4],
        dialogue=np.arange(n).astype(str),
        features=features,
        present={m: np.ones(n, bool) for m in DIMS},
        label=label,
        target=np.eye(3, dtype=np.float32)[label],
        mask=mask,
        classes=CLASSES,
    )


def weights_of(networks: Networks, run: int) -> dict[str, np.ndarray]:
    """One run's weights as they are now."""
    networks.snapshot(torch.tensor([run]))
    return networks.snapshot_of(run)


def four_corpora(n: int, seed: int = 0, widths: Mapping[str, int] = WIDTHS, signal: float = 0.1) -> Dataset:
    """`n` rows of four corpora, whose features all show the seven labels by `signal` deviations."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 7, n)
    features = {}
    for modality, width in widths.items():
        centres = generator.standard_normal((7, width), dtype=np.float32)
        features[modality] = generator.standard_normal((n, width), dtype=np.float32)
        features[modality] += signal * centres[label]
    return Dataset(
        sample_id=np.array([f"x/{i}" for i in range(n)]),
        corpus=np.array(CORPORA)[np.arange(n) % 4],
        split=np.array([*["train"] * 8, "val", "test"])[np.arange(n) // 4 % 10],
        dialogue=np.arange(n).astype(str),
        features=features,
        present={m: np.ones(n, bool) for m in widths},
        label=label,
        target=np.eye(7, dtype=np.float32)[label],
        mask=np.ones((n, 7), bool),
        classes=("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
    )

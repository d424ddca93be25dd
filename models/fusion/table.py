"""What a stack reads: rows that lie on the device once, gathered by index, scaled as each run's own rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec, TrainConfig


def feature_scales(dataset: Dataset, spec: RunSpec) -> dict[str, np.ndarray]:
    """`scale.<modality>.mean` and `.std` over a run's training rows that have the view; empty if not asked for.

    Raises:
        ModelError: No training row has a modality.
    """
    scales = {}
    for modality, views in dataset.by_modality(spec.config.modalities if spec.config.standardize else ()).items():
        means, deviations = [], []
        for view in views:
            rows = spec.train_rows[dataset.present[view][spec.train_rows]]
            if len(rows) == 0:
                raise ModelError(f"run {spec.name!r}: no training row has {view}: leave it out")
            seen = dataset.features[view][rows].astype(np.float64)
            std = seen.std(axis=0)
            means.append(seen.mean(axis=0).astype(np.float32))
            deviations.append(np.where(std > 1e-6, std, 1.0).astype(np.float32))
        scales[f"scale.{modality}.mean"] = np.concatenate(means)
        scales[f"scale.{modality}.std"] = np.concatenate(deviations)
    return scales


def _rows_of(dataset: Dataset) -> tuple[int, ...]:
    """The same for data sets that differ in their parts only, as the folds of a corpus do."""
    arrays = (dataset.label, dataset.target, dataset.mask, *dataset.features.values(), *dataset.present.values())
    return tuple(map(id, arrays))


class StandardScaler:
    """Zero mean and unit deviation over the training rows of each of R runs; unchanged where a run asks for none."""

    def __init__(self, runs: Sequence[tuple[Dataset, RunSpec]], device: str) -> None:
        known: dict[tuple[int, bytes], dict[str, np.ndarray]] = {}  # the seeds of a fold share their scales
        found = []
        for dataset, spec in runs:
            key = id(dataset), spec.train_rows.tobytes()
            if key not in known:
                known[key] = feature_scales(dataset, spec)
            found.append(known[key])
        self.values = {
            name: torch.stack([torch.from_numpy(scales[name]) for scales in found]).to(device) for name in found[0]
        }

    def transform(self, modality: str, rows: Tensor, runs: Tensor | None = None) -> Tensor:
        """Scale (R, n, D) rows of all runs, or of these; unchanged without standardization."""
        if f"scale.{modality}.mean" not in self.values:
            return rows
        mean, std = (self.values[f"scale.{modality}.{part}"] for part in ("mean", "std"))
        if runs is not None:
            mean, std = mean[runs], std[runs]
        return (rows - mean[:, None]) / std[:, None]

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """One run's scales by name."""
        return {name: value[run].cpu().numpy() for name, value in self.values.items()}

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.values = {name: value[runs] for name, value in self.values.items()}


class FeatureTable:
    """Rows of one or more data sets of equal widths, one after the other.

    Args:
        datasets: The data set of every run; the same one is held once.
        config: Settings that the runs have in common.
        device: Where the rows lie.
    """

    def __init__(self, datasets: Sequence[Dataset], config: TrainConfig, device: str) -> None:
        distinct = list({_rows_of(dataset): dataset for dataset in datasets}.values())
        sizes = [len(dataset.label) for dataset in distinct]
        self._offsets = {_rows_of(d): sum(sizes[:i]) for i, d in enumerate(distinct)}
        groups = distinct[0].by_modality(config.modalities)
        self.modalities = tuple(groups)

        def joined(arrays: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).to(device)

        self.features, self.present = {}, {}
        self._views: dict[str, tuple[Tensor, Tensor]] = {}
        """Modality of several views -> which of them a row has (N, V), and the view of each column (D,)."""
        complete = True
        for modality, views in groups.items():
            matrices = [joined([d.features[view] for d in distinct]) for view in views]
            there = [joined([d.present[view] for d in distinct]) for view in views]
            self.features[modality], self.present[modality] = matrices[0], there[0]
            if len(views) > 1:
                self.features[modality] = torch.cat(matrices, dim=1)
                self.present[modality] = torch.stack(there).any(dim=0)
                view_of_column = torch.cat([torch.full(x.shape[1:], i) for i, x in enumerate(matrices)])
                self._views[modality] = torch.stack(there, dim=1), view_of_column.to(device)
            complete &= all(bool(own.all()) for own in there)
        self.complete = complete
        self.label = joined([d.label for d in distinct])
        self.target = joined([d.target for d in distinct])
        self.mask = joined([d.mask for d in distinct])

    def offset(self, dataset: Dataset) -> int:
        """Where the rows of a data set begin."""
        return self._offsets[_rows_of(dataset)]

    def rows(self, rows: Tensor, scaler: StandardScaler, modality: str, runs: Tensor | None = None) -> Tensor:
        """Scaled features (R, n, D) of rows (R, n), 0 where they lack the view: of all runs, or of these."""
        scaled = scaler.transform(modality, self.features[modality][rows], runs)
        if self.complete:
            return scaled
        if modality in self._views:
            there, view_of_column = self._views[modality]
            return scaled * there[rows][..., view_of_column]
        return scaled * self.present[modality][rows].unsqueeze(-1)

    def presence(self, rows: Tensor) -> dict[str, Tensor] | None:
        """Modality -> bool (...), of rows (...); None where everything is there."""
        return None if self.complete else {m: self.present[m][rows] for m in self.modalities}

    def truth(self, rows: Tensor) -> dict[str, Tensor]:
        """What a loss compares with: `label` (...), `target` and `mask` (..., K) of rows (...)."""
        return {"label": self.label[rows], "target": self.target[rows], "mask": self.mask[rows]}


def standardized(weights: Mapping[str, np.ndarray], modality: str, matrix: np.ndarray) -> np.ndarray:
    """Features as a trained network saw them in training, given its weights and scales."""
    mean = weights.get(f"scale.{modality}.mean")
    if mean is None:
        return matrix
    return np.asarray((matrix - mean) / weights[f"scale.{modality}.std"], dtype=np.float32)

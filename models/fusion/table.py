"""What a stack reads: rows that lie on the device once, gathered by index, scaled as each run's own rows say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec, TrainConfig


def feature_scales(dataset: Dataset, spec: RunSpec) -> dict[str, np.ndarray]:
    """What a run's features are scaled by; empty if not asked for.

    Returns:
        `scale.<modality>.mean` and `.std` (D,) over the training rows that have the view; where corpora are scaled by
        themselves, also `scale.<modality>.mean.<corpus>` and `.std.<corpus>`.

    Raises:
        ModelError: No training row has a view.
    """
    config, scales = spec.config, {}
    for modality, views in dataset.by_modality(config.modalities if config.standardize else ()).items():
        rows = {view: spec.train_rows[dataset.present[view][spec.train_rows]] for view in views}
        for view, own in rows.items():
            if len(own) == 0:
                raise ModelError(f"run {spec.name!r}: no training row has {view}: leave it out")
        for part, name, chosen in ((rows, "", views), *_by_corpus(dataset, spec, views, rows)):
            mean, std = zip(*(_mean_std(dataset.features[view][part[view]]) for view in chosen), strict=True)
            scales[f"scale.{modality}.mean{name}"] = np.concatenate(mean)
            scales[f"scale.{modality}.std{name}"] = np.concatenate(std)
    return scales


def _rows_of(dataset: Dataset) -> tuple[int, ...]:
    """The same for data sets that differ in their parts only, as the folds of a corpus do."""
    arrays = (dataset.label, dataset.target, dataset.mask, *dataset.features.values(), *dataset.present.values())
    return tuple(map(id, arrays))


def _by_corpus(
    dataset: Dataset, spec: RunSpec, views: Sequence[str], rows: Mapping[str, np.ndarray]
) -> Iterator[tuple[dict[str, np.ndarray], str, Sequence[str]]]:
    """Rows of every view, and what is added to the names of their scales, of corpora that have scales of their own.

    One that lacks a view altogether is scaled by all.
    """
    if spec.config.standardize_by != "corpus":
        return
    trained = set(dataset.corpus[spec.train_rows])
    for corpus in sorted(set(dataset.corpus) if spec.config.transductive else trained):
        of_corpus = dataset.corpus == corpus
        own = {
            view: rows[view][of_corpus[rows[view]]]
            if corpus in trained
            else np.flatnonzero(of_corpus & dataset.present[view])
            for view in views
        }
        if all(len(part) for part in own.values()):
            yield own, f".{corpus}", views


def _mean_std(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = features.astype(np.float64)
    std = seen.std(axis=0)
    return seen.mean(axis=0).astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32)


class StandardScaler:
    """Zero mean and unit deviation over the training rows of each of R runs; unchanged where a run asks for none.

    Args:
        runs: The rows and settings of every run.
        corpora: Names of the corpora that the rows are of.
        device: Where to compute.
    """

    def __init__(self, runs: Sequence[tuple[Dataset, RunSpec]], corpora: Sequence[str], device: str) -> None:
        known: dict[tuple[int, bytes], dict[str, np.ndarray]] = {}  # the seeds of a fold share their scales
        self.found = []
        for dataset, spec in runs:
            key = id(dataset), spec.train_rows.tobytes()
            if key not in known:
                known[key] = feature_scales(dataset, spec)
            self.found.append(known[key])
        self.by_corpus = runs[0][1].config.standardize_by == "corpus"

        def stacked(name: str) -> Tensor:
            """(R, D), or (R, corpora, D) where a corpus has its own."""
            if not self.by_corpus:
                return torch.stack([torch.from_numpy(scales[name]) for scales in self.found])
            each = [[scales.get(f"{name}.{c}", scales[name]) for c in corpora] for scales in self.found]
            return torch.from_numpy(np.array(each))

        names = [name for name in self.found[0] if name.endswith((".mean", ".std"))]
        self.values = {name: stacked(name).to(device) for name in names}

    def transform(self, modality: str, rows: Tensor, corpus: Tensor, runs: Tensor | None = None) -> Tensor:
        """Scale rows (R, n, D) of corpora (R, n), of all runs or of these; unchanged without standardization."""
        if f"scale.{modality}.mean" not in self.values:
            return rows
        mean, std = (self.values[f"scale.{modality}.{part}"] for part in ("mean", "std"))
        if runs is not None:
            mean, std = mean[runs], std[runs]
        if self.by_corpus:
            run = torch.arange(len(mean), device=rows.device)[:, None]
            return (rows - mean[run, corpus]) / std[run, corpus]
        return (rows - mean[:, None]) / std[:, None]

    def arrays(self, run: int) -> dict[str, np.ndarray]:
        """One run's scales by name."""
        return dict(self.found[run])

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.values = {name: value[runs] for name, value in self.values.items()}
        self.found = [self.found[run] for run in runs.tolist()]


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
        names = np.concatenate([d.corpus for d in distinct])
        known, corpus = np.unique(names, return_inverse=True)
        self.corpora: list[str] = known.tolist()
        self.corpus = torch.from_numpy(corpus).to(device)

    def offset(self, dataset: Dataset) -> int:
        """Where the rows of a data set begin."""
        return self._offsets[_rows_of(dataset)]

    def rows(self, rows: Tensor, scaler: StandardScaler, modality: str, runs: Tensor | None = None) -> Tensor:
        """Scaled features (R, n, D) of rows (R, n), 0 where they lack the view: of all runs, or of these."""
        scaled = scaler.transform(modality, self.features[modality][rows], self.corpus[rows], runs)
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
        """What a loss compares with: `label` and `corpus` (...), `target` and `mask` (..., K) of rows (...)."""
        return {
            "label": self.label[rows],
            "target": self.target[rows],
            "mask": self.mask[rows],
            "corpus": self.corpus[rows],
        }


def standardized(
    weights: Mapping[str, np.ndarray], modality: str, matrix: np.ndarray, corpus: np.ndarray
) -> np.ndarray:
    """Features as a trained network saw them in training.

    Args:
        weights: Of the network, with its scales.
        modality: Whose features.
        matrix: float32 (n, D).
        corpus: str (n,): whose rows they are.
    """
    if f"scale.{modality}.mean" not in weights:
        return matrix
    scaled = np.empty_like(matrix)
    for name in np.unique(corpus):
        own = corpus == name
        suffix = f".{name}" if f"scale.{modality}.mean.{name}" in weights else ""
        mean, std = (weights[f"scale.{modality}.{part}{suffix}"] for part in ("mean", "std"))
        scaled[own] = (matrix[own] - mean) / std
    return scaled

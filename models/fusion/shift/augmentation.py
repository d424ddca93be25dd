"""What a batch becomes before a network sees it: rows without a modality that they have, rows of two corpora mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from merloco.models.fusion.spec import TrainConfig

Features = dict[str, Tensor]


class Augmentation:
    """Modality dropout, and mixup across corpora (Zhang et al. 2018) of R runs; each run draws its own numbers.

    Args:
        seeds: Of every run.
        config: Settings that the runs have in common.
    """

    def __init__(self, seeds: Sequence[int], config: TrainConfig) -> None:
        self.rate, self.alpha = config.modality_dropout, config.mixup
        self.draws = [np.random.default_rng([seed, 1]) for seed in seeds]

    def __call__(
        self, features: Features, present: Features | None, truth: Features
    ) -> tuple[Features, Features | None, Features]:
        """The batch as it is trained on.

        Args:
            features: Modality -> (R, B, D), zeros where absent.
            present: Modality -> bool (R, B); None where everything is there.
            truth: `corpus` (R, B) among others.

        Returns:
            Features, presence, and `truth` with `share` (R, B, 1) and the truth of the partner as `partner_...` where
            rows are mixed.
        """
        if self.rate and len(features) > 1:
            features, present = self._drop(features, present)
        if self.alpha:
            features, truth = self._mix(features, present, truth)
        return features, present, truth

    def _drop(self, features: Features, present: Features | None) -> tuple[Features, Features]:
        """Take each modality of each row away with the probability `rate`, but never all that a row has."""
        first = next(iter(features.values()))
        drawn = np.stack([draw.random((first.shape[1], len(features))) for draw in self.draws]) >= self.rate
        kept = torch.from_numpy(drawn).to(first.device)
        there = torch.ones_like(kept) if present is None else torch.stack([present[m] for m in features], dim=-1)
        left = kept & there
        left = torch.where(left.any(dim=-1, keepdim=True), left, there)
        masks = dict(zip(features, left.unbind(-1), strict=True))
        return {m: rows * masks[m].unsqueeze(-1) for m, rows in features.items()}, masks

    def _mix(self, features: Features, present: Features | None, truth: Features) -> tuple[Features, Features]:
        """Mix each row with one of another corpus; where chance gives one of its own, the row stays as it is."""
        corpus = truth["corpus"]
        runs, batch = corpus.shape
        order = torch.from_numpy(np.stack([draw.permutation(batch) for draw in self.draws])).to(corpus.device)
        share = np.stack([draw.beta(self.alpha, self.alpha, batch) for draw in self.draws]).astype(np.float32)
        own = torch.from_numpy(np.maximum(share, 1 - share)).to(corpus.device)
        run = torch.arange(runs, device=corpus.device)[:, None]
        partner = {name: values[run, order] for name, values in truth.items()}
        own = torch.where(partner["corpus"] == corpus, torch.ones_like(own), own).unsqueeze(-1)
        mixed = {}
        for modality, rows in features.items():
            other, part = rows[run, order], own
            if present is not None:  # what only one of the two has is not mixed
                both = present[modality] & present[modality][run, order]
                part = torch.where(both.unsqueeze(-1), own, torch.ones_like(own))
            mixed[modality] = part * rows + (1 - part) * other
        return mixed, {**truth, "share": own, **{f"partner_{name}": values for name, values in partner.items()}}

    def select(self, runs: Tensor) -> None:
        """Drop all runs but these."""
        self.draws = [self.draws[run] for run in runs.tolist()]


def augmentation_of(seeds: Sequence[int], config: TrainConfig) -> Augmentation | None:
    """What a configuration asks for; None if batches stay as they are."""
    return Augmentation(seeds, config) if config.modality_dropout or config.mixup else None


def plain_truth(truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a loss of unmixed rows takes."""
    return {name: values for name, values in truth.items() if name in ("label", "target", "mask", "corpus")}

"""Validation of runs whose epoch is through: what early stopping goes by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from merloco.models.device import float32_products
from merloco.models.errors import ModelError
from merloco.models.fusion.divergence import diverged, modality_of
from merloco.models.fusion.prediction import probabilities_of
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.steps import Steps
from merloco.models.metrics.scores import validation_score

PASS = 2**28
"""Most features in one forward pass over validation rows, if it has more than one run: 1 GB."""


def validation_logits(states: Sequence[RunState], ended: Sequence[int], steps: Steps) -> dict[int, Tensor]:
    """Run -> logits (n, K) of its validation rows, in host memory; runs of as many rows are one forward pass."""
    by_size: dict[int, list[int]] = {}
    for r in ended:
        by_size.setdefault(len(states[r].spec.val_rows), []).append(r)
    width = sum(matrix.shape[1] for matrix in steps.table.features.values())
    logits: dict[int, Tensor] = {}
    for size, all_runs in by_size.items():
        at_once = max(1, PASS // (size * width))
        for runs in (all_runs[i : i + at_once] for i in range(0, len(all_runs), at_once)):
            chosen = torch.tensor(runs, device=steps.position.device)
            own = np.stack([states[r].spec.val_rows + states[r].offset for r in runs])
            rows = torch.from_numpy(own).to(chosen.device)
            with torch.inference_mode(), float32_products():
                features = {m: steps.table.rows(rows, steps.scaler, m, chosen) for m in steps.table.modalities}
                found = steps.networks.predict(chosen, features, steps.table.presence(rows))
            logits |= dict(zip(runs, found.cpu(), strict=True))
    return logits


def validation_uar(state: RunState, not_finite: Sequence[str], logits: Tensor) -> float:
    """The validation score of a run.

    Raises:
        DivergedError: Weights, or what they make of the validation rows, are not finite.
        ModelError: The validation rows cannot be scored.
    """
    if not_finite:
        named = dict.fromkeys(m for name in not_finite if (m := modality_of(name)))
        raise diverged(state.spec, state.epoch, "weights are not finite", named)
    if not torch.isfinite(logits).all():
        raise diverged(state.spec, state.epoch, "outputs for validation rows are not finite", ())
    task, pooled = state.spec.config.task, state.spec.config.selection == "pooled"
    uar = validation_score(state.dataset, state.spec.val_rows, probabilities_of(logits, task), task, pooled)
    if np.isnan(uar):
        raise ModelError(f"run {state.spec.name!r}: its validation rows show no class and its opposite to choose by")
    return uar

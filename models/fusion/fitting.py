"""Networks that fit themselves: one pass over the training rows, scored on the validation rows as trained ones are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.divergence import DivergedError
from merloco.models.fusion.losses import make_loss
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.table import FeatureTable, StandardScaler
from merloco.models.fusion.validation import validation_uar


def fit_run(
    position: int, dataset: Dataset, spec: RunSpec, network: nn.Module, device: str
) -> Iterator[RunResult | DivergedError | tuple[RunSpec, dict[str, float]]]:
    """Fit one run.

    Args:
        position: Of the run among those that are trained.
        dataset: All rows.
        spec: The run.
        network: Has `fit`, see `merloco.models.fusion.networks.logistic.Logistic`.
        device: Where the rows lie.

    Yields:
        The one row of its history and its result, or that what it gives is not finite.

    Raises:
        ModelError: There is nothing to fit or to validate on.
    """
    config = spec.config
    state = RunState(position, dataset, spec, 0, device)
    table = FeatureTable([dataset], config, device)
    scaler = StandardScaler([(dataset, spec)], table.corpora, device)

    def logits_of(rows: Tensor) -> Tensor:
        with torch.inference_mode():
            present = table.presence(rows)
            out: Tensor = network.eval()(features_of(rows), None if present is None else _first(present))
        return out

    def features_of(rows: Tensor) -> dict[str, Tensor]:
        return {m: table.rows(rows, scaler, m)[0] for m in table.modalities}

    train, val = (torch.from_numpy(rows).to(device)[None] for rows in (spec.train_rows, spec.val_rows))
    truth = table.truth(train)
    network.fit(features_of(train), _first(truth), config.task, config.loss == "balanced")  # type: ignore[operator]
    loss = make_loss([(dataset, spec)], table.corpora, device)
    reached = float(loss(logits_of(train)[None], counts=torch.ones_like(train).float(), **truth))
    try:
        uar = validation_uar(state, [], logits_of(val).cpu())
    except DivergedError as error:
        yield error
        return
    state.finish_epoch(uar, reached * len(spec.train_rows))
    yield spec, state.history[-1]
    weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    yield RunResult(
        spec, {**weights, **scaler.arrays(0)}, state.history, 1, time.perf_counter() - state.begun, position
    )


def _first(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the one run."""
    return {name: value[0] for name, value in values.items()}

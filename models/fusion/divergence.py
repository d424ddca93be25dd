"""Training that left the finite numbers: found at the first loss, weight or feature that is not finite, and said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunSpec


class DivergedError(ModelError):
    """A run has no result: the sentence names the run, the epoch and the modality."""


def diverged(spec: RunSpec, epoch: int, what: str, modalities: Iterable[str]) -> DivergedError:
    """The error of a run.

    Args:
        spec: The run.
        epoch: From 1.
        what: What is not finite.
        modalities: Whose features, products or weights are not finite; none where only the fused layers are.
    """
    named = ", ".join(modalities) or f"the fused layers of {', '.join(spec.config.modalities)}"
    rate = spec.config.learning_rate
    return DivergedError(
        f"run {spec.name!r} diverged in epoch {epoch}: {what} ({named}): expected finite numbers, give a lower "
        f"learning rate than {rate:g} or look at the features"
    )


def require_finite(dataset: Dataset, rows: np.ndarray, modalities: Sequence[str], what: str) -> None:
    """Refuse rows with features that are not finite, before a network turns them into a class.

    Args:
        dataset: All rows.
        rows: Indices of those that are used.
        modalities: Those that are used.
        what: What happened to which run, for the sentence.

    Raises:
        DivergedError: A row has a modality with a value that is not finite.
    """
    for modality in modalities:
        with np.errstate(all="ignore"):
            if np.isfinite(dataset.features[modality].sum()):  # the usual case, told without a copy
                continue
        used = rows[dataset.present[modality][rows]]
        bad = used[~np.isfinite(dataset.features[modality][used]).all(axis=1)]
        if len(bad):
            raise DivergedError(
                f"{what}: the {modality} features of {len(bad)} rows are not finite, first of "
                f"{str(dataset.sample_id[bad[0]])!r}: expected finite numbers, extract them again"
            )


def require_finite_steps(spec: RunSpec, epoch: int, finite: Tensor, modalities: Sequence[str]) -> None:
    """Raise `DivergedError` at the first step of a run whose loss is not finite, or what a modality brought to it.

    Args:
        spec: The run.
        epoch: From 1.
        finite: bool (1 + modalities, steps): the loss's row first.
        modalities: In the order of the rows.
    """
    steps = (~finite.all(dim=0)).nonzero()
    if len(steps):
        first = finite[:, int(steps[0])].tolist()
        named = [m for m, fine in zip(modalities, first[1:], strict=True) if not fine]
        raise diverged(spec, epoch, "the loss is not finite", named)


def modality_of(weight: str) -> str | None:
    """The modality that a weight of a stack belongs to; None for those of the fused layers."""
    layer = weight.partition(".")[0]
    kind, _, modality = layer.partition("_")
    return modality if kind in ("fc", "pairs") and modality != "avt" else None


def joined(errors: Sequence[DivergedError]) -> DivergedError:
    """One error for all runs of a sweep that diverged."""
    first, *others = [str(error) for error in errors]
    more = (
        ""
        if not others
        else f"; {len(others)} more runs diverged: " + "; ".join(other.partition(":")[0] for other in others)
    )
    return DivergedError(first + more)

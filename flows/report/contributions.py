"""What each modality adds: the fall of the predicted class's probability when it is left out at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from merloco.features.store import FeatureStore
from merloco.flows.report.data import Experiment
from merloco.flows.report.page import Page, Table
from merloco.flows.report.predictions import quoted
from merloco.pipelines.samples.schema import MODALITIES

TITLE = "Contribution of modalities"


def add_contributions(page: Page, store: FeatureStore, experiment: Experiment) -> None:
    """Add the mean contribution of every modality, a row per condition and tested corpus."""
    found = _means(store, experiment)
    if not found:
        why = "The runs keep no measured contributions: they have one modality, or an earlier version trained them."
        page.absent(TITLE, why)
        return
    used = [m for m in MODALITIES if any(m in means for means in found.values())]
    rows: list[dict[str, Any]] = []
    for cell in experiment.shown:
        means = [found[run, cell.corpus] for run in cell.runs if (run, cell.corpus) in found]
        if means:
            shown = {m: [mean[m] for mean in means if m in mean] for m in used}
            points = {m: f"{100 * np.mean(values):.1f}" if values else None for m, values in shown.items()}
            rows.append({"tested on": experiment.tested_on(cell), "trained on": cell.condition, **points})
    page.section(TITLE)
    page.table(
        Table(
            "Points by which the probability of the predicted class falls when a modality is left out.",
            ["tested on", "trained on", *used],
            rows,
            [
                "Mean over the test utterances that have the modality and another one, and over the runs (seeds). "
                "Below zero: without it the network is surer."
            ],
        )
    )


def _means(store: FeatureStore, experiment: Experiment) -> dict[tuple[str, str], dict[str, float]]:
    """(run, corpus) -> modality -> mean contribution, of those that were measured."""
    columns = ", ".join(f"avg(contributions['{m}'])" for m in MODALITIES)
    rows = store.sql(
        f"select run, p.corpus, {columns} from predictions p join runs using (run) "
        f"where experiment = {quoted(experiment.name)} group by all order by all"
    ).fetchall()
    found = {}
    for run, corpus, *values in rows:
        means = {m: float(value) for m, value in zip(MODALITIES, values, strict=True) if value is not None}
        if means:
            found[run, corpus] = means
    return found

"""What each modality adds: the fall of the predicted class's probability when it is left out at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from merloco.flows.report.data import ExperimentResults
from merloco.flows.report.page import MissingSectionError, Page
from merloco.flows.report.predictions import quoted
from merloco.flows.results.tables import ResultTable
from merloco.pipelines.samples.schema import MODALITIES


def add_contributions(page: Page, experiment: ExperimentResults) -> None:
    """Add the mean contribution of every modality, a row per condition and tested corpus."""
    contributions = _mean_contributions(experiment)
    if not contributions:
        raise MissingSectionError(
            "The runs keep no measured contributions: they have one modality, or an earlier version trained them."
        )
    used = [m for m in MODALITIES if any(m in means for means in contributions.values())]
    records: list[dict[str, Any]] = []
    for row in experiment.counted:
        means = [contributions[run, row.corpus] for run in row.runs if (run, row.corpus) in contributions]
        if means:
            record: dict[str, Any] = {"tested on": experiment.tested_on(row), "trained on": row.condition}
            for m in used:
                values = [mean[m] for mean in means if m in mean]
                record[m] = f"{100 * np.mean(values):.1f}" if values else None
            records.append(record)
    title = "Points by which the probability of the predicted class falls when a modality is left out."
    note = (
        "Mean over the test utterances that have the modality and another one, and over the runs (seeds). "
        "Below zero: without it the network is surer."
    )
    page.table(ResultTable(title, records, [note]))


def _mean_contributions(experiment: ExperimentResults) -> dict[tuple[str, str], dict[str, float]]:
    """(run, corpus) -> modality -> mean contribution, of those that were measured."""
    columns = ", ".join(f"avg(contributions['{m}'])" for m in MODALITIES)
    rows = experiment.store.sql(
        f"select run, p.corpus, {columns} from predictions p join runs using (run) "
        f"where experiment = {quoted(experiment.name)} group by all order by all"
    ).fetchall()
    contributions = {}
    for run, corpus, *values in rows:
        means = {m: float(value) for m, value in zip(MODALITIES, values, strict=True) if value is not None}
        if means:
            contributions[run, corpus] = means
    return contributions

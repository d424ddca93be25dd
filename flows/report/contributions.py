"""What each modality adds: the fall of the predicted class's probability when it is left out at inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from merloco.flows.report.data import ExperimentResults
from merloco.flows.report.page import MissingSectionError, Page
from merloco.flows.results.tables import ResultTable
from merloco.flows.results.text import in_order


def add_contributions(page: Page, experiment: ExperimentResults) -> None:
    """Add the mean contribution of every modality, a row per condition and tested corpus."""
    contributions = _mean_contributions(experiment)
    if not contributions:
        raise MissingSectionError(
            "The runs keep no measured contributions: they have one modality, or an earlier version trained them."
        )
    used = in_order(m for means in contributions.values() for m in means)
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
    rows = experiment.store.sql(
        "select run, corpus, c.key, avg(c.value) from predictions, unnest(map_entries(contributions)) entries(c) "
        "where list_contains(?, run) and c.value is not null group by all order by all",
        [list(experiment.configs)],
    ).fetchall()
    contributions: dict[tuple[str, str], dict[str, float]] = {}
    for run, corpus, modality, value in rows:
        contributions.setdefault((run, corpus), {})[modality] = float(value)
    return contributions

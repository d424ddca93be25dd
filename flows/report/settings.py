"""The settings of an experiment's runs: what it takes to get the numbers again."""

from __future__ import annotations

from collections.abc import Sequence

from merloco.flows.report.conditions import flatten
from merloco.flows.report.data import ExperimentResults
from merloco.flows.report.page import Page
from merloco.flows.results.tables import ResultTable

MAX_VALUES = 6
"""Most different values of a setting that are listed."""


def add_settings(page: Page, experiment: ExperimentResults) -> None:
    """Add every setting of the runs, and the versions that trained them."""
    settings: dict[str, dict[str, None]] = {}
    for run, config in experiment.configs.items():
        state = {key: experiment.environments[run].get(key, {}) for key in ("versions", "git")}
        for key, value in flatten({**config, **state}).items():
            if key != "experiment" and ".labels." not in key and value != "None":
                settings.setdefault(key, {})[value] = None
    records = [{"setting": key, "value": _listed(list(values))} for key, values in settings.items()]
    note = 'Settings of single runs: merloco sql "select run, config from runs".'
    page.table(ResultTable("Settings of all runs; where they differ between runs, all values.", records, [note]))


def _listed(values: Sequence[str]) -> str:
    shown = ("; " if any("," in value for value in values) else ", ").join(values[:MAX_VALUES])
    return f"{shown} and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else shown

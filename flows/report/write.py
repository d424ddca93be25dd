"""`merloco report`: one HTML file about an experiment that needs no network, made from what the store holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from merloco.features.store import FeatureStore
from merloco.flows.report.conditions import flat
from merloco.flows.report.contributions import add_contributions
from merloco.flows.report.curves import add_curves
from merloco.flows.report.data import Experiment, load_experiment
from merloco.flows.report.page import Page, Table, Tabular
from merloco.flows.report.scores import add_scores
from merloco.flows.report.transfer import add_confusion, add_recall, add_transfer
from merloco.flows.report.utterances import add_coverage, add_hardest, add_projections
from merloco.pipelines.files.atomic import atomic_path

SHOWN_VALUES = 6
"""Most different values of a setting that are listed."""


def write_report(
    store: FeatureStore,
    experiment: str,
    path: Path,
    tables: Sequence[Tabular] = (),
    why_not: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the report of one experiment; the same store gives the same bytes.

    Args:
        store: The store.
        experiment: Name under `store/runs`.
        path: The HTML file to write.
        tables: Tables to begin with: those of `merloco.flows.report.paper.paper_tables`.
        why_not: Why there are none.
        progress: Called with (done, total) while intervals are computed.

    Returns:
        Size of the file in bytes.

    Raises:
        DataError: The experiment has no run.
    """
    loaded = load_experiment(store, experiment, progress)
    page = Page(f"Emotion recognition: experiment {experiment}")
    page.facts(_facts(loaded))
    if tables:
        page.section("Tables of the protocol")
    elif why_not:
        page.absent("Tables of the protocol", why_not)
    for table in tables:
        page.table(table)
    add_scores(page, loaded)
    add_transfer(page, loaded)
    add_recall(page, loaded)
    add_confusion(page, loaded)
    add_contributions(page, store, loaded)
    add_curves(page, loaded)
    add_coverage(page, store, loaded)
    add_projections(page, store, loaded)
    add_hardest(page, store, loaded)
    page.section("Settings")
    page.table(_settings(loaded))
    with atomic_path(path) as temporary:
        temporary.write_text(page.html(), encoding="utf-8", newline="\n")
    return path.stat().st_size


def _facts(experiment: Experiment) -> dict[str, str]:
    configs = list(experiment.configs.values())
    seeds = experiment.seeds
    return {
        "Protocol": ", ".join(sorted({config["protocol"] for config in configs})),
        "Runs": f"{len(configs)} (seeds {', '.join(map(str, seeds))})",
        "Features": ", ".join(sorted({config["feature_set"] for config in configs})),
        "Trained on": ", ".join(dict.fromkeys(c for config in configs for c in config["train"])),
        "Tested on": ", ".join(experiment.corpora),
    }


def _settings(experiment: Experiment) -> Table:
    """Every setting of the runs, and the versions that trained them: what it takes to get the numbers again."""
    values: dict[str, list[str]] = {}
    for run, config in experiment.configs.items():
        state = {key: experiment.environments[run].get(key, {}) for key in ("versions", "git")}
        for key, value in flat({**config, **state}).items():
            if ".labels." in key or value == "None":
                continue
            known = values.setdefault(key, [])
            if value not in known:
                known.append(value)
    rows = [{"setting": key, "value": _listed(known)} for key, known in values.items() if key != "experiment"]
    note = 'Settings of single runs: merloco sql "select run, config from runs".'
    title = "Settings of all runs; where they differ between runs, all values."
    return Table(title, ["setting", "value"], rows, [note])


def _listed(values: Sequence[str]) -> str:
    shown = ("; " if any("," in value for value in values) else ", ").join(values[:SHOWN_VALUES])
    return f"{shown} and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else shown

"""`merloco report`: one HTML file about an experiment that needs no network, made from what the store holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from merloco.features.store import FeatureStore
from merloco.flows.report.conditions import flatten
from merloco.flows.report.contributions import add_contributions
from merloco.flows.report.curves import add_curves
from merloco.flows.report.data import ExperimentResults, load_experiment
from merloco.flows.report.definition import DefinedRuns
from merloco.flows.report.page import MissingSectionError, Page
from merloco.flows.report.scores import add_scores
from merloco.flows.report.transfer import add_confusion, add_recall, add_transfer
from merloco.flows.report.utterances import add_coverage, add_hardest, add_projections
from merloco.flows.results.tables import ResultTable
from merloco.pipelines.files.atomic import atomic_path

MAX_VALUES = 6
"""Most different values of a setting that are listed."""


def write_report(
    store: FeatureStore,
    experiment: str,
    path: Path,
    tables: Sequence[ResultTable] = (),
    why_not: str = "",
    progress: Callable[[int, int], None] | None = None,
    defined: DefinedRuns | None = None,
) -> int:
    """Write the report of one experiment; the same store gives the same bytes.

    Args:
        store: The store.
        experiment: Name under `store/runs`.
        path: The HTML file to write.
        tables: Tables to begin with: those of `merloco.flows.report.paper.paper_tables`.
        why_not: Why there are none.
        progress: Called with (done, total) while intervals are computed.
        defined: Which of its runs to show, where that is known already.

    Returns:
        Size of the file in bytes.

    Raises:
        DataError: The experiment has no run.
    """
    results = load_experiment(store, experiment, progress, defined)
    page = Page(f"Emotion recognition: experiment {experiment}", _facts(results))
    if tables or why_not:
        page.section("Tables of the protocol")
        if not tables:
            page.text(why_not)
    for table in tables:
        page.table(table)
    for title, add in SECTIONS.items():
        page.section(title)
        try:
            add(page, results)
        except MissingSectionError as why:
            page.text(str(why))
    with atomic_path(path) as temporary:
        temporary.write_text(page.html(), encoding="utf-8", newline="\n")
    return path.stat().st_size


def _facts(experiment: ExperimentResults) -> dict[str, str]:
    configs = list(experiment.configs.values())
    seeds = sorted({config["seed"] for config in configs})
    left_out = experiment.defined.left_out
    return {
        "Protocol": ", ".join(sorted({config["protocol"] for config in configs})),
        "Runs": f"{len(configs)} (seeds {', '.join(map(str, seeds))})",
        "Features": ", ".join(sorted({config["feature_set"] for config in configs})),
        "Trained on": ", ".join(dict.fromkeys(c for config in configs for c in config["train"])),
        "Tested on": ", ".join(experiment.corpora),
        **({"Left out": left_out} if left_out else {}),
    }


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


SECTIONS: dict[str, Callable[[Page, ExperimentResults], None]] = {
    "Scores": add_scores,
    "Transfer between corpora": add_transfer,
    "Recall per class": add_recall,
    "Confusion": add_confusion,
    "Contribution of modalities": add_contributions,
    "Learning curves": add_curves,
    "Coverage": add_coverage,
    "Embeddings": add_projections,
    "Hardest utterances": add_hardest,
    "Settings": add_settings,
}
"""Title -> what fills the section, in the order of the page."""

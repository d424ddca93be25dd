"""Which runs of an experiment belong to it as the catalog defines it now; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

from merloco.features.query.matrices import load_matrices
from merloco.features.runs import run_path
from merloco.features.store import FeatureStore
from merloco.flows.experiments.jobs import plan_jobs
from merloco.flows.experiments.plan import Plan, RunSummary, experiment_plan
from merloco.flows.experiments.rounds import all_rounds
from merloco.flows.results.search import chosen_runs
from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.protocols import Cell
from merloco.pipelines.errors import DataError


@dataclass(frozen=True, slots=True)
class DefinedRuns:
    """The runs of an experiment that its present definition asks for and the store holds."""

    experiment: str
    stored: int
    """How many runs the store holds under the experiment's name."""
    runs: frozenset[str]
    """Names of those that belong to it."""
    plan: Plan | None
    outcomes: list[RunSummary]
    """Those that the tables of its protocol show."""
    why: str = ""
    """Why no run belongs to it."""
    not_chosen: int = 0
    """Runs of settings that a search tried and did not choose: they belong to it, and their test scores to nobody."""

    @property
    def left_out(self) -> str:
        """A sentence on the runs that a report does not show; empty where it shows all."""
        others = self.stored - len(self.runs) - self.not_chosen
        sentences = []
        if self.not_chosen:
            sentences.append(f"{self.not_chosen} runs of the search were not chosen on validation and are left out.")
        if self.runs and others:
            sentences.append(
                f"{others} of the {self.stored} runs of this name in the store are not of the experiment as the "
                "catalog defines it now and are left out: their settings, label maps, samples or features are others. "
                f"`merloco runs list --experiment {self.experiment}` lists all."
            )
        return " ".join(sentences)


def defined_runs(store: FeatureStore, name: str) -> DefinedRuns:
    """The runs of a named experiment of the catalog under its present definition.

    None belongs to it where the catalog has no such experiment (`train`), or the store no run of it as it is defined
    now (another label map, features extracted again).
    """
    query = "select count(*)::int, list_sort(list(distinct seed)) from runs where experiment = ?"
    stored, seeds = store.sql(query, [name]).fetchall()[0]
    if name not in store.catalog.experiments:
        why = f"The catalog has no experiment {name!r}, whose protocol would say which tables."
        return DefinedRuns(name, stored, frozenset(), None, [], why)
    try:
        plan = experiment_plan(store, name, tuple(seeds or ()))
        runs, outcomes = _stored(store, plan)
    except (DataError, ModelError) as error:  # a corpus or a checkpoint is gone: the runs are of another definition
        why = f"The experiment cannot be planned as the catalog defines it now: {error}"
        return DefinedRuns(name, stored, frozenset(), None, [], why)
    why = (
        ""
        if runs
        else (
            "No run of the store is of the experiment as it is defined now: label maps, samples, features or settings "
            f"have changed since. `merloco experiment {name}` trains it again."
        )
    )
    shown = runs
    if plan.protocol == "search":
        shown = runs & {outcome.path.name for outcome in chosen_runs(outcomes)}
    return DefinedRuns(name, stored, shown, plan, outcomes, why, len(runs) - len(shown))


def _stored(store: FeatureStore, plan: Plan) -> tuple[frozenset[str], list[RunSummary]]:
    """Names of a plan's runs that are in the store, and what they come to.

    An ablation compares, so of its outcomes corpora are whole or left out.
    """
    runs: set[str] = set()

    def look_up(cells: Plan) -> list[RunSummary]:
        found, stored = _look_up(store, cells)
        runs.update(found)
        return stored

    outcomes = all_rounds(plan, look_up)
    return frozenset(runs), outcomes


def _look_up(store: FeatureStore, plan: Plan) -> tuple[set[str], list[RunSummary]]:
    """What `_stored` gives, of a plan's own cells."""
    runs: set[str] = set()
    outcomes: dict[Cell, list[RunSummary]] = {}
    for job in plan_jobs(store, plan, skip=lambda _: None, load=_rows):
        paths = (run_path(store.root, config) for config in (job.config, *job.nullified_configs))
        runs.update(path.name for path in paths if (path / "config.json").is_file())
        stored = outcomes.setdefault(job.cell, [])
        outcome = job.stored(store.root)
        if outcome is not None:
            stored.append(outcome)
    torn = {c for cell in outcomes if not outcomes[cell] for c in cell.fold.test if plan.protocol == "ablation"}
    whole = [outcome for cell, stored in outcomes.items() if not torn & set(cell.fold.test) for outcome in stored]
    return runs, whole


def _rows(store: FeatureStore, feature_set: str, corpora: tuple[str, ...], modalities: list[str]) -> Dataset | None:
    """Rows as training has them, but for the vectors: which modality they have decides a run's config, not its values.

    The store's runs alone would not tell: one with fewer modalities may have been trained so by choice.
    """
    try:
        return load_matrices(store, feature_set, corpora, modalities, vectors=False)
    except DataError:  # not extracted, or no longer: no run is of these features, but others may be there
        return None

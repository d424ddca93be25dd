"""Systems: the runs, folds times seeds, of one setting, named by an experiment, by `setting=value`, or by one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from merloco.features.runs import find_run, read_config, run_folders, run_identity
from merloco.flows.experiments.references import REFERENCE
from merloco.flows.results.selectors import (
    EXAMPLE,
    differing_settings,
    flatten_settings,
    matches,
    parse_name,
    value_text,
)
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.errors import UsageError, suggest
from merloco.pipelines.files.hashing import canonical_json

DATA = frozenset(
    {"views", "trained_on", "vectors", "rows", "label_maps", "training", "also", "version", "fusion_version"}
)
"""Keys of a config that are no settings: what the data were, and settings under names of their own."""
FOLD = frozenset({"train", "test", "seed", "fold.name"})
"""Settings in which the runs of one system differ."""
PURPOSE = frozenset({"experiment", "protocol"})
"""Settings that say what a run is for: the same run may serve several."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run by its settings."""

    folder: Path
    config: Mapping[str, Any]
    collapsed: tuple[str, ...] = ()
    """Tested corpora for every row of which it predicts the same class."""

    @cached_property
    def identity(self) -> str:
        """Equal for two runs of one result, for example of two experiments."""
        return run_identity(self.config)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Setting -> value, as selectors name them; one that is younger than the run has its default.

        Training settings and label maps (`map.CORPUS`) stand beside what else decides the result.
        """
        maps = {f"map.{corpus}": entry["map"] for corpus, entry in self.config.get("label_maps", {}).items()}
        own = {key: value for key, value in self.config.items() if key not in DATA}
        defaults = {"nullify": [], "task": "single", "selected_on_test": []}
        training = {**Training().model_dump(), **self.config.get("training", {})}
        return flatten_settings({**defaults, **training, **maps, **own})

    @property
    def system(self) -> dict[str, Any]:
        """The settings that all runs of a system on one fold share."""
        return {key: value for key, value in self.settings.items() if key not in FOLD | PURPOSE}

    @cached_property
    def setting(self) -> str:
        """Equal for two runs that differ in their seed alone, data included."""
        return run_identity({**self.config, "seed": None})

    @property
    def train(self) -> tuple[str, ...]:
        """Training corpora, in order of their names."""
        return tuple(sorted(self.config["train"]))

    def fold(self, corpus: str) -> Fold:
        """The fold that it is of, tested on a corpus."""
        return Fold(self.train, corpus, self.config.get("fold", {}).get("name"))


@dataclass(frozen=True, slots=True)
class Fold:
    """What was learned from and what is tested: the place where systems meet."""

    train: tuple[str, ...]
    corpus: str
    name: str | None = None
    """Of a fold of a cross-validation."""

    def __str__(self) -> str:
        name = "" if self.name is None else f", fold {self.name}"
        return f"{self.corpus}{name} (trained on {', '.join(self.train)})"


@dataclass(frozen=True, slots=True)
class System:
    """All runs of one setting."""

    name: str
    runs: Mapping[Fold, Mapping[int, StoredRun]]
    """Fold -> seed -> run."""
    older: int = 0
    """Runs of the same settings, fold and seed on other data or by another version, which are left out."""

    @property
    def all_runs(self) -> list[StoredRun]:
        """Each once, also where it is tested on several corpora."""
        return list({run.folder: run for seeds in self.runs.values() for run in seeds.values()}.values())

    @property
    def single(self) -> StoredRun | None:
        """Its run where it has only one."""
        runs = self.all_runs
        return runs[0] if len(runs) == 1 else None


def find_systems(store: Path, names: Sequence[str], experiment: str | None = None) -> list[System]:
    """The systems that some names mean.

    Args:
        store: Root of the store.
        names: Each an experiment, `setting=value` (several joined by commas, also behind an experiment), or a run.
        experiment: Only its runs.

    Raises:
        DataError: The store has no run.
        UsageError: A name means no run, or runs of several settings.
    """
    stored = [_stored_run(folder) for folder in run_folders(store)]
    if not stored:
        find_run(store)  # says how to make one
    if experiment is not None:
        known = {run.config["experiment"] for run in stored}
        if experiment not in known:
            raise UsageError(f"no experiment {experiment!r} in the store: {suggest(experiment, known)}")
        stored = [run for run in stored if run.config["experiment"] == experiment]
    return [_find_system(store, stored, name) for name in names]


def _stored_run(folder: Path) -> StoredRun:
    record = read_config(folder)
    return StoredRun(folder, record["config"], tuple(record["environment"].get("collapsed") or ()))


def system_of(name: str, folders: Sequence[Path]) -> System:
    """Runs as one system; raises `UsageError` where the runs of a fold have several settings."""
    return _system(name, [_stored_run(folder) for folder in folders])


def _find_system(store: Path, stored: Sequence[StoredRun], name: str) -> System:
    own, selectors = parse_name(name)
    known = {run.config["experiment"] for run in stored}
    if own is not None and own not in known:
        if selectors:
            raise UsageError(f"{name!r}: no experiment {own!r} in the store: {suggest(own, known)}")
        return _one_run(store, stored, own, known)
    chosen = [run for run in stored if own in (None, run.config["experiment"])]
    for key, wanted in selectors.items():
        _check_value(stored, name, key, wanted)
    if not {"nullify", "protocol"} & selectors.keys():  # a score without a modality is no score of the system
        chosen = [run for run in chosen if not run.settings["nullify"]]
    if own is None and not {"fusion", "experiment", "protocol"} & selectors.keys():  # baselines stand beside all runs
        chosen = [run for run in chosen if run.config["protocol"] != REFERENCE]
    chosen = [run for run in chosen if all(matches(run.settings.get(k), wanted) for k, wanted in selectors.items())]
    if not chosen:
        raise UsageError(f'{name!r}: no run has all of this at once; `merloco sql "from runs"` lists what there is')
    return _system(name, chosen)


def _one_run(store: Path, stored: Sequence[StoredRun], name: str, experiments: set[str]) -> System:
    names = {n for run in stored for n in (run.folder.name, f"{run.folder.parent.name}/{run.folder.name}")}
    if not any(known.startswith(name) for known in names):
        raise UsageError(f"no experiment and no run {name!r}: {suggest(name, experiments | names)}; {EXAMPLE}")
    folder = find_run(store, name)
    for run in stored:
        if run.folder == folder:
            return System(name, _by_fold([run])[0])
    raise UsageError(f"run {folder.name!r} is of the experiment {folder.parent.name!r}, not of the one asked for")


def _check_value(stored: Sequence[StoredRun], name: str, key: str, wanted: Sequence[str]) -> None:
    """Raise `UsageError` where no run of the store has such a setting or such a value of it."""
    keys = {key for run in stored for key in run.settings}
    if key not in keys:
        raise UsageError(f"{name!r}: runs have no setting {key!r}: {suggest(key, keys)}")
    if not any(matches(run.settings.get(key), wanted) for run in stored):
        values = {value_text(run.settings[key]) for run in stored if key in run.settings}
        raise UsageError(f"{name!r}: no run has {key}={','.join(wanted)}: {suggest(','.join(wanted), values)}")


def _system(name: str, chosen: Sequence[StoredRun]) -> System:
    """The runs as one system; raises `UsageError` where the runs of a fold have several settings."""
    runs, older = _by_fold(chosen)
    by_fold: dict[Fold, dict[str, StoredRun]] = {}
    for run in chosen:
        for corpus in run.config["test"]:
            settings = by_fold.setdefault(run.fold(corpus), {})
            settings[canonical_json(run.system)] = run
    for fold, distinct in by_fold.items():
        differing = differing_settings([run.system for run in distinct.values()])
        if differing:
            example = next(iter(differing))
            value = value_text(next(iter(distinct.values())).system.get(example))
            found = "; ".join(f"{key}: {', '.join(values)}" for key, values in list(differing.items())[:3])
            raise UsageError(
                f"{name!r} means {len(distinct)} systems: its runs on {fold} differ in {found}; name one, for example "
                f"{name},{example}={value}"
            )
    return System(name, runs, older)


def _by_fold(chosen: Sequence[StoredRun]) -> tuple[dict[Fold, dict[int, StoredRun]], int]:
    """Fold -> seed -> the newest run, and how many others there were that are not the same run once more."""
    runs: dict[Fold, dict[int, StoredRun]] = {}
    results: set[str] = set()
    for run in sorted(chosen, key=lambda run: ((run.folder / "config.json").stat().st_mtime_ns, run.folder)):
        results.add(run.identity)
        for corpus in run.config["test"]:
            runs.setdefault(run.fold(corpus), {})[run.config["seed"]] = run
    kept = {run.identity for seeds in runs.values() for run in seeds.values()}
    ordered = sorted(runs, key=lambda fold: (fold.corpus, fold.train, fold.name or ""))
    return {fold: runs[fold] for fold in ordered}, len(results - kept)


DISTINCT = "expected systems that differ in a setting, for example loss=plain and loss=balanced"


def require_distinct(systems: Sequence[System], seeds: bool = False) -> None:
    """Raise `UsageError` where there are not two systems, two share a run, or differ in their seeds alone.

    Args:
        systems: Those to compare.
        seeds: Let two single runs of one setting pass: that compares seeds, and the caller says so.
    """
    if len(systems) < 2:
        raise UsageError(f"{len(systems)} to compare: {DISTINCT}")
    for first, second in combinations(systems, 2):
        runs = [{run.identity for run in system.all_runs} for system in (first, second)]
        if runs[0] & runs[1]:
            same = "the same run" if max(map(len, runs)) == 1 else f"the same in {len(runs[0] & runs[1])} runs"
            raise UsageError(f"{first.name!r} and {second.name!r} are {same}: {DISTINCT}")
        side_by_side = seeds and len(systems) == 2 and first.single and second.single
        if same_setting(first, second) and not side_by_side:
            raise UsageError(
                f"{first.name!r} and {second.name!r} differ in seeds alone, which compares seeds and not systems: "
                f"{DISTINCT}"
            )


def same_setting(first: System, second: System) -> bool:
    """Whether the runs of two systems, fold by fold, differ in nothing but their seeds."""
    shared = first.runs.keys() & second.runs.keys()
    settings = [[{run.setting for run in one.runs[fold].values()} for fold in shared] for one in (first, second)]
    return bool(shared) and settings[0] == settings[1]

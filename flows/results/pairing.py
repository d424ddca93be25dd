"""Systems side by side: the folds, seeds and utterances that all of them have, and sentences on what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np

from merloco.flows.experiments.jobs import leaked_corpora
from merloco.flows.results.intervals import predictions_of
from merloco.flows.results.selectors import value_text
from merloco.flows.results.systems import Fold, StoredRun, System
from merloco.models.metrics.crossed import UnitCounts, count_units
from merloco.models.metrics.intervals import DIALOGUES, UTTERANCES, clusters_of
from merloco.pipelines.errors import DataError

By = Literal["utterance", "dialogue"]
"""What is independent, and resampled or swapped as a whole."""
Place = tuple[tuple[str, ...] | None, str, str | None, list[dict[int, StoredRun]]]
"""Training corpora, tested corpus, name of the fold, and seed -> run of each system."""


@dataclass(frozen=True, slots=True)
class PairedFold:
    """One fold that all systems were trained and tested on, with the same seeds."""

    train: tuple[str, ...] | None
    """Training corpora; None where the systems differ in them."""
    corpus: str
    name: str | None
    """Of a fold of a cross-validation."""
    seeds: tuple[int | None, ...]
    """Those that all systems have; (None,) for one run each, of whatever seed."""
    n: int
    """Utterances that every run predicted."""
    only: tuple[int, ...]
    """Per system, utterances that it predicted and not every other run did: left out."""
    resampled: str
    """`utterances` or `dialogues`."""
    classes: tuple[str, ...]
    counted: UnitCounts


def pair_systems(systems: Sequence[System], by: By | None = None) -> tuple[list[PairedFold], list[str]]:
    """The folds on which systems can be compared, and what had to be left out.

    Args:
        systems: Two or more.
        by: Whether utterances or whole dialogues are independent; None: dialogues where a corpus has enough of them.

    Raises:
        DataError: The systems have no fold, seed and utterance in common, or disagree on what is true.
    """
    notes = [f"{system.name}: {_older(system.older)}" for system in systems if system.older]
    folds: list[PairedFold] = []
    unpaired: dict[tuple[str, str], list[str]] = {}
    lost: list[str] = []
    for train, corpus, name, runs in _shared_folds(systems, lost):
        runs = _repeated(runs)
        common = set[int].intersection(*(set(own) for own in runs))
        single = not common and all(len(own) == 1 for own in runs)
        seeds: tuple[int | None, ...] = (None,) if single else tuple(sorted(common))
        if not seeds:
            has = "; ".join(f"{s.name}: {', '.join(map(str, sorted(r)))}" for s, r in zip(systems, runs, strict=True))
            lost.append(f"{corpus}: no seed in common ({has})")
            continue
        for system, own in zip(systems, runs, strict=True):
            if not single and own.keys() - common:
                extra = ", ".join(map(str, sorted(own.keys() - common)))
                unpaired.setdefault((system.name, extra), []).append(corpus)
        chosen = [list(own.values()) if single else [own[seed] for seed in sorted(common)] for own in runs]
        leaks = [s.name for s, own in zip(systems, chosen, strict=True) if corpus in leaked_corpora(own[0].config)]
        if leaks:
            lost.append(f"{corpus}: an encoder of {' and of '.join(leaks)} was trained on it")
            continue
        fold = _paired_fold(train, corpus, name, seeds, chosen, by)
        if fold is None:
            lost.append(f"{corpus}: no utterance in common")
            continue
        notes += _collapsed(systems, chosen, corpus)
        folds.append(fold)
    if not folds:
        raise DataError(f"nothing to compare: {'; '.join(lost)}")
    notes += [f"left out: {sentence}" for sentence in lost]
    for (system_name, seeds_of), corpora in unpaired.items():
        where = ", ".join(dict.fromkeys(corpora))
        notes.append(
            f"left out: runs of {system_name} with the seeds {seeds_of} on {where}, which another system lacks"
        )
    if any(len(fold.seeds) == 2 for fold in folds):
        notes.append(
            "two seeds: the difference between seeds is hardly known; intervals are wide, three to five are better"
        )
    if any(len(fold.seeds) == 1 for fold in folds):
        where = ", ".join(dict.fromkeys(fold.corpus for fold in folds if len(fold.seeds) == 1))
        notes.append(
            f"{where}: one seed each; the difference between seeds is not known, so the test speaks of these runs only"
        )
    return folds, notes


def _repeated(runs: Sequence[dict[int, StoredRun]]) -> list[dict[int, StoredRun]]:
    """Seed -> run of each system; a logistic regression has no seed, so that its run stands beside every one."""
    seeds = sorted(set[int]().union(*runs))
    once = [all(run.settings["fusion"] == "logistic" for run in own.values()) for own in runs]
    return [dict.fromkeys(seeds, own[min(own)]) if fixed else own for own, fixed in zip(runs, once, strict=True)]


def _older(number: int) -> str:
    runs = "1 older run" if number == 1 else f"{number} older runs"
    return f"{runs} of the same settings and seeds, on other data or by another version, left out"


def _shared_folds(systems: Sequence[System], lost: list[str]) -> list[Place]:
    """Where systems are compared; those that share no training corpora meet on the tested ones.

    Folds that a system lacks are added to `lost`.
    """
    shared = [fold for fold in systems[0].runs if all(fold in system.runs for system in systems)]
    if shared:
        for fold in dict.fromkeys(fold for system in systems for fold in system.runs):
            lacking = [system.name for system in systems if fold not in system.runs]
            if lacking:
                lost.append(f"{fold}: no run of {' or '.join(lacking)}")
        return [(f.train, f.corpus, f.name, [dict(system.runs[f]) for system in systems]) for f in shared]
    tested = [{corpus: _folds_on(system, corpus) for corpus in _corpora(system)} for system in systems]
    places: list[Place] = []
    for corpus in dict.fromkeys(corpus for own in tested for corpus in own):
        lacking = [s.name for s, own in zip(systems, tested, strict=True) if len(own.get(corpus, ())) != 1]
        if lacking:
            lost.append(f"{corpus}: no run, or runs trained on several sets of corpora, of {' or '.join(lacking)}")
            continue
        folds = [own[corpus][0] for own in tested]
        places.append((None, corpus, None, [dict(s.runs[fold]) for s, fold in zip(systems, folds, strict=True)]))
    return places


def _corpora(system: System) -> list[str]:
    return list(dict.fromkeys(fold.corpus for fold in system.runs))


def _folds_on(system: System, corpus: str) -> list[Fold]:
    return [fold for fold in system.runs if fold.corpus == corpus]


def _paired_fold(
    train: tuple[str, ...] | None,
    corpus: str,
    name: str | None,
    seeds: tuple[int | None, ...],
    runs: Sequence[Sequence[StoredRun]],
    by: By | None,
) -> PairedFold | None:
    """Counts of the utterances that all runs predicted; None where there is none."""
    tables = [[predictions_of(run.folder, corpus) for run in own] for own in runs]
    every = [table for own in tables for table in own]
    shared = reduce(np.intersect1d, [ids for ids, *_ in every])
    if not len(shared):
        return None
    places = [np.searchsorted(ids, shared) for ids, *_ in every]
    truths = np.stack([table[1][place] for table, place in zip(every, places, strict=True)])
    _require_one_truth(corpus, shared, truths)
    predictions = np.stack([table[2][place] for table, place in zip(every, places, strict=True)])
    clusters = every[0][3][places[0]]
    groups = {"utterance": None, "dialogue": clusters, None: clusters_of(clusters)}[by]
    if groups is not None and len(np.unique(groups)) < 2:
        raise DataError(f"{corpus}: all {len(shared)} shared utterances are of one dialogue: use --by utterance")
    names = np.unique(np.concatenate([truths[0], predictions.ravel()]))
    coded = np.searchsorted(names, predictions).reshape(len(runs), len(seeds), len(shared))
    counted = count_units(np.searchsorted(names, truths[0]), coded, len(names), shared if groups is None else groups)
    return PairedFold(
        train=train,
        corpus=corpus,
        name=name,
        seeds=seeds,
        n=len(shared),
        only=tuple(len(set().union(*(ids.tolist() for ids, *_ in own))) - len(shared) for own in tables),
        resampled=UTTERANCES if groups is None else DIALOGUES,
        classes=tuple(names.tolist()),
        counted=counted,
    )


def _require_one_truth(corpus: str, ids: np.ndarray, truths: np.ndarray) -> None:
    changed = np.flatnonzero((truths != truths[0]).any(axis=0))
    if len(changed):
        place = changed[0]
        said = " and ".join(repr(name) for name in dict.fromkeys(truths[:, place].tolist()))
        raise DataError(
            f"{corpus}: the runs disagree on the truth of {len(changed)} of {len(ids)} shared utterances, for example "
            f"{ids[place]} is {said}: expected runs of one label map"
        )


def _collapsed(systems: Sequence[System], chosen: Sequence[Sequence[StoredRun]], corpus: str) -> list[str]:
    """That runs of a system predict one class for every row of a corpus."""
    notes = []
    for system, runs in zip(systems, chosen, strict=True):
        number = sum(corpus in run.collapsed for run in runs)
        if number:
            notes.append(
                f"collapsed: {number} of {len(runs)} runs of {system.name} give every row of {corpus} one class"
            )
    return notes


def differences(systems: Sequence[System]) -> dict[str, list[str]]:
    """Setting -> value of each system, for the settings in which they differ; `or` where its folds differ in it."""
    values: list[dict[str, list[str]]] = []
    for system in systems:
        found: dict[str, list[str]] = {}
        for run in system.all_runs:
            for key, value in run.system.items():
                text = value_text(value)
                found.setdefault(key, []).extend([] if text in found.get(key, []) else [text])
        values.append(found)
    keys = dict.fromkeys(key for own in values for key in own)
    texts = {key: [" or ".join(sorted(own.get(key, ["-"]))) for own in values] for key in keys}
    return {key: own for key, own in texts.items() if len(set(own)) > 1}

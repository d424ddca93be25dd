"""Entries of a catalog that contradict each other, and values that can do nothing where they stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from pydantic import ValidationError

from merloco.pipelines.catalog.entries import DROP, Experiment, Range, Training, ViewEntry
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.problems import Location, first_problem
from merloco.pipelines.errors import suggest
from merloco.pipelines.samples.schema import SAMPLE_ID

Problem = tuple[Location, str]
"""Where something is wrong, and the sentence."""
SQL_VIEWS = ("samples", "labels", "shards", "failures", "runs", "metrics", "epochs", "predictions", "findings")
"""Names that SQL gives to other things than feature views."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_USED_BY = {
    "window": ("audio", "video"),
    "step": ("audio", "video"),
    "sample_rate": ("audio",),
    "down_mix": ("audio",),
} | dict.fromkeys(("fps", "min_face_share", "faceless_frames"), ("video",))
"""Key of a view -> modalities that read it."""
_TOGETHER = ("loco", "cross_corpus", "methods")
_SEVERAL_LABELS = ("single", "ablation")


def contradictions(catalog: Catalog) -> Iterator[Problem]:
    """Everything that cannot be meant; later checks rely on what earlier ones let pass."""
    yield from _names(catalog)
    for location, problem, name, known in _references(catalog):
        if name not in known:
            yield location, f"{problem}: {suggest(name, known)}"
    for name, entry in catalog.corpora.items():
        for key, sample_id in entry.media_rules.named_clips:
            if not SAMPLE_ID.match(sample_id) or not sample_id.startswith(f"{name}/"):
                where = ("corpora", name, "media_rules", key)
                yield where, f"{'.'.join(where)}: {sample_id!r} is no sample id: expected {name}/PART/NAME"
    for name, view in catalog.views.items():
        yield from _view(name, view, catalog.modality(name))
    for name, experiment in catalog.experiments.items():
        for keys, sentence in _experiment(catalog, experiment):
            yield ("experiments", name, *keys), f"{'.'.join(('experiments', name, *keys))}: {sentence}"


def _names(catalog: Catalog) -> Iterator[Problem]:
    order = catalog.label_order
    if len(order) < 2 or len(set(order)) < len(order) or DROP in order or "" in order:
        found = ", ".join(order) or "nothing"
        yield ("label_order",), f"label_order: {found}: expected each class once, two or more, none called {DROP!r}"
    for kind in ("corpora", "views", "feature_sets", "experiments"):  # names of files and folders in the store
        names = list(getattr(catalog, kind))
        for name in names:
            if not _NAME.fullmatch(name):
                yield (kind, name), f"{kind}: {name!r} cannot be a name: expected letters, digits, '_' and '-'"
        for name in _repeated(name.lower() for name in names):
            yield (kind,), f"{kind}: two names read {name} but for capital letters: file systems confuse them"
    for name in catalog.views:
        if name.lower() in SQL_VIEWS:
            yield ("views", name), f"views: {name!r} is what SQL calls something else: expected another name"


def _references(catalog: Catalog) -> Iterator[tuple[Location, str, str, Collection[str]]]:
    """Where a name stands, what to say if it is not known, the name, and the known ones."""
    for name, view in catalog.views.items():
        where: Location = ("views", name, "encoder")
        yield where, f"views.{name}: unknown encoder {view.encoder!r}", view.encoder, catalog.encoders
    for name, feature_set in catalog.feature_sets.items():
        for modality, view_name in ((m, view) for m, views in feature_set.by_modality.items() for view in views):
            where = ("feature_sets", name, modality)
            yield where, f"feature_sets.{name}.{modality}: unknown view {view_name!r}", view_name, catalog.views
            fitting = [v for v, entry in catalog.views.items() if catalog.encoders[entry.encoder].modality == modality]
            yield where, f"feature_sets.{name}.{modality}: {view_name!r} is no {modality} view", view_name, fitting
    for name, encoder in catalog.encoders.items():
        for corpus in encoder.trained_on:
            where = ("encoders", name, "trained_on")
            yield where, f"encoders.{name}.trained_on: {corpus!r}", corpus, catalog.corpora
    for name in catalog.training:
        yield ("training", name), f"training.{name}: no such feature set", name, catalog.feature_sets
    for name, experiment in catalog.experiments.items():
        here = f"experiments.{name}"
        for set_name in experiment.feature_sets:
            where = ("experiments", name, "feature_sets")
            yield where, f"{here}.feature_sets: unknown {set_name!r}", set_name, catalog.feature_sets
        for corpus in experiment.corpora:
            yield ("experiments", name, "corpora"), f"{here}.corpora: {corpus!r}", corpus, catalog.corpora
        for key in ("maps", "multi_label"):
            for corpus in getattr(experiment, key):
                yield ("experiments", name, key), f"{here}.{key}: {corpus!r}", corpus, experiment.corpora
        for corpus, label_map in experiment.maps.items():
            where = ("experiments", name, "maps", corpus)
            problem = f"{here}.maps.{corpus}: unknown map {label_map!r}"
            yield where, problem, label_map, catalog.corpora[corpus].maps


def _view(name: str, view: ViewEntry, modality: str) -> Iterator[Problem]:
    for key, readers in _USED_BY.items():
        if modality not in readers and getattr(view, key) != ViewEntry.model_fields[key].default:
            where = ("views", name, key)
            yield where, f"views.{name}.{key}: {modality} has none: expected it in {' and '.join(readers)} views only"
    rate, unit = (view.sample_rate, "sample of sound") if modality == "audio" else (view.fps, "picture")
    for key in ("window", "step"):
        seconds = getattr(view, key)
        if seconds is not None and round(seconds * rate) < 1:
            sentence = f"{seconds:g} s are less than one {unit} at {rate:g} per second: expected {1 / rate:g} or more"
            yield ("views", name, key), f"views.{name}.{key}: {sentence}"


def _experiment(catalog: Catalog, experiment: Experiment) -> Iterator[tuple[tuple[str, ...], str]]:
    protocol = experiment.protocol
    for key in ("feature_sets", "corpora", "seeds", "multi_label"):
        for value in _repeated(getattr(experiment, key)):
            yield (key,), f"{value} is there twice: expected each once"
    if min(experiment.seeds) < 0:
        yield ("seeds",), f"{min(experiment.seeds)}: expected 0 or more"
    if protocol in _TOGETHER and len(experiment.corpora) < 2:
        yield ("corpora",), f"{experiment.corpora[0]} alone: {protocol} needs two corpora or more"
    for name in experiment.feature_sets if protocol == "ablation" else ():
        if len(catalog.feature_sets[name].views) < 2:
            yield ("feature_sets",), f"{name!r} has one view: an ablation leaves one out of two or more"
    if experiment.multi_label and protocol not in _SEVERAL_LABELS:
        known = " and ".join(_SEVERAL_LABELS)
        yield ("multi_label",), f"protocol {protocol} trains with one label: only {known} train with several"
    for corpus in experiment.multi_label:
        entry = catalog.corpora[corpus]
        label_map = experiment.maps.get(corpus, entry.map)
        if entry.maps[label_map].multi is None:
            yield ("multi_label",), f"map {label_map!r} of {corpus} has no `multi` section: it gives one label"
    if experiment.paper_protocol and all(catalog.corpora[name].reported == "test" for name in experiment.corpora):
        yield ("paper_protocol",), "no corpus of it has `reported: validation`: it would change nothing"
    each = len(experiment.seeds) * len(experiment.feature_sets)
    if experiment.search and experiment.search.budget < each:
        sentence = f"{experiment.search.budget} runs try no setting: one takes {each}, a run per seed and feature set"
        yield ("search", "budget"), sentence
    if experiment.paper_protocol and experiment.folds:
        yield ("paper_protocol",), "folds have validation rows of their own: expected one of the two"
    yield from _settings(experiment)


def _settings(experiment: Experiment) -> Iterator[tuple[tuple[str, ...], str]]:
    """Training settings that are none, each by itself."""
    pairs: list[tuple[tuple[str, ...], str, object]] = [
        (("training", key), key, value) for key, value in experiment.training.items()
    ]
    searched = experiment.search.settings if experiment.search else {}
    tried: dict[tuple[str, ...], tuple[object, ...]] = {
        ("grid", key): values for key, values in experiment.grid.items()
    }
    for key, drawn in searched.items():
        tried["search", "settings", key] = (drawn.low, drawn.high) if isinstance(drawn, Range) else drawn
    yield from (
        (("methods",), f"{value} is there twice: expected each once") for value in _repeated(experiment.methods)
    )
    pairs += [(("methods",), key, value) for method in experiment.methods for key, value in method.items()]
    for where, values in tried.items():
        if where[-1] in experiment.training:
            yield where, "stands under `training` too: expected it once"
        if not values:
            yield where, "an empty list leaves no run: expected values"
        yield from ((where, f"{value} is there twice: expected each once") for value in _repeated(values))
        pairs += [(where, where[-1], value) for value in values]
    for where, key, value in pairs:
        try:
            Training.model_validate({key: value})
        except ValidationError as error:
            yield where, first_problem(error, Training)[1].removeprefix(f"{key}: ")


def _repeated(values: Iterable[object]) -> list[str]:
    """Values that are there more than once, as Python writes them: a setting of a grid may be of any type."""
    return [value for value, times in Counter(map(repr, values)).items() if times > 1]

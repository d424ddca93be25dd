"""catalog.yaml -> frozen models. Unknown keys fail with the nearest known key; environment variables give roots."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from merloco.pipelines.catalog.entries import (
    CorpusEntry,
    EncoderEntry,
    Entry,
    Experiment,
    FeatureSet,
    Training,
    ViewEntry,
)
from merloco.pipelines.catalog.registered import add_registered_encoders
from merloco.pipelines.errors import DataError, UsageError, suggest
from merloco.pipelines.samples.schema import EMOTIONS, Modality

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

T = TypeVar("T")


class Catalog(Entry):
    """Everything in catalog.yaml, checked."""

    store: str = "store"
    label_order: tuple[str, ...] = EMOTIONS
    corpora: dict[str, CorpusEntry]
    encoders: dict[str, EncoderEntry]
    views: dict[str, ViewEntry]
    feature_sets: dict[str, FeatureSet]
    training: dict[str, Training] = Field(default_factory=dict)
    experiments: dict[str, Experiment] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _maps_follow_the_label_order(cls, raw: Any) -> Any:
        """A map that names no classes has those of `label_order`: one order for targets, tables and the store."""
        order = raw.get("label_order") if isinstance(raw, dict) else None
        if order is None:
            return raw
        corpora = raw.get("corpora")
        for entry in corpora.values() if isinstance(corpora, dict) else ():
            maps = entry.get("maps") if isinstance(entry, dict) else None
            for label_map in maps.values() if isinstance(maps, dict) else ():
                if isinstance(label_map, dict):
                    label_map.setdefault("classes", order)
        return raw

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        if not self.label_order or len(set(self.label_order)) < len(self.label_order):
            raise ValueError(f"label_order: {', '.join(self.label_order) or 'empty'}: expected each class once")
        for problem, name, known in self._references():
            if name not in known:
                raise ValueError(f"{problem}: {suggest(name, known)}")
        return self

    def _references(self) -> Iterator[tuple[str, str, Collection[str]]]:
        """What to say if a name is not known, the name, and the known ones; later references rely on earlier ones."""
        for name, view in self.views.items():
            yield f"views.{name}: unknown encoder {view.encoder!r}", view.encoder, self.encoders
        for name, feature_set in self.feature_sets.items():
            for modality, view_name in feature_set.views.items():
                yield f"feature_sets.{name}.{modality}: unknown view {view_name!r}", view_name, self.views
        for name, entry in self.encoders.items():
            for corpus in entry.trained_on:
                yield f"encoders.{name}.trained_on: {corpus!r}", corpus, self.corpora
        for name in self.training:
            yield f"training.{name}: no such feature set", name, self.feature_sets
        for name, experiment in self.experiments.items():
            where = f"experiments.{name}"
            for set_name in experiment.feature_sets:
                yield f"{where}.feature_sets: unknown {set_name!r}", set_name, self.feature_sets
            for corpus in experiment.corpora:
                yield f"{where}.corpora: {corpus!r}", corpus, self.corpora
            for corpus in (*experiment.maps, *experiment.multi_label):
                yield f"{where}: {corpus!r}", corpus, experiment.corpora
            for corpus, label_map in experiment.maps.items():
                yield f"{where}.maps.{corpus}: unknown map {label_map!r}", label_map, self.corpora[corpus].maps

    @model_validator(mode="after")
    def _names_are_names_of_files(self) -> Self:
        """Names become names of files and folders in the store: none may lead out of it."""
        for kind in ("corpora", "views", "feature_sets", "experiments"):
            for name in getattr(self, kind):
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{kind}: {name!r} cannot be a name: expected letters, digits, '_' and '-'")
        return self

    def corpus(self, name: str) -> CorpusEntry:
        """The entry of one corpus; raises `UsageError` for an unknown name."""
        return _lookup("corpus", name, self.corpora)

    def experiment(self, name: str) -> Experiment:
        """One named experiment; raises `UsageError` for an unknown name."""
        return _lookup("experiment", name, self.experiments)

    def with_maps(self, maps: dict[str, str]) -> Catalog:
        """This catalog with other active label maps: corpus -> name of one of its maps."""
        changed = {name: self.corpora[name].model_copy(update={"map": label_map}) for name, label_map in maps.items()}
        return self.model_copy(update={"corpora": {**self.corpora, **changed}})

    def view(self, name: str) -> ViewEntry:
        """The entry of one feature view; raises `UsageError` for an unknown name."""
        return _lookup("feature view", name, self.views)

    def feature_set(self, name: str) -> FeatureSet:
        """The views of one feature set; raises `UsageError` for an unknown name."""
        return _lookup("feature set", name, self.feature_sets)

    def modality(self, view: str) -> Modality:
        """Which modality a feature view reads."""
        return self.encoders[self.view(view).encoder].modality


def _lookup(kind: str, name: str, entries: dict[str, T]) -> T:
    if name not in entries:
        raise UsageError(f"unknown {kind} {name!r}: {suggest(name, entries)}")
    return entries[name]


def load_catalog(path: str | Path, store: str | Path | None = None) -> Catalog:
    """Read and check a catalog file, and add the encoders that its store brings along (`catalog.registered`).

    Args:
        path: The YAML file. `${NAME}` and `${NAME:-default}` are taken from the environment.
        store: The store folder in use; None is the catalog's own.

    Raises:
        DataError: The file is missing, is not YAML, or has an unknown key or a wrong value.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"catalog {str(path)!r} not found: run merloco in the workspace, or name the file with --catalog"
        )
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "not UTF-8 text"
        raise DataError(f"{where}: broken YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected a mapping with the keys {', '.join(Catalog.model_fields)}")
    raw = _expand(raw)
    raw = add_registered_encoders(raw, Path(store or str(raw.get("store") or Catalog.model_fields["store"].default)))
    try:
        return Catalog.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{path}: {_first_problem(error)}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would take the last one and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises `ConstructorError` where a key is there twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _expand(value: Any) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or (m[2] or ""), value)
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return value


def _first_problem(error: ValidationError) -> str:
    """One sentence for the first problem: pydantic's own report names Python types, not catalog keys."""
    problems = error.errors()
    # A misspelt key is also a missing one: the misspelling is what the user has to see.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}: {suggest(str(problem['loc'][-1]), _siblings(problem['loc'][:-1]))}{more}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing{more}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Known keys at a location of the catalog, found by walking the models' annotations."""
    model: Any = Catalog
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:  # dict[str, Entry]: the key is a user's name, its value a model
            model = model.__args__[-1]
        if not isinstance(model, type) and type(None) in getattr(model, "__args__", ()):
            model = next(item for item in model.__args__ if item is not type(None))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []

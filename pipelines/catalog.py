"""catalog.yaml -> frozen models. Unknown keys fail with the nearest known key; environment variables give roots."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.errors import DataError, UsageError, nearest
from pipelines.schema import EMOTIONS, Modality

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
DROP = "drop"

T = TypeVar("T")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class MultiLabel(_Entry):
    """How intensities become a multi-label target and one dominant label."""

    presence: float = 0.0
    """An emotion is present if its intensity is above this."""
    ties: Literal["drop", "first"] = "drop"
    all_zero: Literal["drop", "neutral"] = "drop"


class LabelMap(_Entry):
    """Native -> shared names of one corpus. Labels are data: changing a map touches no features."""

    about: str = ""
    classes: tuple[str, ...] = EMOTIONS
    labels: dict[str, str]
    """Native name -> class name, or `drop`."""
    multi: MultiLabel | None = None
    undecided: Literal["self_evaluated_happiness"] | None = None
    """Rule that gives undecided IEMOCAP utterances (xxx) a label; corpora.md 1.5."""

    @model_validator(mode="after")
    def _values_are_classes(self) -> Self:
        for native, name in self.labels.items():
            if name != DROP and name not in self.classes:
                raise ValueError(f"label {native!r} maps to unknown class {name!r}: {nearest(name, self.classes)}")
        return self

    @property
    def annotated(self) -> tuple[str, ...]:
        """Classes that this corpus can have at all, in class order."""
        reached = set(self.labels.values())
        if self.multi and self.multi.all_zero != DROP:
            reached.add(self.multi.all_zero)
        return tuple(name for name in self.classes if name in reached)


class Validation(_Entry):
    """Seeded validation carved out of the official training part."""

    by: Literal["dialogue", "utterance", "film_time"] = "dialogue"
    fraction: float = Field(0.1, gt=0, lt=1)
    size: int | None = Field(None, gt=0)
    """Exact number of utterances instead of a fraction (only with `by: utterance`)."""
    seed: int = 7


class MediaRules(_Entry):
    """Named facts about single clips, and duration limits in seconds beyond which a clip is marked."""

    known_bad: dict[str, str] = {}
    near_empty: tuple[str, ...] = ()
    over_long: tuple[str, ...] = ()
    min_seconds: float | None = None
    max_seconds: float | None = None


class CorpusEntry(_Entry):
    """One corpus: its parser, where it is, and how its labels read."""

    parser: str
    root: str = ""
    map: str
    maps: dict[str, LabelMap]
    validation: Validation | None = None
    reported: Literal["test", "validation"] = "test"
    """Official part that papers report on and that is split `test` here; AFEW's test labels are withheld."""
    test_session: int = Field(5, ge=1, le=5)
    """Session that is the test part (IEMOCAP): 1 to 5 in turn are the leave-one-session-out folds. An ingest with
    another one changes splits only, and no feature is computed again."""
    tags: Literal["strip", "keep"] = "strip"
    """Whether bracket tags such as [LAUGHTER] are taken out of the text (IEMOCAP); `native` always has them."""
    media_rules: MediaRules = MediaRules()

    @model_validator(mode="after")
    def _map_exists(self) -> Self:
        if self.map not in self.maps:
            raise ValueError(f"map {self.map!r} is not defined: {nearest(self.map, self.maps)}")
        return self


class EncoderEntry(_Entry):
    """One encoder: registered class, weights, and the corpora that those weights have seen."""

    kind: str
    modality: Modality
    checkpoint: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    layer: int | None = None
    pooling: str | None = None
    """How tokens or frames of one input become one vector, where the encoder leaves a choice."""
    trained_on: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}


class ViewEntry(_Entry):
    """A feature view: encoder + windows (seconds) + pooling over the segments."""

    encoder: str
    window: float | None = Field(None, gt=0)
    step: float | None = Field(None, gt=0)
    pooling: Literal["none", "mean", "mean_std"] = "none"
    fps: float = Field(5.0, gt=0)
    """Frames per second for pictures."""
    sample_rate: int = Field(16000, gt=0)
    """Hertz for sound, mono."""


class FeatureSet(_Entry):
    """One view per modality."""

    audio: str | None = None
    video: str | None = None
    text: str | None = None

    @property
    def views(self) -> dict[str, str]:
        """Modality -> view name, in the order audio, video, text."""
        pairs = (("audio", self.audio), ("video", self.video), ("text", self.text))
        return {modality: view for modality, view in pairs if view is not None}


class Training(_Entry):
    """Hyper-parameters of the fusion; the defaults are the paper's."""

    gated_dim: int = Field(128, gt=0)
    gate: Literal["softmax", "sigmoid"] = "softmax"
    dropout: float = Field(0.1, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    batch_size: int = Field(32, gt=0)
    epochs: int = Field(300, gt=0)
    patience: int = Field(20, gt=0)
    loss: Literal["balanced", "plain"] = "balanced"
    optimizer: Literal["adam", "adamw", "sgd", "lion"] = "adam"
    schedule: Literal["none", "cosine_restarts", "step"] = "none"
    standardize: bool = False
    """Scale every feature to zero mean and unit variance of the training rows."""


class Experiment(_Entry):
    """A named experiment: a protocol over feature sets and corpora."""

    protocol: Literal["loco", "cross_corpus", "single", "ablation", "grid"]
    about: str = ""
    feature_sets: tuple[str, ...] = Field(min_length=1)
    corpora: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    maps: dict[str, str] = {}
    """Corpus -> label map that differs from the corpus's active one."""
    multi_label: tuple[str, ...] = ()
    """Corpora trained and scored with several labels at once (protocols `single` and `ablation`)."""
    training: dict[str, Any] = {}
    """Overrides of the feature set's training settings."""
    grid: dict[str, tuple[Any, ...]] = {}
    """Training setting -> values to combine (protocol `grid`)."""
    paper_protocol: bool = False
    """Early stopping on the reported rows where the release has no other test part (AFEW), as the paper does."""

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        for name in (*self.training, *self.grid):
            if name not in Training.model_fields:
                raise ValueError(f"unknown training setting {name!r}: {nearest(name, Training.model_fields)}")
        if (self.protocol == "grid") != bool(self.grid):
            raise ValueError("`grid` and `protocol: grid` come together")
        return self


class Catalog(_Entry):
    """Everything in catalog.yaml, checked."""

    store: str = "store"
    label_order: tuple[str, ...] = EMOTIONS
    corpora: dict[str, CorpusEntry]
    encoders: dict[str, EncoderEntry]
    views: dict[str, ViewEntry]
    feature_sets: dict[str, FeatureSet]
    training: dict[str, Training] = {}
    experiments: dict[str, Experiment] = {}

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
        for name, view in self.views.items():
            if view.encoder not in self.encoders:
                raise ValueError(
                    f"views.{name}: unknown encoder {view.encoder!r}: {nearest(view.encoder, self.encoders)}"
                )
        for name, feature_set in self.feature_sets.items():
            for modality, view_name in feature_set.views.items():
                if view_name not in self.views:
                    raise ValueError(
                        f"feature_sets.{name}.{modality}: unknown view {view_name!r}: {nearest(view_name, self.views)}"
                    )
        for name, entry in self.encoders.items():
            for corpus in entry.trained_on:
                if corpus not in self.corpora:
                    raise ValueError(f"encoders.{name}.trained_on: {corpus!r}: {nearest(corpus, self.corpora)}")
        for name in self.training:
            if name not in self.feature_sets:
                raise ValueError(f"training.{name}: no such feature set: {nearest(name, self.feature_sets)}")
        for name, experiment in self.experiments.items():
            for chosen in experiment.feature_sets:
                if chosen not in self.feature_sets:
                    known = nearest(chosen, self.feature_sets)
                    raise ValueError(f"experiments.{name}.feature_sets: unknown {chosen!r}: {known}")
            for corpus in experiment.corpora:
                if corpus not in self.corpora:
                    raise ValueError(f"experiments.{name}.corpora: {corpus!r}: {nearest(corpus, self.corpora)}")
            for corpus in (*experiment.maps, *experiment.multi_label):
                if corpus not in experiment.corpora:
                    raise ValueError(f"experiments.{name}: {corpus!r}: {nearest(corpus, experiment.corpora)}")
            for corpus, label_map in experiment.maps.items():
                if label_map not in self.corpora[corpus].maps:
                    known = nearest(label_map, self.corpora[corpus].maps)
                    raise ValueError(f"experiments.{name}.maps.{corpus}: unknown map {label_map!r}: {known}")
        return self

    @model_validator(mode="after")
    def _names_are_names_of_files(self) -> Self:
        """Names become names of files and folders in the store: none may lead out of it."""
        for kind in ("corpora", "views", "feature_sets", "experiments"):
            for name in getattr(self, kind):
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{kind}: {name!r} cannot be a name: expected letters, digits, '_' and '-'")
        return self

    def corpus(self, name: str) -> CorpusEntry:
        """The entry of one corpus.

        Raises:
            UsageError: No such corpus.
        """
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
        raise UsageError(f"unknown {kind} {name!r}: {nearest(name, entries)}")
    return entries[name]


def load_catalog(path: str | Path, store: str | Path | None = None) -> Catalog:
    """Read and check a catalog file, and add the encoders that its store brings along (`pipelines.fragments`).

    Args:
        path: The YAML file. `${NAME}` and `${NAME:-default}` are taken from the environment.
        store: The store folder in use; None is the catalog's own.

    Raises:
        DataError: The file is missing, is not YAML, or has an unknown key or a wrong value.
    """
    from pipelines.fragments import add_fragments

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
    raw = add_fragments(raw, Path(store or str(raw.get("store") or Catalog.model_fields["store"].default)))
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
        key = str(problem["loc"][-1])
        return f"unknown key {where!r}: {nearest(key, _siblings(problem['loc'][:-1]))}{more}"
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

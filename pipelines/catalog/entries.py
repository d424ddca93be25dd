"""What stands in catalog.yaml, entry by entry: frozen models that refuse unknown keys."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from merloco.pipelines.catalog.problems import first_problem
from merloco.pipelines.errors import UsageError, suggest
from merloco.pipelines.samples.schema import EMOTIONS, Modality

DROP = "drop"
"""What a label map says of a native label that is out."""


class Entry(BaseModel):
    """An entry of the catalog."""

    # Strict: text is no number and a number is no truth value. Lists of a catalog come as tuples.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class MultiLabel(Entry):
    """How intensities become a multi-label target and one dominant label."""

    presence: float = Field(0.0, ge=0)
    """An emotion is present if its intensity is above this."""
    ties: Literal["drop", "first"] = "drop"
    """What the single label is where two intensities are highest."""
    all_zero: Literal["drop", "neutral"] = "drop"
    """What the single label is where no emotion is present."""


class LabelMap(Entry):
    """Native -> shared names of one corpus. Labels are data: changing a map touches no features."""

    about: str = ""
    """A sentence for readers."""
    classes: tuple[str, ...] = EMOTIONS
    """Shared class names, in order."""
    labels: dict[str, str]
    """Native name -> class name, or `drop`."""
    multi: MultiLabel | None = None
    """For corpora with intensities instead of one label."""
    undecided: Literal["self_evaluated_happiness"] | None = None
    """Rule that gives undecided IEMOCAP utterances (xxx) a label, see docs/corpora.md."""

    @model_validator(mode="after")
    def _values_are_classes(self) -> Self:
        for native, name in self.labels.items():
            if name != DROP and name not in self.classes:
                raise ValueError(f"label {native!r} maps to unknown class {name!r}: {suggest(name, self.classes)}")
        return self

    @model_validator(mode="after")
    def _some_label_counts(self) -> Self:
        if len(set(self.classes)) < len(self.classes) or DROP in self.classes:
            raise ValueError(f"classes {', '.join(self.classes)}: expected each once, none called {DROP!r}")
        if not self.annotated:
            raise ValueError("no label maps to a class: every sample would be dropped")
        if self.multi and self.multi.all_zero not in (DROP, *self.classes):
            raise ValueError(f"multi.all_zero: {self.multi.all_zero!r} is no class of it: {', '.join(self.classes)}")
        if self.undecided and not {"xxx", "hap"} <= self.labels.keys():
            raise ValueError(f"undecided: {self.undecided} is a rule for the labels 'xxx' and 'hap' of IEMOCAP")
        return self

    @property
    def annotated(self) -> tuple[str, ...]:
        """Classes that this corpus can have at all, in class order."""
        reached = set(self.labels.values())
        if self.multi and self.multi.all_zero != DROP:
            reached.add(self.multi.all_zero)
        return tuple(name for name in self.classes if name in reached)


class Validation(Entry):
    """Seeded validation carved out of the official training part."""

    by: Literal["dialogue", "utterance", "film_time"] = "dialogue"
    """What is kept whole."""
    fraction: float = Field(0.1, gt=0, lt=1)
    size: int | None = Field(None, gt=0)
    """Exact number of utterances instead of a fraction (only with `by: utterance`)."""
    seed: int = Field(7, ge=0)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size is not None and self.by != "utterance":
            raise ValueError(f"size {self.size} by {self.by}: whole groups take a fraction; a size needs by: utterance")
        if self.size is not None and "fraction" in self.model_fields_set:
            raise ValueError("a size and a fraction: expected one of them")
        return self


class MediaRules(Entry):
    """Named facts about single clips, and duration limits in seconds beyond which a clip is marked."""

    known_bad: dict[str, str] = {}
    near_empty: tuple[str, ...] = ()
    over_long: tuple[str, ...] = ()
    min_seconds: float | None = Field(None, gt=0)
    max_seconds: float | None = Field(None, gt=0)

    @property
    def named_clips(self) -> list[tuple[str, str]]:
        """Key and sample id of every clip that is named."""
        keys = ("known_bad", "near_empty", "over_long")
        return [(key, sample_id) for key in keys for sample_id in getattr(self, key)]

    @model_validator(mode="after")
    def _limits_leave_clips(self) -> Self:
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        return self


class CorpusEntry(Entry):
    """One corpus: its parser, where it is, and how its labels read."""

    parser: str
    """Name of a registered parser."""
    options: dict[str, Any] = {}
    """What this parser understands and no other; it declares and checks them itself."""
    root: str = ""
    """The unpacked release, usually from the environment: `${MELD_ROOT:-}`."""
    map: str
    """The active label map."""
    maps: dict[str, LabelMap]
    """Name -> label map."""
    validation: Validation | None = None
    """Where the release has no validation part."""
    reported: Literal["test", "validation"] = "test"
    """Official part that papers report on and that is split `test` here; AFEW's test labels are withheld."""
    media_rules: MediaRules = MediaRules()

    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        """What the catalog calls this corpus, for parsers of more than one."""
        return self._name

    def named(self, name: str) -> Self:
        """This entry with the name that the catalog gives it."""
        copy = self.model_copy()
        copy._name = name
        return copy

    @property
    def active_map(self) -> LabelMap:
        """The label map that `map` names."""
        return self.maps[self.map]

    @model_validator(mode="after")
    def _map_exists(self) -> Self:
        if self.map not in self.maps:
            raise ValueError(f"map {self.map!r} is not defined: {suggest(self.map, self.maps)}")
        return self


class EncoderEntry(Entry):
    """One encoder: registered class, weights, and the corpora that those weights have seen."""

    kind: str
    """Name of a registered encoder class."""
    modality: Modality
    checkpoint: str | None = None
    """File or folder with the weights; taken if it is there."""
    hub_id: str | None = None
    """Hugging Face model, taken where there is no checkpoint."""
    revision: str | None = None
    """Branch, tag or commit of the hub model."""
    layer: int | None = None
    """Hidden layer whose values are taken; the last by default."""
    pooling: str | None = None
    """How tokens or frames of one input become one vector, where the encoder leaves a choice."""
    trained_on: tuple[str, ...] = ()
    """Corpora that the weights have seen: leave-one-corpus-out blanks cells that test on them."""
    parameters: dict[str, Any] = {}
    """Further parameters of the kind."""

    @model_validator(mode="after")
    def _revision_of_something(self) -> Self:
        if self.revision is not None and self.hub_id is None:
            raise ValueError(f"revision {self.revision!r} of no model: expected a hub_id beside it")
        return self


class ViewEntry(Entry):
    """A feature view: encoder + windows (seconds) + pooling over the segments."""

    encoder: str
    """Name of an encoder of the catalog."""
    window: float | None = Field(None, gt=0)
    """Length of a segment, in seconds."""
    step: float | None = Field(None, gt=0)
    """Seconds from the beginning of one segment to that of the next."""
    pooling: Literal["none", "mean", "mean_std"] = "none"
    """Over the segments of a sample."""
    fps: float = Field(5.0, gt=0)
    """Frames per second for pictures."""
    sample_rate: int = Field(16000, gt=0)
    """Hertz for sound, mono."""
    down_mix: Literal["itu", "mean", "first"] = "itu"
    """How channels become one: by their places (centre 0 dB, front -3 dB, surround -6 dB, no low-frequency channel; the
    mean where a file names no places), their plain mean, or the first alone."""
    min_face_share: float = Field(0.0, ge=0, le=1)
    """Share of a clip's frames that must show a face: a face found in two frames of a landscape is no talking head."""
    faceless_frames: Literal["keep", "drop"] = "keep"
    """Whether frames without a face keep their place in time when windows are cut, or are taken out before, as the
    published code does."""

    @model_validator(mode="after")
    def _step_within_window(self) -> Self:
        if self.step is not None and (self.window is None or self.step > self.window):
            window = "no window" if self.window is None else f"a window of {self.window:g} s"
            raise ValueError(f"a step of {self.step:g} s with {window}: expected a window of that length or longer")
        return self


class FeatureSet(Entry):
    """A view per modality, or a list of views, whose vectors are put side by side."""

    audio: str | tuple[str, ...] | None = None
    video: str | tuple[str, ...] | None = None
    text: str | tuple[str, ...] | None = None

    @field_validator("audio", "video", "text", mode="wrap")
    @classmethod
    def _is_a_name_or_names(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # which names the types of the union one by one
            raise ValueError(f"expected a view or a list of views, found {value!r}") from None

    @model_validator(mode="after")
    def _has_a_view(self) -> Self:
        if not self.by_modality:
            raise ValueError("no view: expected audio, video or text")
        for modality, views in self.by_modality.items():
            if not views or len(set(views)) < len(views):
                raise ValueError(f"{modality}: [{', '.join(views)}]: expected one view or more, each once")
        return self

    @property
    def by_modality(self) -> dict[str, tuple[str, ...]]:
        """Modality -> names of its views, in the order audio, video, text."""
        pairs = (("audio", self.audio), ("video", self.video), ("text", self.text))
        return {m: (views,) if isinstance(views, str) else views for m, views in pairs if views is not None}

    @property
    def views(self) -> dict[str, str]:
        """Name of a view's vectors within the set -> name of the view, in the order of `by_modality`.

        Vectors of a modality's only view are called as the modality, those of one among several as the view.
        """
        return {
            view if len(views) > 1 else modality: view for modality, views in self.by_modality.items() for view in views
        }

    def select(self, names: Collection[str]) -> dict[str, str]:
        """Some of `views`, by their names, or by the modality of several.

        Raises:
            UsageError: A name is none of them.
        """
        known = dict.fromkeys((*self.by_modality, *self.views))
        for name in names:
            if name not in known:
                raise UsageError(f"no modality or view {name!r}: {suggest(name, known)}")
        whole = {view for modality, views in self.by_modality.items() if modality in names for view in views}
        return {name: view for name, view in self.views.items() if name in names or view in whole}


class Training(Entry):
    """Hyper-parameters of the fusion; the defaults are the paper's."""

    fusion: str = "gated"
    """The network: gated (the paper's), concat_mlp, late, attention, lmf, logistic, a plugin's, or a dotted path."""
    fusion_options: dict[str, Any] = {}
    """What the network declares to be set in it (`merloco kinds`), but for gated_dim, gate and dropout."""
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
    standardize_by: Literal["all", "corpus"] = "all"
    """Whether all training rows are scaled together or each corpus by its own; one that does not train, by all."""
    transductive: bool = False
    """With standardize_by: corpus, scale a corpus that does not train by its own features, which have no label then."""
    sampling: Literal["none", "corpus", "corpus_class"] = "none"
    """Show every row once in an epoch, or draw corpora, or classes within corpora, equally often."""
    modality_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability with which a modality of a training row is taken away; one always stays."""
    mixup: float = Field(0.0, ge=0)
    """Mix rows with rows of another corpus by a share from Beta(mixup, mixup); 0: not."""
    coral: float = Field(0.0, ge=0)
    """Weight of the difference between the corpora's covariances in front of the classifier."""
    adversarial: float = Field(0.0, ge=0)
    """Weight of the gradient against an adversary that tells the corpora apart in front of the classifier."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of a label that is spread over all classes which the corpus annotates."""
    mask_unannotated: bool = False
    """Leave classes that a row's corpus does not annotate out of its softmax; the published loss lets them lose."""
    balance: Literal["pooled", "corpus"] = "pooled"
    """Whether the balanced loss counts classes over all training corpora, as published, or within each."""
    soft_targets: bool = False
    """Train on rows of several labels and no single one too, by their shares."""
    selection: Literal["corpora", "pooled", "transfer"] = "corpora"
    """What chooses the weights: the mean of each training corpus's validation UAR, or that of all validation rows; or
    the epochs that carry over best to each training corpus while it is left out, a training more for each."""


class Range(Entry):
    """Values of a number between two bounds, both included; whole ones where the setting is a whole number."""

    low: int | float
    high: int | float
    log: bool = False
    """Every factor is as likely as any other (log-uniform), instead of every distance."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g}: a range by factors (log: true) begins above 0")
        return self


class Search(Entry):
    """Training settings that are tried; the best on validation is chosen."""

    settings: dict[str, tuple[Any, ...] | Range] = Field(min_length=1)
    """Training setting -> a list of values, or a range (`low`, `high`, `log`). Lists alone that the budget covers are a
    grid."""
    budget: int = Field(20, gt=0)
    """Most runs: settings tried times seeds times feature sets."""
    seed: int = Field(0, ge=0)
    """Of the draws; a larger budget tries the same settings first."""
    sampler: Literal["random", "tpe"] = "random"
    """`tpe`: after ten random draws, ten at a time where Optuna's tree-structured Parzen estimator expects the best
    validation score (the extra `search`)."""

    @field_validator("settings", mode="wrap")
    @classmethod
    def _are_lists_or_ranges(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # which names the types of the union one by one
            for name, values in value.items() if isinstance(value, dict) else ():
                if isinstance(values, dict):
                    try:
                        Range.model_validate(values)
                    except ValidationError as error:
                        raise ValueError(f"{name}: {first_problem(error, Range)[1]}") from None
                elif not isinstance(values, tuple):
                    raise ValueError(f"{name}: expected a list of values or low and high, found {values!r}") from None
            raise


class Folds(Entry):
    """Cross-validation at training time: every labelled row of a corpus is a test row of one fold."""

    by: Literal["session", "speaker", "dialogue", "random"]
    """What stays together; `random` takes every utterance by itself."""
    k: int | None = Field(None, ge=2)
    """How many folds; by default one of each group: leave one session, speaker or dialogue out."""
    stratified: bool = False
    """Every fold gets its share of every class as nearly as whole groups allow."""
    seed: int = Field(0, ge=0)
    """Of the choice of folds and of validation rows; the seeds of training are the experiment's."""

    @model_validator(mode="after")
    def _folds_of_something(self) -> Self:
        if self.k is None and self.by == "random":
            raise ValueError("by: random needs k, the number of folds")
        if self.k is None and self.stratified:
            raise ValueError(f"stratified needs k: leaving one {self.by} out leaves no choice")
        return self


class Experiment(Entry):
    """A named experiment: a protocol over feature sets and corpora."""

    protocol: Literal["loco", "cross_corpus", "single", "ablation", "grid", "search", "methods", "folds"]
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
    methods: tuple[dict[str, Any], ...] = ()
    """Training settings that are compared in leaving one corpus out; the first are what others gain over (protocol
    `methods`)."""
    search: Search | None = None
    """Training settings to draw from, and how often (protocol `search`)."""
    folds: Folds | None = None
    """How each corpus is cross-validated (protocol `folds`); its official parts play no part."""
    paper_protocol: bool = False
    """Early stopping on the reported rows where the release has no other test part (AFEW), as the paper does."""

    @model_validator(mode="after")
    def _settings_are_known(self) -> Self:
        tried = [name for method in self.methods for name in method]
        for name in (*self.training, *self.grid, *tried, *(self.search.settings if self.search else ())):
            if name not in Training.model_fields:
                raise ValueError(f"unknown training setting {name!r}: {suggest(name, Training.model_fields)}")
        if (self.protocol == "grid") != bool(self.grid):
            raise ValueError("`grid` and `protocol: grid` come together")
        if (self.protocol == "methods") != bool(self.methods):
            raise ValueError("`methods` and `protocol: methods` come together")
        if (self.protocol == "search") != (self.search is not None):
            raise ValueError("`search` and `protocol: search` come together")
        if (self.protocol == "folds") != (self.folds is not None):
            raise ValueError("`folds` and `protocol: folds` come together")
        return self

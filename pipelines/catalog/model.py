"""Everything in catalog.yaml: entries by name."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import Field, model_validator

from merloco.pipelines.catalog.entries import (
    CorpusEntry,
    EncoderEntry,
    Entry,
    Experiment,
    FeatureSet,
    Training,
    ViewEntry,
)
from merloco.pipelines.errors import UsageError, suggest
from merloco.pipelines.samples.schema import EMOTIONS, Modality

T = TypeVar("T")


class Catalog(Entry):
    """Everything in catalog.yaml; whether its entries go together is `merloco.pipelines.catalog.consistency`'s."""

    plugins: tuple[str, ...] = ()
    """Modules to import: their parsers and encoders can be named. The catalog's folder is looked in too."""
    store: str = Field("store", min_length=1)
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
        if not isinstance(order, tuple) or not all(isinstance(name, str) for name in order):
            return raw  # its own type says so
        if len(set(order)) < len(order):
            return raw  # `contradictions` says so
        corpora = raw.get("corpora")
        for entry in corpora.values() if isinstance(corpora, dict) else ():
            maps = entry.get("maps") if isinstance(entry, dict) else None
            for label_map in maps.values() if isinstance(maps, dict) else ():
                if isinstance(label_map, dict):
                    label_map.setdefault("classes", order)
        return raw

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

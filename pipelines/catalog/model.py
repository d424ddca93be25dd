"""Everything in catalog.yaml: entries by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, PrivateAttr, model_validator

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

    extends: str = ""
    """`merloco`, or a file: what stands here is merged into its content by key, and null removes an entry."""
    plugins: tuple[str, ...] = ()
    """Modules to import: their parsers and encoders can be named. The catalog's folder is looked in too."""
    plugin_folders: tuple[str, ...] = ()
    """Further folders in which plugins lie."""
    store: str = Field("store", min_length=1)
    label_order: tuple[str, ...] = EMOTIONS
    corpora: dict[str, CorpusEntry]
    encoders: dict[str, EncoderEntry]
    views: dict[str, ViewEntry]
    feature_sets: dict[str, FeatureSet]
    training: dict[str, Training] = Field(default_factory=dict)
    experiments: dict[str, Experiment] = Field(default_factory=dict)

    _file: Path | None = PrivateAttr(None)
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The file that it was read from."""
        return self._file

    @property
    def written(self) -> dict[str, Any]:
        """What the file says, with what it extends and variables filled in, without encoders of a store."""
        return self._written

    def read_from(self, file: Path, written: dict[str, Any]) -> Self:
        """Note the file, and what it says."""
        self._file, self._written = file, written
        return self

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

"""What to fine-tune: the base, the view that the new encoder will have, and its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from merloco.features.catalog import load_catalog
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView, resolve_view
from merloco.flows.arguments import corpus_root
from merloco.models.finetune.registry import KINDS
from merloco.models.finetune.run import FinetuneConfig
from merloco.pipelines.catalog.entries import EncoderEntry, ViewEntry
from merloco.pipelines.catalog.model import Catalog
from merloco.pipelines.catalog.registered import registered_encoders
from merloco.pipelines.errors import UsageError, suggest
from merloco.pipelines.samples.schema import MODALITIES, Modality

RATES = {"audio": 3e-5, "video": 1e-4, "text": 2e-5}
"""Learning rates of pretrained encoders, as they are usual for each kind of network."""
GENERIC = {"audio": "hf_audio", "video": "hf_vision", "text": "hf_text"}
"""Encoder kinds of bases that the catalog does not name."""
WINDOW, STEP = 4.0, 2.0
"""Seconds (paper: segmentation) of sound where the base's view has no windows."""
NAME = re.compile(r"^[A-Za-z]\w*$", re.ASCII)


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """One encoder to fine-tune on one corpus, as names and settings: what a finetune task takes."""

    catalog: str
    store: str
    modality: Modality
    corpus: str
    base: str
    """An encoder of the catalog, a model folder, or a hub id."""
    features: str
    """The feature set that gets a variant with the new encoder."""
    name: str
    root: str
    settings: FinetuneConfig
    device: str = "cpu"
    known_base: bool = True
    """The base is an encoder of the catalog, which says what it was trained on."""


def plan_job(
    catalog: str,
    store: str | None,
    modality: str,
    corpus: str,
    *,
    base: str | None = None,
    features: str = "published",
    name: str | None = None,
    roots: Mapping[str, str] | None = None,
    device: str = "cpu",
    **settings: Any,
) -> FinetuneJob:
    """Check names and fill defaults in, before anything long begins.

    Args:
        catalog: Path of the catalog.
        store: Store folder; None is the catalog's.
        modality: `audio`, `video` or `text`.
        corpus: An ingested corpus.
        base: See `FinetuneJob`; None is the encoder of `features`.
        features: See `FinetuneJob`.
        name: Of the new encoder and its view; None makes one of base and corpus.
        roots: Corpus -> folder, where the catalog and the ingest do not say.
        device: Where to train.
        settings: Fields of `FinetuneConfig` that differ from the defaults.

    Raises:
        UsageError: A name is unknown, is taken, or does not go with another.
        DataError: The corpus was not ingested.
        ModelError: The base cannot be fine-tuned, or its weights are not there.
    """
    if modality not in MODALITIES:
        raise UsageError(f"unknown modality {modality!r}: {suggest(modality, MODALITIES)}")
    chosen = cast(Modality, modality)
    opened = FeatureStore.open(store, load_catalog(catalog, store))
    opened.corpora([corpus])
    base = base or default_base(opened.catalog, features, chosen)
    entry = base_entry(opened.catalog, chosen, base)
    if entry.kind not in KINDS:
        raise UsageError(
            f"encoder {base!r} ({entry.kind}) has no weights to fine-tune: give --base another {modality} encoder, a "
            f"model folder or a hub id, or --features a set whose {modality} encoder is a network, such as published"
        )
    name = name or default_name(base, corpus)
    check_name(opened.catalog, opened.root, name)
    job = FinetuneJob(
        catalog=catalog,
        store=str(opened.root),
        modality=chosen,
        corpus=corpus,
        base=base,
        features=features,
        name=name,
        root="" if modality == "text" else str(corpus_root(opened.catalog, corpus, roots or {}, opened.root)),
        settings=FinetuneConfig(**{"learning_rate": RATES[chosen], **settings}),
        device=device,
        known_base=base in opened.catalog.encoders,
    )
    base_view(opened.catalog, job)
    return job


def default_base(catalog: Catalog, features: str, modality: Modality) -> str:
    """The encoder of a feature set.

    Raises:
        UsageError: The feature set has none, or several, for this modality.
    """
    views = catalog.feature_set(features).by_modality.get(modality, ())
    if len(views) != 1:
        found = f"the views {', '.join(views)}" if views else "no view"
        raise UsageError(f"feature set {features!r} has {found} for modality {modality!r}: name an encoder with --base")
    return catalog.view(views[0]).encoder


def default_name(base: str, corpus: str) -> str:
    """For example `text_published_meld`, or `wav2vec2_base_meld` of facebook/wav2vec2-base: usable in SQL as it is."""
    stem = re.sub(r"\W+", "_", Path(base).name, flags=re.ASCII).strip("_")
    return f"{stem if stem[:1].isalpha() else f'encoder_{stem}'}_{corpus}"


def check_name(catalog: Catalog, store: Path, name: str) -> None:
    """Raise `UsageError` unless a new encoder can have this name."""
    if not NAME.match(name):
        raise UsageError(f"--name {name!r}: expected a letter, then letters, digits and _, so that SQL can use it")
    if name not in registered_encoders(store) and (name in catalog.encoders or name in catalog.views):
        raise UsageError(f"--name {name!r}: the catalog has an encoder or a view of that name: give another one")


def base_entry(catalog: Catalog, modality: Modality, base: str) -> EncoderEntry:
    """What to start from: an encoder of the catalog, else a Hugging Face model.

    Raises:
        UsageError: Neither, or an encoder of another modality.
    """
    if base in catalog.encoders:
        entry = catalog.encoders[base]
        if entry.modality != modality:
            raise UsageError(f"--base {base!r} encodes {entry.modality}, not {modality}")
        return entry
    if Path(base).exists():
        return EncoderEntry(kind=GENERIC[modality], modality=modality, checkpoint=base)
    if "/" in base:
        return EncoderEntry(kind=GENERIC[modality], modality=modality, hub_id=base)
    known = suggest(base, [name for name, entry in catalog.encoders.items() if entry.modality == modality])
    raise UsageError(f"--base {base!r} is no {modality} encoder of the catalog, no folder and no hub id: {known}")


def view_entry(catalog: Catalog, modality: Modality, base: str, features: str, encoder: str) -> ViewEntry:
    """The view of the new encoder: cut and pooled as its base is, else as the feature set's encoder."""
    own = catalog.feature_set(features).by_modality.get(modality, ())
    used = [name for name in (*own, *catalog.views) if catalog.view(name).encoder == base]
    entry = catalog.view((*used, *own)[0]) if used or own else ViewEntry(encoder=encoder)
    if modality == "audio" and entry.window is None:
        entry = entry.model_copy(update={"window": WINDOW, "step": STEP, "pooling": "mean_std"})
    return entry.model_copy(update={"encoder": encoder})


def base_view(catalog: Catalog, job: FinetuneJob) -> FeatureView:
    """The view that the new encoder will have, with its base in its place."""
    entry = base_entry(catalog, job.modality, job.base)
    view = view_entry(catalog, job.modality, job.base, job.features, job.name)
    update = {"encoders": {**catalog.encoders, job.name: entry}, "views": {**catalog.views, job.name: view}}
    return resolve_view(catalog.model_copy(update=update), job.name)


def classes_of(store: FeatureStore, corpus: str) -> tuple[str, ...]:
    """Class names of a corpus under its active label map."""
    entry = store.catalog.corpus(corpus)
    return entry.active_map.classes


def mask_of(store: FeatureStore, corpus: str) -> np.ndarray:
    """Bool (K,): the classes that the corpus annotates."""
    entry = store.catalog.corpus(corpus)
    return np.isin(classes_of(store, corpus), entry.active_map.annotated)

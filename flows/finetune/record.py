"""The fine-tuned encoder in its store: weights first, then the `encoder.json` that makes it known to the catalog."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.flows.finetune.plan import FinetuneJob, view_entry
from merloco.models.encoders.base import EncoderSpec
from merloco.models.finetune.loop import Finetuned
from merloco.models.finetune.run import TrainingUnits
from merloco.pipelines.catalog.entries import EncoderEntry
from merloco.pipelines.catalog.registered import (
    PATH_PARAMETERS,
    RegisteredEncoder,
    encoder_folder,
    registered_encoders,
    write_registered_encoder,
)
from merloco.pipelines.files.atomic import atomic_folder, usual_mode

WEIGHTS = "weights"


def about_run(
    classes: tuple[str, ...],
    job: FinetuneJob,
    config: dict[str, Any],
    result: Finetuned,
    train: TrainingUnits,
    val: TrainingUnits,
    left_out: dict[str, int],
) -> dict[str, Any]:
    """How an encoder came about: what it learned from, how it went, and everything that decided it."""
    return {
        "base": Path(job.base).name if Path(job.base).exists() else job.base,
        "corpus": job.corpus,
        "classes": list(classes),
        "utterances": {"train": len(np.unique(train.sample_index)), "val": len(np.unique(val.sample_index))},
        "units": {"train": len(train.units), "val": len(val.units)},
        "left_out": left_out,
        "val_uar": {"before": result.uar_before, "after": result.uar_after},
        "best_epoch": result.best_epoch,
        "history": result.history,
        "versions": {tool: version(tool) for tool in ("merloco", "torch", "transformers")},
        "config": config,
    }


def register(
    store: FeatureStore,
    job: FinetuneJob,
    view: FeatureView,
    save: Callable[[Path], EncoderSpec],
    about: dict[str, Any],
) -> RegisteredEncoder:
    """Write the weights, then the `encoder.json` that makes them known.

    Args:
        store: The store.
        job: What was fine-tuned.
        view: The view with the base in it.
        save: Writes the weights into a folder and describes them (`merloco.models.finetune.trainable.Trainable.save`).
        about: See `about_run`.
    """
    folder = encoder_folder(store.root, job.name)
    with atomic_folder(folder / WEIGHTS) as temporary:
        spec = save(temporary)
        for file in [path for path in temporary.rglob("*") if path.is_file()]:
            usual_mode(file)
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
    parameters = {
        name: f"{WEIGHTS}/{value}" if name in PATH_PARAMETERS and value else value
        for name, value in spec.parameters.items()
    }
    entry = EncoderEntry(
        kind=spec.kind,
        modality=job.modality,
        checkpoint=(Path(WEIGHTS) / str(spec.checkpoint)).as_posix(),
        layer=spec.layer,
        pooling=spec.pooling,
        trained_on=tuple(dict.fromkeys((*view.trained_on, job.corpus))),
        parameters=parameters,
    )
    registered = RegisteredEncoder(
        encoder=entry,
        view=view_entry(store.catalog, job.modality, job.base, job.features, job.name),
        feature_set=_feature_set(store, job),
        base_feature_set=job.features,
        description=about,
    )
    write_registered_encoder(store.root, job.name, registered)
    return registered


def _feature_set(store: FeatureStore, job: FinetuneJob) -> str:
    """`published_meld` collects the encoders of one corpus; one that is taken for this modality is left alone."""
    name = f"{job.features}_{job.corpus}"
    encoders = [e for e in registered_encoders(store.root).values() if e.feature_set == name]
    free = all(e.base_feature_set == job.features and e.encoder.modality != job.modality for e in encoders)
    if free and (encoders or name not in store.catalog.feature_sets):
        return name
    return f"{job.features}_{job.name}"

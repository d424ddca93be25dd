"""Fine-tuning without Prefect: samples of a corpus -> units -> a trained encoder in the store, known to its catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from merloco.features.catalog import load_catalog
from merloco.features.shards.format import INPUT_COLUMNS
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.flows.finetune.plan import FinetuneJob, base_view, classes_of, mask_of
from merloco.flows.finetune.record import about_run, register
from merloco.flows.finetune.snapshots import differences, read_snapshot, write_snapshot
from merloco.flows.finetune.units import read_units
from merloco.models.finetune.loop import finetune
from merloco.models.finetune.registry import make_trainable
from merloco.models.finetune.run import seeded
from merloco.pipelines.catalog.registered import RegisteredEncoder, encoder_folder, registered_encoders
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import remove_temporary_files
from merloco.pipelines.files.hashing import canonical_json, sha256_file, sha256_text
from merloco.pipelines.files.locks import lock_file
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.table import read_samples, samples_path

VERSION = 1
"""Raised when the code of fine-tuning changes its result."""
SNAPSHOT = "training.safetensors"

Progress = Callable[..., None]
"""Called with the stage (`read` samples or `train` batches), what is done, what there is in all, and for batches a
note."""


@dataclass(frozen=True, slots=True)
class FinetunedEncoder:
    """A fine-tuned encoder."""

    name: str
    folder: Path
    feature_set: str
    trained_on: tuple[str, ...]
    about: dict[str, Any]
    reused: bool
    """It was there already."""


def run_job(
    job: FinetuneJob, progress: Progress | None = None, notice: Callable[[str], None] = print
) -> FinetunedEncoder:
    """Fine-tune one encoder and register it; a killed run goes on after its last epoch.

    Args:
        job: What to do.
        progress: See `Progress`.
        notice: Called with a sentence where what an earlier start has done is of no use.

    Raises:
        DataError: The encoder is there with other settings, is being made by another process, or the corpus has no
            labelled utterance to train or to validate on.
        ModelError: The base cannot be trained, or its weights are missing.
    """
    store = FeatureStore.open(job.store, load_catalog(job.catalog, job.store))
    view = base_view(store.catalog, job)
    config = _config(store, job, view)
    folder = encoder_folder(store.root, job.name)
    registered = registered_encoders(store.root).get(job.name)
    if registered is not None:
        _same(registered, config, folder, store, job.corpus)
        (folder / SNAPSHOT).unlink(missing_ok=True)
        return _outcome(job.name, folder, registered, reused=True)
    folder.mkdir(parents=True, exist_ok=True)
    store.keep_catalog()
    classes = classes_of(store, job.corpus)
    with _alone(folder):
        remove_temporary_files(folder)
        snapshot = read_snapshot(folder / SNAPSHOT, config, notice)
        with seeded(job.settings.seed, job.device):
            trainable = make_trainable(view.spec, len(classes), job.device)
        train, val, left_out = read_units(store, job, view, trainable, partial(progress, "read") if progress else None)
        result = finetune(
            trainable,
            train,
            val,
            classes,
            mask_of(store, job.corpus),
            job.settings,
            job.device,
            snapshot,
            lambda snapshot: write_snapshot(folder / SNAPSHOT, snapshot, config),
            partial(progress, "train") if progress else None,
        )
        about = about_run(classes, job, config, result, train, val, left_out)
        registered = register(store, job, view, trainable.save, about)
        (folder / SNAPSHOT).unlink(missing_ok=True)
    return _outcome(job.name, folder, registered, reused=False)


def _config(store: FeatureStore, job: FinetuneJob, view: FeatureView) -> dict[str, Any]:
    """Everything that decides the weights."""
    entry = store.catalog.corpus(job.corpus)
    return {
        "base": view.definition,
        "corpus": job.corpus,
        "rows": _rows_digest(store, job),
        "label_map": {"map": entry.map, **entry.active_map.model_dump()},
        "settings": asdict(job.settings),
        "version": VERSION,
    }


def _rows_digest(store: FeatureStore, job: FinetuneJob) -> str:
    """Hash of what is read of a corpus, and of its labels: of values, not of the file that holds them."""
    table = read_samples(store.root, job.corpus)
    entry = store.catalog.corpus(job.corpus)
    emotions = apply_map(table, job.corpus, entry.active_map)["emotion"].to_pylist()
    columns = table.select(["split", *INPUT_COLUMNS[job.modality]]).to_pydict()
    return sha256_text(canonical_json({**columns, "emotion": emotions}))


def _same(
    registered: RegisteredEncoder, config: Mapping[str, Any], folder: Path, store: FeatureStore, corpus: str
) -> None:
    made = registered.description.get("config", {})
    if "rows" not in made:  # an encoder of merloco 0.2 and before
        config = {key: value for key, value in config.items() if key != "rows"}
        config["samples"] = sha256_file(samples_path(store.root, corpus))
    differs = differences(made, config)
    if differs:
        raise DataError(
            f"encoder {folder.name!r} is there already, made with other {' and '.join(differs)}: give another --name, "
            f"or remove {folder}"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out; the lock of a killed one is gone with it.

    A file system without locks keeps nobody out: two processes then write the same snapshots and weights.
    """
    with (folder / ".lock").open("w") as handle:
        if not lock_file(handle, wait=False):
            raise DataError(f"encoder {folder.name!r} is being fine-tuned by another process: give another --name")
        yield


def _outcome(name: str, folder: Path, registered: RegisteredEncoder, reused: bool) -> FinetunedEncoder:
    return FinetunedEncoder(
        name, folder, registered.feature_set, registered.encoder.trained_on, registered.description, reused
    )

"""Emotions of new files from a trained run: its feature set and its weights, nothing of the stored samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.reader import decoders, make_reader
from merloco.features.fusions import find_fusion
from merloco.features.runs import read_config
from merloco.features.shards.format import OK
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.flows.experiments.plan import train_config
from merloco.flows.experiments.prediction_inputs import PredictionInput, spoken
from merloco.models.encoders.base import Encoder
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.networks.base import GATED
from merloco.models.fusion.prediction import contributions, predict
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.pipelines.catalog.entries import Training
from merloco.pipelines.errors import DataError
from merloco.pipelines.media.pool import TIME_LIMIT

NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run says about one source."""

    name: str
    emotion: str
    probabilities: dict[str, float]
    contributions: dict[str, float | None]
    """Modality -> fall of the emotion's probability when it is left out; None where it is not there, or alone."""
    statuses: dict[str, str]
    """Modality -> `ok`, or why there is none."""
    frames: int | None
    """Pictures that were looked at; None without pictures."""
    face_frames: int | None
    """How many of them show a face that counts."""


def load_run(folder: Path) -> tuple[RunResult, tuple[str, ...], dict[str, Any]]:
    """Weights, classes and config of a run, ready for `merloco.models.fusion.prediction.predict`.

    Raises:
        DataError: The weights are no safetensors file, or the config is of another version of merloco.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = read_config(folder)["config"]
    try:
        training = Training.model_validate(config["training"])
        find_fusion(training.fusion)
        settings = train_config(training, config["modalities"], config["task"])
        spec = RunSpec(folder.name, NO_ROWS, NO_ROWS, settings, config["seed"])
        classes = tuple(config["label_maps"][config["train"][0]]["classes"])
        weights = load_file(folder / "weights.safetensors")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder}: no weights that can be read ({error}): train the run again with --force") from None
    except KeyError as error:
        raise DataError(f"{folder}: the run's config has no {error}: train it again with this version") from None
    return RunResult(spec, weights), classes, config


def describe_run(folder: Path, config: Mapping[str, Any]) -> str:
    """Which run predicts, and from what it learned: for the head of a table."""
    features = ", ".join(config["modalities"])
    return (
        f"{folder.parent.name}/{folder.name}: protocol {config['protocol']}, trained on {', '.join(config['train'])}, "
        f"features {config['feature_set']} ({features}), fusion {config['training'].get('fusion', GATED)}, "
        f"seed {config['seed']}"
    )


def predict_sources(
    store: FeatureStore, folder: Path, sources: Sequence[PredictionInput], device: str
) -> list[Prediction | str]:
    """Predict sources with a run.

    Returns:
        A prediction, or the sentence that says why there is none, per source in the given order.

    Raises:
        DataError: The catalog no longer describes the features that the run was trained on.
    """
    result, classes, config = load_run(folder)
    views = store.views(config["feature_set"], config["modalities"])
    for modality, view in views.items():
        if view.fingerprint != config["views"][modality]:
            raise DataError(
                f"run {folder.name!r} was trained on view {view.name!r} as {config['views'][modality]}, the catalog "
                f"now describes {view.fingerprint}: restore the catalog entry, or train again"
            )
    encoders = {modality: view.build(device) for modality, view in views.items()}
    widths = _widths(folder, result)
    return [_predict(result, classes, views, encoders, widths, source) for source in sources]


def _predict(
    result: RunResult,
    classes: tuple[str, ...],
    views: Mapping[str, FeatureView],
    encoders: Mapping[str, Encoder],
    widths: Mapping[str, int],
    source: PredictionInput,
) -> Prediction | str:
    features, present, statuses, errors = {}, {}, {}, []
    frames, faces = None, None
    for modality, view in views.items():
        item = make_reader(view, Path(), decoders(TIME_LIMIT))(_record(source))
        row = encode_items(view, encoders[modality], [item])[0]
        statuses[modality] = row.status
        if row.error and row.status not in ("no_audio", "no_video"):  # no news of a file without that stream
            errors.append(row.error)
        if row.frames is not None:
            frames, faces = row.frames, row.face_frames
        features[modality] = np.zeros((1, widths[modality]), np.float32) if row.pooled is None else row.pooled[None]
        present[modality] = np.array([row.status == OK])
    if not any(p.all() for p in present.values()):
        reasons = ", ".join(f"{m}: {s}" for m, s in statuses.items())
        return f"{source.name}: nothing to predict from ({reasons}){': ' + errors[0] if errors else ''}"
    one = np.zeros(1, dtype=str)
    dataset = Dataset(
        sample_id=one,
        corpus=one,
        split=one,
        dialogue=one,
        features=features,
        present=present,
        label=np.full(1, -1),
        target=np.zeros((1, len(classes)), np.float32),
        mask=np.ones((1, len(classes)), bool),
        classes=classes,
        modality_of={name: view.modality for name, view in views.items()},
    )
    first = np.arange(1)
    probabilities = predict(result, dataset, first)
    chosen = probabilities.argmax(axis=1)
    added = contributions(result, dataset, first, probabilities, chosen)[0]
    return Prediction(
        name=source.name,
        emotion=classes[int(chosen[0])],
        probabilities=dict(zip(classes, probabilities[0].tolist(), strict=True)),
        contributions={
            m: None if np.isnan(value) else float(value)
            for m, value in zip(result.spec.config.modalities, added, strict=True)
        },
        statuses=statuses,
        frames=frames,
        face_frames=faces,
    )


def _widths(folder: Path, result: RunResult) -> dict[str, int]:
    """Modality or view -> width of its vectors; earlier versions recorded none, and had one view per modality."""
    recorded: dict[str, int] | None = read_config(folder)["environment"].get("widths")
    if recorded is not None:
        return recorded
    return {m: int(result.weights[f"fc_{m}.weight"].shape[1]) for m in result.spec.config.modalities}


def _record(source: PredictionInput) -> dict[str, Any]:
    """The source as a row of the samples table would describe it."""
    path = None if source.path is None else str(source.path)
    text = spoken(source.text)
    media = OK if path else "missing_media"
    return {
        "sample_id": source.name,
        "text": text,
        "text_status": "no_text" if text is None else OK,
        "video_side": "full",
        **{f"{m}_{part}": None for m in ("audio", "video") for part in ("start", "end")},
        **{f"{m}_path": path for m in ("audio", "video")},
        **{f"{m}_status": media for m in ("audio", "video")},
    }

"""The encoders of the published method (paper: visual, acoustic and linguistic encoder), from its own checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from merloco.models.checkpoints.hub import WeightSource, find_source
from merloco.models.checkpoints.model_folder import config_sha256, settings_folder, tokenizer_sha256
from merloco.models.device import FULL, inference, precision_identity, to_device
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, parameters_of, register_encoder
from merloco.models.encoders.batching import FRAMES, PICTURES, TEXTS, WINDOWS, BatchSize, encode_texts, encode_windows
from merloco.models.encoders.published import roberta, wav2vec2
from merloco.models.errors import ModelError
from merloco.models.faces.crops import DEFAULTS as FACE_DEFAULTS
from merloco.models.faces.crops import ClipFaces, build_detector, detect_faces, encode_frames, face_identity

VERSION = 1
RESNET_FILE = "FER_static_ResNet50_AffectNet.pt"
"""Name of the published face checkpoint, where it comes from a hub model."""
VIDEO_DEFAULTS: dict[str, Any] = {**FACE_DEFAULTS, "precision": FULL}
"""`precision`: of the network; faces are detected in float32."""
AUDIO_DEFAULTS: dict[str, Any] = {"config": None, "normalize": None, "precision": FULL}
"""`config`: a config.json (None: the one beside the checkpoint, else wav2vec2-base). `normalize`: scale every window to
mean 0 and variance 1 (None: as preprocessor_config.json beside the checkpoint says, else yes)."""
TEXT_DEFAULTS: dict[str, Any] = {"config": None, "tokenizer": None, "max_tokens": 512, "precision": FULL}
"""`config`: a config.json (None: the one beside the checkpoint, else distilroberta-base). `tokenizer`: a folder (None:
the checkpoint's, else the hub model's)."""


def _parameters(spec: EncoderSpec, defaults: dict[str, Any]) -> dict[str, Any]:
    """The parameters; layer and pooling are the method's own here."""
    for name in ("layer", "pooling"):
        if getattr(spec, name) is not None:
            raise ModelError(f"encoder kind {spec.kind!r} has no choice of {name}: take it out of the catalog entry")
    return parameters_of(spec, defaults)


def _resnet_identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters = _parameters(spec, VIDEO_DEFAULTS)
    about = {"kind": spec.kind, "version": VERSION, **find_source(spec).identity()}
    return {**about, **face_identity(parameters), **precision_identity(parameters)}


@register_encoder("resnet50_affectnet", _resnet_identity, VIDEO_DEFAULTS)
class ResNet50Faces:
    """`fc1` of ResNet-50 (AffectNet) per frame, 512 values; all faces of a frame make one input unless `faces` differs.

    Extras: boxes, scores and chosen of all faces of each frame, n_faces (see `ClipFaces.extras`).
    """

    modality = "video"
    dim = 512

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        from merloco.models.encoders.published.resnet import load_resnet

        self.parameters = _parameters(spec, VIDEO_DEFAULTS)
        face_identity(self.parameters)
        source = find_source(spec)
        path = source.path or source.fetch((RESNET_FILE,)) / RESNET_FILE
        self.device = device
        self.network = load_resnet(path, device)
        self.detector = build_detector(self.parameters, device)
        self.frames, self.pictures = BatchSize(FRAMES, device), BatchSize(PICTURES, device)

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode clips, uint8 RGB frames (n, height, width, 3) each; one vector per frame, valid where a face is."""
        return self.encode_detections(items, self.detect(items))

    def detect(self, items: Sequence[np.ndarray]) -> list[ClipFaces]:
        """Faces of every frame, and which of them count."""
        return detect_faces(self.detector, items, self.parameters["faces"], self.pictures)

    def encode_detections(self, items: Sequence[np.ndarray], found: Sequence[ClipFaces]) -> list[Encoding]:
        """Encode clips whose faces are known (see `detect`)."""
        from merloco.models.encoders.published.resnet import preprocess

        vectors = encode_frames(items, found, preprocess, self._forward, self.dim, self.frames)
        return [Encoding(rows, clip.valid, clip.extras()) for rows, clip in zip(vectors, found, strict=True)]

    def _forward(self, inputs: np.ndarray) -> np.ndarray:
        with inference(self.device, self.parameters["precision"]):
            return np.asarray(self.network.features(to_device(inputs, self.device)).float().cpu().numpy())


def _wav2vec2_identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters = _parameters(spec, AUDIO_DEFAULTS)
    source = find_source(spec)
    about = {"kind": spec.kind, "version": VERSION, **source.identity(), **precision_identity(parameters)}
    if source.path is None:
        # The commit pins the hub model's own settings.
        config = wav2vec2.find_config(Path(), parameters["config"]) if parameters["config"] else None
        return {
            **about,
            "config": config_sha256(config) if config else "hub",
            "normalize": "hub" if parameters["normalize"] is None else parameters["normalize"],
        }
    return {
        **about,
        "config": config_sha256(wav2vec2.find_config(source.path, parameters["config"])),
        "normalize": _normalizes(source.path, parameters),
    }


def _normalizes(path: Path, parameters: dict[str, Any]) -> bool:
    return wav2vec2.find_normalize(path) if parameters["normalize"] is None else bool(parameters["normalize"])


@register_encoder("wav2vec2_projector", _wav2vec2_identity, AUDIO_DEFAULTS)
class Wav2Vec2Projector:
    """Mean over time of the projector's output, 256 values per window."""

    modality = "audio"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        parameters = _parameters(spec, AUDIO_DEFAULTS)
        path = find_source(spec).fetch()
        self.device, self.precision = device, parameters["precision"]
        self.batch = BatchSize(WINDOWS, device)
        self.normalize = _normalizes(path, parameters)
        self.network = wav2vec2.load_wav2vec2(path, wav2vec2.find_config(path, parameters["config"]), device)
        self.dim = self.network.projector.out_features

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode windows at 16 kHz, float32 (n_windows, n_samples) per item; one vector per window."""
        return encode_windows(items, self._forward, self.dim, self.batch, shortest=wav2vec2.SHORTEST)

    def _forward(self, waves: np.ndarray) -> np.ndarray:
        waves = wav2vec2.normalize(waves) if self.normalize else waves
        with inference(self.device, self.precision):
            hidden = wav2vec2.project(self.network, to_device(waves, self.device))
            return np.asarray(hidden.float().mean(dim=1).cpu().numpy())


def _tokenizer_source(spec: EncoderSpec, weights: WeightSource, folder: str | None) -> WeightSource:
    """Where the tokenizer is: the named folder, beside the weights, or the hub model's."""
    if folder:
        if not Path(folder).is_dir():
            raise ModelError(f"tokenizer {folder!r} not found: expected a folder with tokenizer.json")
        return WeightSource(path=Path(folder))
    if weights.path is None:
        return weights
    beside = settings_folder(weights.path)
    if any((beside / name).is_file() for name in roberta.TOKENIZER_FILES):
        return WeightSource(path=beside)
    if spec.hub_id is None:
        raise ModelError(
            f"{weights.path}: no tokenizer beside it: put tokenizer.json there, or name a folder as parameter "
            "tokenizer or a hub_id in the catalog"
        )
    return find_source(replace(spec, checkpoint=None))


def _roberta_identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters = _parameters(spec, TEXT_DEFAULTS)
    source = find_source(spec)
    tokenizer = _tokenizer_source(spec, source, parameters["tokenizer"])
    if source.path or parameters["config"]:
        config = config_sha256(roberta.find_config(source.path or Path(), parameters["config"]))
    else:
        config = "hub"
    return {
        "kind": spec.kind,
        "version": VERSION,
        **source.identity(),
        "config": config,
        "tokenizer": tokenizer_sha256(tokenizer.path) if tokenizer.path else tokenizer.identity(),
        "max_tokens": parameters["max_tokens"],
        **precision_identity(parameters),
    }


@register_encoder("roberta_dense", _roberta_identity, TEXT_DEFAULTS)
class RobertaDense:
    """Output of `classifier.dense` before tanh, 768 values per text; longer texts are cut."""

    modality = "text"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        parameters = _parameters(spec, TEXT_DEFAULTS)
        source = find_source(spec)
        tokenizer = _tokenizer_source(spec, source, parameters["tokenizer"])
        path = source.fetch()
        self.device, self.precision = device, parameters["precision"]
        self.batch = BatchSize(TEXTS, device)
        self.network = roberta.load_roberta(path, roberta.find_config(path, parameters["config"]), device)
        self.dim = self.network.config.hidden_size
        self.tokenizer = roberta.load_tokenizer(tokenizer.fetch(weights=()), self.network.config.vocab_size)
        # RoBERTa counts positions from pad_token_id + 1.
        self.max_tokens = min(parameters["max_tokens"], self.network.config.max_position_embeddings - 2)

    def encode(self, items: Sequence[str]) -> list[Encoding]:
        """Encode texts, one vector each."""
        return encode_texts(items, self._forward, self.dim, self.batch)

    def _forward(self, texts: list[str]) -> np.ndarray:
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        with inference(self.device, self.precision):
            features = roberta.dense(
                self.network, tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
            )
            return np.asarray(features.float().cpu().numpy())


_conforms: tuple[type[Encoder], ...] = (ResNet50Faces, Wav2Vec2Projector, RobertaDense)

"""Any Hugging Face encoder of sound, pictures or text: hub id or local folder, layer and pooling from the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.checkpoints.hub import find_source
from merloco.models.device import FULL, precision_identity, to_device
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, parameters_of, register_encoder
from merloco.models.encoders.batching import FRAMES, PICTURES, TEXTS, WINDOWS, BatchSize, encode_texts, encode_windows
from merloco.models.encoders.transformer import Backbone, load_part, pool_tokens, pooling_of
from merloco.models.errors import ModelError
from merloco.models.faces.crops import DEFAULTS as FACE_DEFAULTS
from merloco.models.faces.crops import (
    WHOLE_FRAME,
    ClipFaces,
    build_detector,
    detect_faces,
    encode_frames,
    face_identity,
    whole_frames,
)
from merloco.models.faces.detection import POLICIES

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
AUDIO_DEFAULTS: dict[str, Any] = {"sample_rate": 16000, "precision": FULL}
"""`sample_rate`: of the view, in hertz; a model trained at another one is refused."""
VISION_DEFAULTS: dict[str, Any] = {**FACE_DEFAULTS, "detector": "mtcnn", "faces": "largest", "precision": FULL}
"""`faces`: `none` encodes whole frames."""
TEXT_DEFAULTS: dict[str, Any] = {"max_tokens": 512, "precision": FULL}
WHISPER_POSITION = 320
"""Samples behind one position of a Whisper encoder, whatever the 30 s it is padded to."""


def _identity(spec: EncoderSpec, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": spec.kind,
        "version": VERSION,
        **find_source(spec).identity(),
        "layer": "last" if spec.layer is None else spec.layer,
        "pooling": pooling_of(spec),
        **{name: value for name, value in parameters.items() if name != "precision"},
        **precision_identity(parameters),
    }


def _audio_identity(spec: EncoderSpec) -> dict[str, Any]:
    return _identity(spec, parameters_of(spec, AUDIO_DEFAULTS))


@register_encoder("hf_audio", _audio_identity, AUDIO_DEFAULTS)
class HfAudio:
    """A speech model such as wav2vec2, HuBERT, WavLM or the encoder of Whisper; one vector per window."""

    modality = "audio"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        parameters = parameters_of(spec, AUDIO_DEFAULTS)
        folder = find_source(spec).fetch()
        self.pooling = pooling_of(spec)
        self.extractor = load_part(folder, "AutoFeatureExtractor", "preprocessor_config.json")
        self.rate = parameters["sample_rate"]
        if self.extractor.sampling_rate != self.rate:
            raise ModelError(
                f"encoder kind 'hf_audio': the model expects {self.extractor.sampling_rate} Hz, parameter sample_rate "
                f"is {self.rate}: set both the view's and this one to the model's"
            )
        self.backbone = Backbone(folder, spec.layer, device, parameters["precision"])
        self.batch = BatchSize(WINDOWS, device)
        self.whisper = self.backbone.model_type == "whisper"
        self.longest = self.extractor.n_samples if self.whisper else None
        self.dim = self._forward(np.zeros((1, self.rate), dtype=np.float32)).shape[1]

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode windows, float32 (n_windows, n_samples) per item; a window without one frame of sound is invalid."""
        return encode_windows(items, self._forward, self.dim, self.batch, shortest=400)

    def _forward(self, waves: np.ndarray) -> np.ndarray:
        if self.longest and waves.shape[1] > self.longest:
            raise ModelError(
                f"a window of {waves.shape[1] / self.rate:.1f} s: a Whisper encoder takes at most "
                f"{self.longest / self.rate:.0f} s: set `window` in the view"
            )
        features = self.extractor(list(waves), sampling_rate=self.rate, return_tensors="pt")
        tokens = self.backbone(features[self.backbone.input_name])
        if self.whisper:
            tokens = tokens[:, : max(1, -(-waves.shape[1] // WHISPER_POSITION))]
        return pool_tokens(tokens, self.pooling)


def _vision_identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters = parameters_of(spec, VISION_DEFAULTS)
    faces = face_identity(parameters, (WHOLE_FRAME, *POLICIES))
    return _identity(spec, {**faces, "precision": parameters["precision"]})


@register_encoder("hf_vision", _vision_identity, VISION_DEFAULTS)
class HfVision:
    """An image model such as ViT or ResNet on face crops or whole frames; one vector per frame.

    Extras: see `merloco.models.faces.crops.ClipFaces.extras`; none for whole frames.
    """

    modality = "video"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        self.parameters = parameters_of(spec, VISION_DEFAULTS)
        face_identity(self.parameters, (WHOLE_FRAME, *POLICIES))
        folder = find_source(spec).fetch()
        self.pooling = pooling_of(spec)
        self.processor = load_part(folder, "AutoImageProcessor", "preprocessor_config.json")
        self.backbone = Backbone(folder, spec.layer, device, self.parameters["precision"])
        self.frames, self.pictures = BatchSize(FRAMES, device), BatchSize(PICTURES, device)
        self.policy = self.parameters["faces"]
        self.detector = None if self.policy == WHOLE_FRAME else build_detector(self.parameters, device)
        self.dim = self._forward(self._prepare(np.zeros((32, 32, 3), dtype=np.uint8))[None]).shape[1]

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode clips, uint8 RGB frames (n, height, width, 3) each; one vector per frame."""
        return self.encode_detections(items, self.detect(items))

    def detect(self, items: Sequence[np.ndarray]) -> list[ClipFaces]:
        """Faces of every frame and which of them count; the whole frame where the policy is `none`."""
        return detect_faces(self.detector, items, self.policy, self.pictures) if self.detector else whole_frames(items)

    def encode_detections(self, items: Sequence[np.ndarray], found: Sequence[ClipFaces]) -> list[Encoding]:
        """Encode clips whose faces are known (see `detect`)."""
        vectors = encode_frames(items, found, self._prepare, self._forward, self.dim, self.frames)
        return [
            Encoding(rows, clip.valid, clip.extras() if self.detector else {})
            for rows, clip in zip(vectors, found, strict=True)
        ]

    def _prepare(self, picture: np.ndarray) -> np.ndarray:
        prepared = self.processor(images=picture, input_data_format="channels_last", return_tensors="np")
        return np.asarray(prepared["pixel_values"][0], dtype=np.float32)

    def _forward(self, inputs: np.ndarray) -> np.ndarray:
        return pool_tokens(self.backbone(to_device(inputs, self.backbone.device)), self.pooling)


def _text_identity(spec: EncoderSpec) -> dict[str, Any]:
    return _identity(spec, parameters_of(spec, TEXT_DEFAULTS))


@register_encoder("hf_text", _text_identity, TEXT_DEFAULTS)
class HfText:
    """A text encoder such as BERT, RoBERTa or the encoder of T5; one vector per text."""

    modality = "text"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        parameters = parameters_of(spec, TEXT_DEFAULTS)
        folder = find_source(spec).fetch()
        self.pooling = pooling_of(spec)
        self.tokenizer = load_part(folder, "AutoTokenizer", "tokenizer.json")
        self.backbone = Backbone(folder, spec.layer, device, parameters["precision"])
        self.max_tokens = min(parameters["max_tokens"], self.backbone.positions or parameters["max_tokens"])
        self.batch = BatchSize(TEXTS, device)
        self.dim = self._forward(["a"]).shape[1]

    def encode(self, items: Sequence[str]) -> list[Encoding]:
        """Encode texts, one vector each; longer texts are cut at `max_tokens`."""
        return encode_texts(items, self._forward, self.dim, self.batch)

    def _forward(self, texts: list[str]) -> np.ndarray:
        tokens: dict[str, Tensor] = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        mask = tokens["attention_mask"]
        return pool_tokens(self.backbone(tokens["input_ids"], mask), self.pooling, mask)


_conforms: tuple[type[Encoder], ...] = (HfAudio, HfVision, HfText)

"""Speech models of torchaudio.pipelines (wav2vec2, HuBERT, WavLM): one vector per window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.device import FULL, inference, precision_identity, to_device
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, parameters_of, register_encoder
from merloco.models.encoders.batching import WINDOWS, BatchSize, encode_windows
from merloco.models.encoders.transformer import first_line, pool_tokens, pooling_of
from merloco.models.errors import ModelError

VERSION = 1
DEFAULTS: dict[str, Any] = {"bundle": "WAV2VEC2_BASE", "sample_rate": 16000, "precision": FULL}
"""`bundle`: its name in torchaudio.pipelines. `sample_rate`: of the view, in hertz."""


def _identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters = parameters_of(spec, DEFAULTS)
    checkpoint = _checkpoint(spec)
    return {
        "kind": spec.kind,
        "version": VERSION,
        **{name: value for name, value in parameters.items() if name != "precision"},
        **precision_identity(parameters),
        **({"weights": sha256_of(checkpoint)} if checkpoint else {}),
        "layer": "last" if spec.layer is None else spec.layer,
        "pooling": pooling_of(spec),
    }


def _checkpoint(spec: EncoderSpec) -> Path | None:
    """The bundle's file where the catalog names one; a bundle names its own download and so its values otherwise."""
    if spec.checkpoint is None:
        return None
    if not Path(spec.checkpoint).is_file():
        raise ModelError(f"encoder kind {spec.kind!r} has no weights: put the bundle's file at {spec.checkpoint!r}")
    return Path(spec.checkpoint)


@register_encoder("torchaudio_bundle", _identity, DEFAULTS)
class TorchaudioBundle:
    """A layer of a torchaudio speech model, pooled over each window.

    `layer` counts from 1 (after the first transformer layer) or from the end; the default is the last.
    """

    modality = "audio"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        parameters = parameters_of(spec, DEFAULTS)
        self.device, self.layer, self.pooling = device, spec.layer, pooling_of(spec)
        self.precision, self.batch = parameters["precision"], BatchSize(WINDOWS, device)
        bundle = _bundle(parameters["bundle"])
        if bundle.sample_rate != parameters["sample_rate"]:
            raise ModelError(
                f"bundle {parameters['bundle']} expects {bundle.sample_rate:.0f} Hz, parameter sample_rate is "
                f"{parameters['sample_rate']}: set both the view's and this one to the bundle's"
            )
        self.model = _load(bundle, parameters["bundle"], _checkpoint(spec)).eval().to(device)
        self.dim = self._forward(np.zeros((1, parameters["sample_rate"]), dtype=np.float32)).shape[1]

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode windows, float32 (n_windows, n_samples) per item."""
        return encode_windows(items, self._forward, self.dim, self.batch, shortest=400)

    def _forward(self, waves: np.ndarray) -> np.ndarray:
        with inference(self.device, self.precision):
            layers, _ = self.model.extract_features(to_device(waves, self.device))
        number = len(layers) if self.layer is None else self.layer
        if number == 0 or abs(number) > len(layers):
            raise ModelError(f"layer {number}: the bundle has layers 1 to {len(layers)}, or -{len(layers)} to -1")
        return pool_tokens(layers[number - 1 if number > 0 else number], self.pooling)


def _bundle(name: str) -> Any:
    from torchaudio import pipelines

    known = sorted(n for n in dir(pipelines) if isinstance(getattr(pipelines, n), pipelines.Wav2Vec2Bundle))
    if name not in known:
        raise ModelError(f"unknown torchaudio bundle {name!r}: known: {', '.join(known)}")
    return getattr(pipelines, name)


def _load(bundle: Any, name: str, checkpoint: Path | None) -> Any:
    """The bundle's network with its weights from `checkpoint`, torch's download cache or the download."""
    source: dict[str, Any] = {"weights_only": True, "map_location": "cpu", "progress": False}
    if checkpoint:
        source |= {"model_dir": str(checkpoint.parent), "file_name": checkpoint.name}
    try:
        return bundle.get_model(dl_kwargs=source)
    except OSError as error:
        raise ModelError(
            f"bundle {name} could not be downloaded ({first_line(error)}): name its .pth file as `checkpoint` in the "
            "catalog"
        ) from None
    except RuntimeError as error:
        raise ModelError(f"{checkpoint or name}: not the weights of bundle {name}: {first_line(error)}") from None


_conforms: type[Encoder] = TorchaudioBundle

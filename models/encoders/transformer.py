"""Hidden states of any Hugging Face encoder, and their pooling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.device import FULL, inference
from merloco.models.encoders.base import EncoderSpec
from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

POOLINGS = ("mean", "first", "max")


def load_part(folder: Path, auto_class: str, file: str) -> Any:
    """Load a tokenizer, feature extractor or image processor of a model folder; no code of the folder runs.

    Args:
        folder: As `save_pretrained` writes it.
        auto_class: Name of the transformers class that finds the right one.
        file: What the part is usually called, for the error.

    Raises:
        ModelError: It is not there or of an unknown kind.
    """
    import transformers

    check_folder(folder)
    try:
        return getattr(transformers, auto_class).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        reason = first_line(error)
        raise ModelError(f"{folder}: {auto_class} found nothing to load (expected {file}): {reason}") from None


def check_folder(folder: Path) -> None:
    """Raise `ModelError` unless this is a model folder."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{str(folder)!r} is no model folder: expected config.json and more, as `save_pretrained` writes"
        )


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().split("\n")[0].rstrip(".")


class Backbone:
    """The encoder of a model folder, read at one layer; its weights are float32.

    Args:
        folder: Model folder; a classifier's head is left out.
        layer: Index into the hidden states (0 is what enters the first layer, -1 the last); None takes the model's
            final output.
        device: Torch device.
        precision: Of the forward passes (see `merloco.models.device`).

    Raises:
        ModelError: The weights do not fit the configuration, or need code that is not part of transformers.
    """

    def __init__(self, folder: Path, layer: int | None, device: str, precision: str = FULL) -> None:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()  # it reports the left-out head as a surprise
        check_folder(folder)
        try:
            model, loading = AutoModel.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"{folder}: not a model that transformers can load: {first_line(error)}") from None
        missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
        if missing:
            raise ModelError(f"{folder}: weights are missing: {', '.join(missing[:5])}: expected those of config.json")
        self.model_type: str = model.config.model_type
        self.positions = _positions(model.config)
        self.whole = model
        """The model as its folder describes it: with a decoder or a second tower, where it has one."""
        model = model.get_encoder() if model.config.is_encoder_decoder else getattr(model, "vision_model", model)
        self.model = model.eval().to(device)
        self.input_name: str = model.main_input_name
        self.layer, self.device, self.precision = layer, device, precision

    def __call__(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Hidden states, float32 (n, n_tokens, dim); places of a picture are tokens.

        Raises:
            ModelError: The model has not got the layer.
        """
        with inference(self.device, self.precision):
            return self.hidden(inputs, mask)

    def hidden(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same with gradients, for training."""
        given = {self.input_name: inputs.to(self.device)}
        if mask is not None:
            given["attention_mask"] = mask.to(self.device)
        output = self.model(**given, output_hidden_states=self.layer is not None)
        if self.layer is None:
            hidden = output.last_hidden_state
        else:
            states = output.hidden_states or ()
            if not -len(states) <= self.layer < len(states):
                raise ModelError(
                    f"layer {self.layer}: the model ({self.model_type}) has hidden states 0 to {len(states) - 1}, or "
                    f"-{len(states)} to -1 from the end"
                )
            hidden = states[self.layer]
        return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def _positions(config: Any) -> int | None:
    """Longest token sequence, where the model limits it; RoBERTa's table begins at pad_token_id + 1."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    shifted = config.model_type in ("roberta", "xlm-roberta", "camembert")
    return int(positions) - 2 if shifted else int(positions)


def pool_tokens(tokens: Tensor, pooling: str, mask: Tensor | None = None) -> np.ndarray:
    """Pool tokens of each row into one vector.

    Args:
        tokens: (n, n_tokens, dim), of any precision.
        pooling: `mean`, `first` or `max`.
        mask: (n, n_tokens), 0 for padding.

    Returns:
        float32 (n, dim).
    """
    return np.asarray(pooled(tokens, pooling, mask).cpu().numpy())


def pooled(tokens: Tensor, pooling: str, mask: Tensor | None = None) -> Tensor:
    """The same with gradients, for training."""
    tokens = tokens.float()
    if pooling == "first":
        return tokens[:, 0]
    if mask is None:
        return tokens.mean(dim=1) if pooling == "mean" else tokens.amax(dim=1)
    kept = mask.to(tokens.device).bool().unsqueeze(-1)
    if pooling == "mean":
        return (tokens * kept).sum(dim=1) / kept.sum(dim=1)
    return tokens.masked_fill(~kept, float("-inf")).amax(dim=1)


def pooling_of(spec: EncoderSpec) -> str:
    """How an encoder pools: the catalog's word, `mean` by default.

    Raises:
        ModelError: There is no such pooling.
    """
    pooling = {None: "mean", "cls": "first"}.get(spec.pooling, spec.pooling)
    if pooling not in POOLINGS:
        raise ModelError(f"encoder kind {spec.kind!r}: unknown pooling {pooling!r}: known: cls, {', '.join(POOLINGS)}")
    return str(pooling)

"""The published linguistic encoder: (Distil)RoBERTa with its classification head, read before the head's tanh."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merloco.models.checkpoints.model_folder import read_config, weight_file
from merloco.models.checkpoints.state_dict import load_into, load_state_dict, rows_of
from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, RobertaForSequenceClassification

MODEL_TYPE = "roberta"
DISTILROBERTA = {
    "vocab_size": 50265,
    "num_hidden_layers": 6,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
"""Where distilroberta-base differs from the defaults of a RoBERTa configuration."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
"""One of these makes a folder a tokenizer's."""


def find_config(path: Path, config: str | None = None) -> dict[str, Any] | None:
    """The configuration of a checkpoint: `config`, else config.json beside it, else None for distilroberta-base.

    Raises:
        ModelError: See `merloco.models.checkpoints.model_folder.read_config`.
    """
    return read_config(path, MODEL_TYPE, config)


def network_for(state: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> RobertaForSequenceClassification:
    """An untrained network with as many classes as the checkpoint has; None is distilroberta-base."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    settings = RobertaConfig.from_dict(dict(config or DISTILROBERTA))
    settings.num_labels = rows_of(state, "classifier.out_proj.weight", 7)
    return RobertaForSequenceClassification(settings)


def load_roberta(
    path: str | Path, config: Mapping[str, Any] | None, device: str = "cpu"
) -> RobertaForSequenceClassification:
    """Load a checkpoint with the keys `roberta.*`, `classifier.dense.*` and `classifier.out_proj.*`.

    Args:
        path: State dict file or model folder.
        config: See `find_config`.
        device: Torch device.

    Raises:
        ModelError: The checkpoint does not fit; the sentence names the keys.
    """
    file = weight_file(Path(path))
    state = load_state_dict(file)
    network = network_for(state, config)
    load_into(
        network, state, file, "RoBERTa with a classification head (distilroberta-base unless config.json differs)"
    )
    return network.eval().to(device)


def dense(network: RobertaForSequenceClassification, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Output of `classifier.dense` before tanh for the first token, float32 (n, hidden_size)."""
    hidden = network.roberta(input_ids, attention_mask=attention_mask).last_hidden_state
    features: Tensor = network.classifier.dense(hidden[:, 0])
    return features


def load_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    """Load the byte-level BPE tokenizer of a folder.

    Args:
        folder: With tokenizer.json, or vocab.json and merges.txt.
        vocabulary: Size of the network's vocabulary.

    Raises:
        ModelError: The folder holds no tokenizer, or one that gives ids which the network has not got.
    """
    from transformers import RobertaTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):  # the library would make an empty one
        raise ModelError(f"{folder}: holds no tokenizer: expected tokenizer.json, or vocab.json and merges.txt")
    tokenizer = RobertaTokenizer.from_pretrained(str(folder), local_files_only=True)
    if len(tokenizer) > vocabulary or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the network {vocabulary}: expected both of one model"
        )
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded

"""Model folders as `save_pretrained` writes them, and checkpoint files with their settings beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.errors import ModelError

SETTINGS = ("*.json", "*.txt", "*.model")
"""Configuration and tokenizer files of a model folder."""
TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")


def files_sha256(path: Path) -> str:
    """sha256 of a weight file, or of the files that a model folder is read from.

    Raises:
        ModelError: The folder holds no weights.
    """
    return sha256_of(path) if path.is_file() else _sha256_of_all(model_files(path))


def tokenizer_sha256(folder: Path) -> str:
    """sha256 of the tokenizer files of a folder."""
    return _sha256_of_all(sorted({file for pattern in TOKENIZER for file in folder.glob(pattern) if file.is_file()}))


def _sha256_of_all(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def model_files(folder: Path) -> list[Path]:
    """Files of a model folder that can change a value: settings, and safetensors rather than .bin, sorted."""
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not weights:
        raise _no_weights(folder)
    settings = [file for pattern in SETTINGS for file in folder.glob(pattern) if file.is_file()]
    return sorted({*weights, *settings})


def _no_weights(folder: Path) -> ModelError:
    return ModelError(
        f"model folder {str(folder)!r} holds no weights: expected model.safetensors or pytorch_model.bin, as "
        "`save_pretrained` writes them"
    )


def weight_file(path: Path) -> Path:
    """The one weight file of a model folder, or the file itself.

    Raises:
        ModelError: The folder holds none.
    """
    if path.is_file():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise _no_weights(path)


def settings_folder(path: Path) -> Path:
    """Where the settings of a checkpoint lie: in the model folder, or beside the file."""
    return path if path.is_dir() else path.parent


def read_config(path: Path, model_type: str, config: str | None = None) -> dict[str, Any] | None:
    """The configuration that belongs to a checkpoint, or None where only the published one can be meant.

    Args:
        path: Checkpoint file or model folder.
        model_type: What the configuration has to be of. Beside a file another one belongs to other weights.
        config: A config.json that takes precedence.

    Raises:
        ModelError: `config`, or a model folder's config.json, is not there or of another model type.
    """
    file = Path(config) if config else settings_folder(path) / "config.json"
    named = bool(config) or path.is_dir()
    if not file.is_file():
        if named:
            raise ModelError(f"{file} not found: expected the config.json of a {model_type} model")
        return None
    settings = read_json(file)
    if settings.get("model_type") == model_type:
        return settings
    if named:
        raise ModelError(f"{file}: model_type is {settings.get('model_type')!r}, expected {model_type!r}")
    return None


def read_json(file: Path) -> dict[str, Any]:
    """A settings file as a dict.

    Raises:
        ModelError: It is not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file}: expected a JSON object")
    return content


def config_sha256(config: dict[str, Any] | None) -> str:
    """What a fingerprint says of a configuration: the sha256 of its canonical JSON, or `published`."""
    if config is None:
        return "published"
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

"""Where an encoder's weights come from: a file or folder on disk, else a model of the Hugging Face hub, pinned."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from merloco.models.checkpoints.model_folder import SETTINGS, files_sha256
from merloco.models.encoders.base import EncoderSpec
from merloco.models.errors import ModelError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WeightSource:
    """The weights of one encoder: a path, or a hub model at a commit."""

    path: Path | None = None
    hub_id: str | None = None
    commit: str | None = None
    instead_of: str | None = None
    """The checkpoint that is not there."""

    def identity(self) -> dict[str, Any]:
        """What the fingerprint says of the weights: their sha256, or hub id and commit; never a path."""
        if self.path is None:
            return {"hub_id": self.hub_id, "revision": self.commit}
        return {"weights": files_sha256(self.path)}

    def fetch(self, weights: tuple[str, ...] = ("*.safetensors", "*.bin")) -> Path:
        """The file or folder on disk; a hub model is downloaded to the hub's cache where it is not there yet.

        Args:
            weights: Patterns of weight files in order of preference: the first that the hub model has is fetched, with
                settings and tokenizer files. Empty: those alone.

        Raises:
            ModelError: The hub could not be reached and the cache has not got the files.
        """
        if self.path is not None:
            return self.path
        if self.instead_of:
            _log.warning("%s is not there: taking the weights of hub model %s", self.instead_of, self.hub_id)
        for pattern in weights:
            folder = self._snapshot([*SETTINGS, pattern])
            if any(folder.glob(pattern)):
                return folder
        if not weights:
            return self._snapshot([*SETTINGS])
        raise ModelError(
            f"hub model {self.hub_id!r} at {self.commit} gave no weights: expected {' or '.join(weights)}, from the "
            "hub or in its cache"
        )

    def _snapshot(self, patterns: list[str]) -> Path:
        from huggingface_hub import snapshot_download

        try:
            # Folders of a hub model hold other formats of the same weights.
            return Path(
                snapshot_download(
                    str(self.hub_id), revision=self.commit, allow_patterns=patterns, ignore_patterns=["*/*"]
                )
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"hub model {self.hub_id!r} could not be fetched: {_reason(error)}") from None


def find_source(spec: EncoderSpec) -> WeightSource:
    """Where the weights of a catalog entry come from; see `locate`."""
    return locate(f"encoder kind {spec.kind!r}", spec.checkpoint, spec.hub_id, spec.revision)


def locate(what: str, checkpoint: str | None, hub_id: str | None, revision: str | None) -> WeightSource:
    """Decide where weights come from: `checkpoint` if it is there, else `hub_id`.

    A revision in the hub's cache stands for itself, so that a cached model keeps its commit; only without it the hub
    is asked. `HF_HUB_OFFLINE` keeps everything off the network.

    Args:
        what: What needs the weights, for the error.
        checkpoint: File or folder.
        hub_id: Hub model.
        revision: Its branch, tag or commit; None is `main`.

    Raises:
        ModelError: Neither is there.
    """
    if checkpoint and Path(checkpoint).exists():
        return WeightSource(path=Path(checkpoint))
    reason = ""
    if hub_id:
        commit, reason = _commit(hub_id, revision or "main")
        if commit:
            return WeightSource(hub_id=hub_id, commit=commit, instead_of=checkpoint)
    fill = f"put them at {checkpoint!r}" if checkpoint else "name a file or folder on disk"
    otherwise = f"; hub model {hub_id!r} could not be reached ({reason})" if hub_id else ", or name a hub_id"
    raise ModelError(f"{what} has no weights: {fill}{otherwise}")


@lru_cache(maxsize=64)
def _commit(hub_id: str, revision: str) -> tuple[str | None, str]:
    """The commit of a revision, or None and the reason; asked once per process."""
    from huggingface_hub import snapshot_download

    reason = ""
    for cached in (True, False):
        try:
            folder = snapshot_download(
                hub_id, revision=revision, allow_patterns=["config.json"], local_files_only=cached
            )
        except (OSError, ValueError) as error:
            reason = _reason(error)
            continue
        return Path(folder).name, ""
    return None, reason


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")

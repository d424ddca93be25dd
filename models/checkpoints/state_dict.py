"""Weights on disk: published .pt/.pth state dicts as they are, safetensors, and the conversion of one to the other."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merloco.models.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model_state_dict")
"""Keys under which training scripts put the weights, beside epoch and optimizer."""
WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
"""Names of a weight norm's parts before torch 2.1 and since."""
IDLE = ("num_batches_tracked", "masked_spec_embed", "position_ids", "token_type_ids")
"""Values that play no part in inference: a checkpoint may have them or not."""
MAX_LISTED = 5
"""Keys of one sort that an error names before it counts."""


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict in today's names, from .pt, .pth, .bin or .safetensors; nothing in the file is executed.

    A wrapping `state_dict` or `model_state_dict` is opened, the prefix `module.` of parallel training is taken off and
    an old weight norm's `weight_g`/`weight_v` gets its present names.

    Raises:
        ModelError: The file is not there, is damaged, or holds something else than named tensors.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise ModelError(f"weights {str(path)!r} not found: expected a .pt, .pth, .bin or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise whatever the damage leads to
        reason = str(error).strip().split("\n")[0]
        if isinstance(error, pickle.UnpicklingError):  # torch advises to switch the protection off
            reason = "a damaged file, or objects that could run code when they are loaded"
        raise ModelError(f"{path}: not a readable state dict: expected named tensors only, got: {reason}") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path}: holds a {type(content).__name__}: expected a state dict of named tensors")
    strange = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ModelError(f"{path}: not a state dict: {_some(strange)} are no tensors, and there is no `state_dict` key")
    return {_modern(name): tensor for name, tensor in _without_prefix(content).items()}


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def _modern(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{WEIGHT_NORM[last]}" if last in WEIGHT_NORM else name


def rows_of(state: Mapping[str, Tensor], name: str, default: int) -> int:
    """First size of a tensor (the number of classes of a head), or `default` where the checkpoint has not got it."""
    return int(state[name].shape[0]) if name in state and state[name].ndim > 0 else default


def load_into(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, what: str) -> None:
    """Load a state dict that must fit: every key there, none besides, every shape the same.

    Args:
        network: The network; changed in place. Values take its dtype.
        state: Names and tensors (see `load_state_dict`).
        path: Where the state dict came from, for the error.
        what: What was expected, for the error.

    Raises:
        ModelError: A key is missing, unexpected or misshaped.
    """
    check_fit(network, state, path, what)
    wanted = network.state_dict()
    network.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, strict=False)


def check_fit(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, what: str) -> None:
    """Compare names and shapes without loading; see `load_into`."""
    wanted = network.state_dict()
    missing = sorted(name for name in wanted if name not in state and not name.endswith(IDLE))
    unexpected = sorted(name for name in state if name not in wanted and not name.endswith(IDLE))
    misshaped = sorted(
        f"{name} is {tuple(state[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape and not name.endswith(IDLE)
    )
    problems = [
        f"{label}: {_some(names)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
        if names
    ]
    if problems:
        raise ModelError(f"{path}: not a checkpoint of {what}: {'; '.join(problems)}")


def _some(names: list[str]) -> str:
    rest = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")

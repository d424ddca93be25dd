"""Precision of the networks: full float32 on every device, unless a catalog entry asks for less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from models.errors import ModelError

FULL = "float32"
PRECISIONS = (FULL, "bfloat16", "float16")
"""Values of the parameter `precision`; the halves are mixed precision, which keeps reductions in float32."""


def precision_identity(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the fingerprint says of a precision: less than float32 changes values, so it makes another view.

    Raises:
        ModelError: An unknown precision.
    """
    precision = parameters["precision"]
    if precision not in PRECISIONS:
        raise ModelError(f"unknown precision {precision!r}: known: {', '.join(PRECISIONS)}")
    return {} if precision == FULL else {"precision": precision}


@contextmanager
def inference(device: str, precision: str = FULL) -> Iterator[None]:
    """A block of forward passes without gradients, in mixed precision where `precision` says so."""
    import torch

    kind = device.partition(":")[0]
    with torch.inference_mode(), torch.autocast(kind, getattr(torch, precision), enabled=precision != FULL):
        yield


def use_full_float32() -> None:
    """Turn TF32 off, which torch leaves on for convolutions on a GPU.

    Its ten bits of mantissa would make values of one fingerprint depend on the machine that extracted them, by far more
    than the 1e-4 that encoders keep.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False

"""Arrays on a device, and the precision of networks: full float32 unless a catalog entry asks for less."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.errors import ModelError

if TYPE_CHECKING:
    import torch

FULL = "float32"
PRECISIONS = (FULL, "bfloat16", "float16")
"""Values of the parameter `precision`; the halves are mixed precision, which keeps reductions in float32."""
_lock = threading.Lock()
_asked: list[bool] = []
"""Whether TF32 will do, of every block of `float32_products` that is open in this process."""
_before = (False, False)


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
    autocast = torch.autocast(kind, getattr(torch, precision), enabled=precision != FULL)
    with float32_products(), torch.inference_mode(), autocast:
        yield


@contextmanager
def float32_products(tf32: bool = False) -> Iterator[None]:
    """A block whose float32 products and convolutions are float32 on a GPU too; torch's setting comes back after it.

    The ten bits of mantissa of TF32, which torch leaves on for convolutions, would make values of one fingerprint
    depend on the machine that extracted them, by far more than the 1e-4 that encoders keep. The setting is the
    process's: where blocks of several threads overlap, TF32 is on only if it will do for all of them.

    Args:
        tf32: TF32 will do.
    """
    import torch

    global _before
    with _lock:
        if not _asked:
            _before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        _asked.append(tf32)
        _allow(*[all(_asked)] * 2)
    try:
        yield
    finally:
        with _lock:
            _asked.remove(tf32)
            _allow(*([all(_asked)] * 2 if _asked else _before))


def _allow(convolutions: bool, products: bool) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products


def to_device(array: np.ndarray, device: str) -> torch.Tensor:
    """Copy an array to the device; to a GPU from pinned memory, so that the transfer runs beside the computation."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)

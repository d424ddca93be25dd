"""Arrays to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def to_device(array: np.ndarray, device: str) -> torch.Tensor:
    """Copy an array to the device; to a GPU from pinned memory, so that the transfer runs beside the computation."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)

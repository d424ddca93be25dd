"""Full float32 on every device."""

from __future__ import annotations


def use_full_float32() -> None:
    """Turn TF32 off, which torch leaves on for convolutions on a GPU.

    Its ten bits of mantissa would make values of one fingerprint depend on the machine that extracted them, by far more
    than the 1e-4 that encoders keep.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False

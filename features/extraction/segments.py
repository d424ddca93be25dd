"""Windows over sound and pictures, and statistics over segments (paper)."""

from __future__ import annotations

import numpy as np


def bounds(length: int, window: int, step: int) -> list[tuple[int, int]]:
    """Segment bounds [start, end) over `length` samples or frames; at least one for a length above zero, none for zero.

    Windows begin every `step`. A tail shorter than one step is dropped, unless it is the first segment.
    """
    starts = [start for start in range(0, length, step) if start == 0 or length - start >= step]
    return [(start, min(start + window, length)) for start in starts]


def repeat_to(wave: np.ndarray, length: int) -> np.ndarray:
    """Pad a short wave by repetition of itself to `length` samples."""
    if len(wave) >= length:
        return wave[:length]
    return np.tile(wave, -(-length // len(wave)))[:length]


def audio_windows(wave: np.ndarray, window: int, step: int) -> np.ndarray:
    """Cut a mono wave, float32 (n,), into float32 (n_windows, window); short segments are filled by repetition."""
    return np.stack([repeat_to(wave[start:end], window) for start, end in bounds(len(wave), window, step)])


def frame_segments(vectors: np.ndarray, valid: np.ndarray, window: int, step: int) -> np.ndarray:
    """Mean of the valid frames of every window.

    Args:
        vectors: float32 (n_frames, dim) on a regular time grid.
        valid: bool (n_frames,): frames that show a face.
        window: Window in frames.
        step: Step in frames.

    Returns:
        float32 (n_segments, dim); a window without a valid frame has no row.
    """
    means = [
        vectors[start:end][valid[start:end]].mean(axis=0)
        for start, end in bounds(len(vectors), window, step)
        if valid[start:end].any()
    ]
    return np.stack(means) if means else np.zeros((0, vectors.shape[1]), dtype=np.float32)


def pool(segments: np.ndarray, pooling: str) -> np.ndarray:
    """Aggregate segments into the one vector that the fusion sees.

    Args:
        segments: float32 (n_segments, dim), at least one row.
        pooling: `none` (the only segment itself), `mean`, or `mean_std` (mean and population STD, concatenated).

    Returns:
        float32 (dim,) or (2 * dim,).
    """
    mean = segments.mean(axis=0, dtype=np.float64)
    if pooling == "mean_std":
        mean = np.concatenate([mean, segments.std(axis=0, dtype=np.float64)])
    return mean.astype(np.float32)


def pooled_dim(dim: int, pooling: str) -> int:
    """Width of `pool`'s result for segments of width `dim`."""
    return 2 * dim if pooling == "mean_std" else dim


def segment_dim(pooled: int, pooling: str) -> int:
    """Width of the segments of which `pool` makes vectors of width `pooled`."""
    return pooled // 2 if pooling == "mean_std" else pooled

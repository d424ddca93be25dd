"""Face detection over frames, and which of the faces counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from merloco.models.errors import ModelError

POLICIES = ("largest", "track", "mean_all")


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one frame, best score first; k may be zero."""

    boxes: np.ndarray
    """float32 (k, 4): x0, y0, x1, y1 in pixels, inside the picture."""
    scores: np.ndarray
    """float32 (k,)."""
    landmarks: np.ndarray
    """float32 (k, 5, 2): left eye, right eye, nose, left and right corner of the mouth (as seen), in pixels."""


NO_FACE = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class Detector(Protocol):
    """Finds faces in a batch of frames of one size."""

    def detect(self, frames: np.ndarray) -> list[Faces]:
        """Faces of each of the RGB frames, uint8 (n, height, width, 3)."""
        ...


def choose(faces: Sequence[Faces], policy: str) -> np.ndarray:
    """Index of the face that counts in each frame of one clip, -1 where there is none.

    Args:
        faces: Faces of the clip's frames in order.
        policy: `largest` (by area, per frame) or `track` (the longest chain of overlapping boxes).

    Returns:
        int64 (n_frames,).
    """
    if policy == "largest":
        return np.array([_largest(f) for f in faces], dtype=np.int64)
    if policy == "track":
        return _longest_track(faces)
    raise ModelError(f"unknown face policy {policy!r}: known: {', '.join(POLICIES)}")


def _largest(faces: Faces) -> int:
    if len(faces.boxes) == 0:
        return -1
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return int(np.argmax(sides.prod(axis=1)))


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with each of (k, 4) boxes."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(inter / np.maximum(areas - inter, 1e-9))


def _longest_track(faces: Sequence[Faces], overlap: float = 0.3) -> np.ndarray:
    """Greedy tracks: a box joins the track whose last box it overlaps most; ties go to the older track."""
    tracks: list[dict[int, int]] = []
    heads: list[np.ndarray] = []
    for number, found in enumerate(faces):
        taken: set[int] = set()
        for index, box in enumerate(found.boxes):
            match = iou(box, np.stack(heads)) if heads else np.zeros(0)
            match[list(taken)] = 0.0
            if len(match) and match.max() >= overlap:
                track = int(np.argmax(match))
            else:
                track = len(tracks)
                tracks.append({})
                heads.append(box)
            tracks[track][number] = index
            heads[track] = box
            taken.add(track)
    best = max(tracks, key=len, default={})
    return np.array([best.get(number, -1) for number in range(len(faces))], dtype=np.int64)

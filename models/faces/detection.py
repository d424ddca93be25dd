"""Face detection over frames, and which of the faces counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from merloco.models.device import inference
from merloco.models.errors import ModelError
from merloco.models.transfer import to_device

if TYPE_CHECKING:
    from merloco.models.faces.mtcnn import Found

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


class Mtcnn:
    """MTCNN of facenet-pytorch, whose weights come with the package."""

    def __init__(self, device: str, threshold: float, min_face: int) -> None:
        import torch

        try:
            from facenet_pytorch import MTCNN
        except ImportError:
            raise ModelError(
                "detector 'mtcnn' needs the package facenet-pytorch: run `make setup`, or "
                "`pip install --no-deps facenet-pytorch`"
            ) from None
        self.device, self.threshold, self.smallest = device, threshold, min_face
        self.network: Any = MTCNN(keep_all=True, min_face_size=min_face, device=device, post_process=False)
        if device == "cpu":  # a third less time: pooling over channels that lie together
            for network in (self.network.pnet, self.network.rnet, self.network.onet):
                network.to(memory_format=torch.channels_last)

    def detect(self, frames: np.ndarray) -> list[Faces]:
        """See `Detector.detect`."""
        from merloco.models.faces import mtcnn

        with inference(self.device):
            found = mtcnn.find(self.network, to_device(frames, self.device), self.smallest)
        return [self._faces(one, (frames.shape[2], frames.shape[1])) for one in found]

    def _faces(self, found: Found, size: tuple[int, int]) -> Faces:
        keep = found.scores >= self.threshold
        boxes = np.clip(found.boxes[keep], 0, np.array([*size, *size], dtype=np.float32))
        return Faces(boxes, found.scores[keep], found.points[keep])


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

"""MTCNN's cascade over a batch of frames, each frame as if it were alone (Zhang et al. 2016).

Networks and weights are those of facenet-pytorch. With its own driver, what is found in a frame depends in the last
digits on the others: it keeps frames apart by offsets in float32, and convolutions round as their batch size has it.
A descriptor of the aligned face makes much of such digits. Here offsets are exact and batches have one size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.device import inference, to_device
from merloco.models.errors import ModelError
from merloco.models.faces.detection import Faces

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY = "mtcnn 2.6, frames apart"
"""What fingerprints say of this detector."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Scores that a box needs to leave each of the three networks."""
FACTOR = 0.709
"""Ratio of neighbouring sizes of the pyramid."""
CELL, STRIDE = 12, 2
"""Side and distance of the windows that the first network judges, pixels of the scaled picture."""
FRAMES, SMALL, LARGE = 8, 32, 16
"""Rows per pass of each network, filled up with zeros."""
APART = 2.0**20
"""Distance between the frames of a batch: a power of two, far beyond any picture."""


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
        with inference(self.device):
            detected = detect(self.network, to_device(frames, self.device), self.smallest)
        limits = np.array([frames.shape[2], frames.shape[1]] * 2, dtype=np.float32)
        likely = [faces.scores >= self.threshold for faces in detected]
        return [
            Faces(np.clip(faces.boxes[keep], 0, limits), faces.scores[keep], faces.landmarks[keep])
            for faces, keep in zip(detected, likely, strict=True)
        ]


def detect(networks: Any, frames: Tensor, smallest: int) -> list[Faces]:
    """Run the cascade.

    Args:
        networks: Has `pnet`, `rnet` and `onet` of facenet-pytorch.
        frames: uint8 RGB (n, height, width, 3) on the networks' device.
        smallest: Side of the smallest face to look for, pixels.

    Returns:
        The faces of each frame.
    """
    import torch

    pictures = frames.permute(0, 3, 1, 2).float()
    owners, boxes = _propose(networks.pnet, pictures, smallest)
    owners, boxes = _with_pixels(owners, boxes, pictures)
    if len(boxes):
        moves, scores = _by(SMALL, networks.rnet, _crops(pictures, owners, boxes, 24))
        likely = scores[:, 1] > THRESHOLDS[1]
        owners, boxes, moves, scores = owners[likely], boxes[likely], moves[likely], scores[likely, 1]
        kept = _apart_nms(boxes, scores, owners, 0.7)
        owners, boxes = _with_pixels(owners[kept], _square(_moved(boxes[kept], moves[kept])), pictures)
    if not len(boxes):
        return [_best(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))] * len(frames)
    moves, marks, scores = _by(LARGE, networks.onet, _crops(pictures, owners, boxes, 48))
    likely = scores[:, 1] > THRESHOLDS[2]
    owners, boxes, moves, marks, scores = owners[likely], boxes[likely], moves[likely], marks[likely], scores[likely, 1]
    sides = (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
    points = torch.stack([marks[:, :5], marks[:, 5:]], dim=2) * sides + boxes[:, None, :2] - 1
    owner, box, score, point = (part.cpu().numpy() for part in (owners, _moved(boxes, moves), scores, points))
    return [_best(box[owner == i], score[owner == i], point[owner == i]) for i in range(len(frames))]


def _propose(pnet: Callable[[Tensor], tuple[Tensor, ...]], pictures: Tensor, smallest: int) -> tuple[Tensor, Tensor]:
    """Frame number and square box of every window that may show a face, over a pyramid of sizes."""
    import torch
    from torch.nn.functional import interpolate

    height, width = pictures.shape[2:]
    scale = CELL / smallest
    owners, boxes, scores, moves = [], [], [], []
    while min(height, width) * scale >= CELL:
        size = int(height * scale + 1), int(width * scale + 1)
        move, probability = _by(FRAMES, pnet, interpolate(pictures, size=size, mode="area"))
        owner, row, column = torch.nonzero(probability[:, 1] >= THRESHOLDS[0], as_tuple=True)
        corner = torch.stack([column, row], dim=1).float() * STRIDE
        box = torch.cat([((corner + 1) / scale).floor(), ((corner + CELL) / scale).floor()], dim=1)
        score = probability[owner, 1, row, column]
        kept = _apart_nms(box, score, owner, 0.5)
        owners.append(owner[kept])
        boxes.append(box[kept])
        scores.append(score[kept])
        moves.append(move[owner, :, row, column][kept])
        scale *= FACTOR
    if not boxes:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, 4)
    owner, box, score, move = (torch.cat(parts) for parts in (owners, boxes, scores, moves))
    kept = _apart_nms(box, score, owner, 0.7)
    box = box[kept] + move[kept] * (box[kept, 2:] - box[kept, :2]).repeat(1, 2)
    return owner[kept], _square(box)


def _by(size: int, network: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor) -> tuple[Tensor, ...]:
    """Run a network on values in 0..255, in batches of exactly `size` rows."""
    import torch

    blank = pixels.new_zeros((-len(pixels) % size, *pixels.shape[1:]))
    parts = [network((part - 127.5) * 0.0078125) for part in torch.cat([pixels, blank]).split(size)]
    return tuple(torch.cat(columns)[: len(pixels)] for columns in zip(*parts, strict=True))


def _apart_nms(boxes: Tensor, scores: Tensor, owners: Tensor, overlap: float) -> Tensor:
    """Non-maximum suppression within each frame: in float64 the distance between frames costs no digit."""
    from torchvision.ops import nms

    return nms(boxes.double() + owners[:, None].double() * APART, scores.double(), overlap)


def _square(boxes: Tensor) -> Tensor:
    import torch

    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + sides * 0.5 - longest * 0.5
    return torch.cat([corner, corner + longest], dim=1)


def _moved(boxes: Tensor, moves: Tensor) -> Tensor:
    return boxes + moves * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def _bounds(boxes: Tensor, pictures: Tensor) -> np.ndarray:
    """Pixels of boxes, cut at the picture: int (n, 4) as x0, y0, x1, y1, the ends exclusive."""
    height, width = pictures.shape[2:]
    whole = boxes.trunc().int().cpu().numpy()
    return np.concatenate([np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], [width, height])], axis=1)


def _with_pixels(owners: Tensor, boxes: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Only boxes of which something lies inside the picture."""
    import torch

    bounds = _bounds(boxes, pictures)
    inside = torch.from_numpy((bounds[:, 2:] > bounds[:, :2]).all(axis=1)).to(boxes.device)
    return owners[inside], boxes[inside]


def _crops(pictures: Tensor, owners: Tensor, boxes: Tensor, side: int) -> Tensor:
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    parts = zip(owners.tolist(), _bounds(boxes, pictures).tolist(), strict=True)
    crops = [adaptive_avg_pool2d(pictures[owner, :, y0:y1, x0:x1], side) for owner, (x0, y0, x1, y1) in parts]
    return torch.stack(crops)


def _best(boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> Faces:
    """Drop boxes that lie for the most part in a better one (by the smaller of the two areas); best first."""
    order = np.argsort(-scores, kind="stable")
    sizes = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(high - low + 1, 0, None).prod(axis=1)
        order = order[shared / np.minimum(sizes[best], sizes[order]) <= 0.7]
    return Faces(*(part[kept].astype(np.float32) for part in (boxes, scores, points)))

"""Facial expression without a trained network: gradient orientations of the aligned face crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from merloco.models.encoders.base import EncoderSpec, Encoding, FaceEncoder, parameters_of, register_encoder
from merloco.models.encoders.batching import FRAMES, BatchSize
from merloco.models.faces import mtcnn
from merloco.models.faces.crops import detect_clips
from merloco.models.faces.detection import Faces, choose
from merloco.models.faces.mtcnn import Mtcnn

VERSION = 2
DEFAULTS: dict[str, Any] = {"faces": "largest", "threshold": 0.8, "min_face": 40, "crop": 64, "cell": 8, "bins": 8}
EYES, MOUTH = (0.30, 0.34), 0.78
"""Where the aligned crop puts the left eye (x, y; the right one is mirrored) and the mouth (y), as shares of it."""


def _identity(spec: EncoderSpec) -> dict[str, Any]:
    return {"kind": "face_hog", "version": VERSION, "detector": mtcnn.IDENTITY, **parameters_of(spec, DEFAULTS)}


@register_encoder("face_hog", _identity, DEFAULTS)
class FaceHog:
    """Histogram of oriented gradients of one face per frame, aligned by eyes and mouth, cells at unit length."""

    modality = "video"

    def __init__(self, spec: EncoderSpec, device: str) -> None:
        self.parameters = parameters_of(spec, DEFAULTS)
        self.detector = Mtcnn(device, self.parameters["threshold"], self.parameters["min_face"])
        self.batch = BatchSize(FRAMES, device)
        cells = self.parameters["crop"] // self.parameters["cell"]
        self.dim = cells**2 * self.parameters["bins"]

    def encode(self, items: Sequence[np.ndarray]) -> list[Encoding]:
        """Encode clips, uint8 RGB frames (n, height, width, 3) each; one vector per frame, valid where a face is."""
        return self.encode_detections(items, self.detect(items))

    def encode_detections(self, items: Sequence[np.ndarray], found: Sequence[list[Faces]]) -> list[Encoding]:
        """Encode clips whose faces are known (see `detect`)."""
        return [self._encode_clip(frames, faces) for frames, faces in zip(items, found, strict=True)]

    def detect(self, items: Sequence[np.ndarray]) -> list[list[Faces]]:
        """Faces of every frame; all clips of one frame size are looked through together."""
        return detect_clips(self.detector, items, self.batch)

    def _encode_clip(self, frames: np.ndarray, faces: list[Faces]) -> Encoding:
        chosen = choose(faces, self.parameters["faces"])
        valid = chosen >= 0
        vectors = np.zeros((len(frames), self.dim), dtype=np.float32)
        boxes = np.full((len(frames), 4), np.nan, dtype=np.float32)
        scores = np.full(len(frames), np.nan, dtype=np.float32)
        for i in np.flatnonzero(valid):
            face = faces[i]
            boxes[i], scores[i] = face.boxes[chosen[i]], face.scores[chosen[i]]
            crop = aligned_crop(frames[i], face.landmarks[chosen[i]], self.parameters["crop"])
            vectors[i] = hog(crop, self.parameters["cell"], self.parameters["bins"])
        counts = np.array([len(face.boxes) for face in faces], dtype=np.int32)
        return Encoding(vectors, valid, {"boxes": boxes, "scores": scores, "n_faces": counts, "chosen": chosen})


def aligned_crop(frame: np.ndarray, landmarks: np.ndarray, size: int) -> np.ndarray:
    """Grey crop (size, size) in which eyes and mouth lie at fixed places, so that only the expression moves.

    Args:
        frame: uint8 RGB (height, width, 3).
        landmarks: float32 (5, 2) of the face in pixels.
        size: Side of the crop in pixels.
    """
    import cv2

    # A detector's last digits depend on the other frames of its batch, and one grey level turns the histogram of a flat
    # cell: landmarks on a grid of eighths of a pixel give the same crop in any batch.
    landmarks = np.round(landmarks * 8) / 8
    mouth = landmarks[3:].mean(axis=0)
    source = np.stack([landmarks[0], landmarks[1], mouth]).astype(np.float32)
    target = np.array([EYES, (1 - EYES[0], EYES[1]), (0.5, MOUTH)], dtype=np.float32) * size
    matrix, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    if matrix is None:  # three points on a line: no face has that, a false detection may
        return np.zeros((size, size), dtype=np.uint8)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.warpAffine(grey, matrix, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE))


def hog(grey: np.ndarray, cell: int, bins: int) -> np.ndarray:
    """Histogram of oriented gradients, every cell normalised by itself (Dalal and Triggs 2005, blocks of one cell).

    Args:
        grey: uint8 (size, size).
        cell: Side of a cell in pixels.
        bins: Orientations over half a turn.

    Returns:
        float32 ((size // cell) ** 2 * bins,).
    """
    from skimage.feature import hog as sk_hog

    features = sk_hog(grey, orientations=bins, pixels_per_cell=(cell, cell), cells_per_block=(1, 1))
    return np.asarray(features, dtype=np.float32)


_conforms: type[FaceEncoder] = FaceHog

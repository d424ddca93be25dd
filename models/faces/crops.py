"""From frames to the inputs of an image network: detection, the face policy, crops and their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merloco.models.checkpoints.identity import sha256_of
from merloco.models.encoders.batching import BatchSize
from merloco.models.errors import ModelError
from merloco.models.faces import mtcnn, retinaface
from merloco.models.faces.detection import NO_FACE, POLICIES, Detector, Faces, choose
from merloco.models.faces.mtcnn import Mtcnn

DETECTORS = ("mtcnn", "retinaface")
DEFAULTS: dict[str, Any] = {
    "detector": "retinaface",
    "detector_checkpoint": None,
    "input": None,
    "faces": "mean_all",
    "threshold": 0.8,
    "min_face": 40,
}
"""Parameters of the face side, as the paper has them. `min_face` (pixels) is MTCNN's smallest search size; `input` is
what RetinaFace's weights want, `imagenet` or `bgr_mean` (None: as known of the file, else `imagenet`)."""
WHOLE_FRAME = "none"
"""The policy that takes the frame as it is."""


def face_identity(parameters: Mapping[str, Any], policies: Sequence[str] = POLICIES) -> dict[str, Any]:
    """What the fingerprint says of detector and policy.

    Raises:
        ModelError: An unknown detector or policy, or RetinaFace without its checkpoint.
    """
    policy, detector = parameters["faces"], parameters["detector"]
    if policy not in policies:
        raise ModelError(f"unknown face policy {policy!r}: known: {', '.join(policies)}")
    if policy == WHOLE_FRAME:
        return {"faces": policy}
    if detector not in DETECTORS:
        raise ModelError(f"unknown face detector {detector!r}: known: {', '.join(DETECTORS)}")
    about: dict[str, Any] = {"faces": policy, "detector": detector, "threshold": parameters["threshold"]}
    if detector == "mtcnn":
        return {**about, "detector": mtcnn.IDENTITY, "min_face": parameters["min_face"]}
    sizes = {"longest": retinaface.LONGEST, "overlap": retinaface.OVERLAP}
    weights = sha256_of(_detector_checkpoint(parameters))
    return {**about, **sizes, "detector_weights": weights, "input": retinaface.input_layout(parameters, weights)}


def _detector_checkpoint(parameters: Mapping[str, Any]) -> Path:
    checkpoint = parameters["detector_checkpoint"]
    if not checkpoint or not Path(checkpoint).is_file():
        raise ModelError(
            f"detector 'retinaface' has no weights: put the ResNet-50 RetinaFace checkpoint at {str(checkpoint)!r} "
            "(parameter detector_checkpoint), or set the parameter detector: mtcnn"
        )
    return Path(checkpoint)


def build_detector(parameters: Mapping[str, Any], device: str) -> Detector:
    """The detector of an encoder's parameters.

    Raises:
        ModelError: Its weights or its package are missing.
    """
    if parameters["detector"] == "mtcnn":
        return Mtcnn(device, parameters["threshold"], parameters["min_face"])
    checkpoint = _detector_checkpoint(parameters)
    layout = retinaface.input_layout(parameters, sha256_of(checkpoint))
    return retinaface.RetinaFace(checkpoint, device, parameters["threshold"], layout)


@dataclass(frozen=True, slots=True)
class ClipFaces:
    """The faces of one clip's frames, and which of them count."""

    faces: list[Faces]
    used: list[np.ndarray]
    """Per frame bool (k,)."""

    @property
    def valid(self) -> np.ndarray:
        """Frames with a face that counts, bool (n_frames,)."""
        return np.array([used.any() for used in self.used], dtype=bool)

    def extras(self) -> dict[str, np.ndarray]:
        """Arrays to keep, one row per frame, filled up with NaN and False to the most faces of a frame.

        Returns:
            boxes float32 (n, k, 4), scores float32 (n, k), chosen bool (n, k), n_faces int32 (n,).
        """
        counts = np.array([len(face.boxes) for face in self.faces], dtype=np.int32)
        shape = len(counts), int(counts.max(initial=0))
        boxes = np.full((*shape, 4), np.nan, dtype=np.float32)
        scores = np.full(shape, np.nan, dtype=np.float32)
        chosen = np.zeros(shape, dtype=bool)
        for row, (face, used) in enumerate(zip(self.faces, self.used, strict=True)):
            boxes[row, : counts[row]], scores[row, : counts[row]] = face.boxes, face.scores
            chosen[row, : counts[row]] = used
        return {"boxes": boxes, "scores": scores, "chosen": chosen, "n_faces": counts}


def detect_faces(detector: Detector, items: Sequence[np.ndarray], policy: str, batch: BatchSize) -> list[ClipFaces]:
    """Detect faces in clips and apply the policy.

    Args:
        detector: The detector.
        items: Clips, uint8 RGB (n_frames, height, width, 3).
        policy: `mean_all`, `largest` or `track` (see `merloco.models.faces.detection`).
        batch: Frames per call of the detector, which sees them in full size.
    """
    clips = [[_with_area(face) for face in faces] for faces in detect_clips(detector, items, batch)]
    return [ClipFaces(faces, _apply(faces, policy)) for faces in clips]


def detect_clips(detector: Detector, items: Sequence[np.ndarray], batch: BatchSize) -> list[list[Faces]]:
    """Faces of every frame of clips, uint8 RGB (n_frames, height, width, 3); those of one frame size go together."""
    clips: list[list[Faces]] = [[NO_FACE] * len(item) for item in items]
    for size in sorted({item.shape[1:3] for item in items}):
        places = [
            (clip, frame) for clip, item in enumerate(items) if item.shape[1:3] == size for frame in range(len(item))
        ]

        def detect(part: Sequence[tuple[int, int]]) -> list[Faces]:
            return detector.detect(np.stack([items[clip][frame] for clip, frame in part]))

        for part, faces in batch.over(places, detect):
            for (clip, frame), face in zip(part, faces, strict=True):
                clips[clip][frame] = face
    return clips


def whole_frames(items: Sequence[np.ndarray]) -> list[ClipFaces]:
    """Clips whose every frame counts from corner to corner."""
    clips = []
    for item in items:
        box = np.array([[0, 0, item.shape[2], item.shape[1]]], dtype=np.float32)
        whole = Faces(box, np.ones(1, dtype=np.float32), np.zeros((1, 5, 2), dtype=np.float32))
        clips.append(ClipFaces([whole] * len(item), [np.ones(1, dtype=bool)] * len(item)))
    return clips


def _with_area(faces: Faces) -> Faces:
    """Only faces of which a crop of whole pixels is left: a box at the border can be cut to nothing."""
    corners = faces.boxes.astype(np.int64)
    keep = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    return Faces(faces.boxes[keep], faces.scores[keep], faces.landmarks[keep])


def _apply(faces: list[Faces], policy: str) -> list[np.ndarray]:
    if policy == "mean_all":
        return [np.ones(len(face.boxes), dtype=bool) for face in faces]
    chosen = choose(faces, policy)
    return [np.arange(len(face.boxes)) == index for face, index in zip(faces, chosen, strict=True)]


def frame_inputs(
    items: Sequence[np.ndarray], clips: Sequence[ClipFaces], prepare: Callable[[np.ndarray], np.ndarray], batch: int
) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
    """Inputs of an image network for every frame that shows a face, in batches over all clips.

    Several faces of a frame that count become one input: the mean of their prepared crops (paper: all faces of a frame
    averaged into one input).

    Args:
        items: Clips, uint8 RGB (n_frames, height, width, 3).
        clips: Their faces.
        prepare: Turns a crop, uint8 RGB (h, w, 3), into the network's input, float32 (3, side, side).
        batch: Frames per batch.

    Yields:
        Places as (clip, frame), and inputs float32 (n, 3, side, side).
    """
    places = [(clip, int(frame)) for clip, faces in enumerate(clips) for frame in np.flatnonzero(faces.valid)]
    for begin in range(0, len(places), batch):
        chosen = places[begin : begin + batch]
        yield (
            chosen,
            np.stack(
                [
                    np.mean([prepare(crop) for crop in _crops(items[clip][frame], clips[clip], frame)], axis=0)
                    for clip, frame in chosen
                ]
            ),
        )


def encode_frames(
    items: Sequence[np.ndarray],
    clips: Sequence[ClipFaces],
    prepare: Callable[[np.ndarray], np.ndarray],
    forward: Callable[[np.ndarray], np.ndarray],
    dim: int,
    batch: BatchSize,
) -> list[np.ndarray]:
    """Vectors of every frame, zero where it shows no face; inputs are prepared while the network works.

    Args:
        items: Clips, uint8 RGB (n_frames, height, width, 3).
        clips: Their faces.
        prepare: See `frame_inputs`.
        forward: Maps float32 (n, 3, side, side) to float32 (n, dim).
        dim: Width of a vector.
        batch: Frames per call of `forward`.

    Returns:
        float32 (n_frames, dim) per clip.
    """
    vectors = [np.zeros((len(item), dim), dtype=np.float32) for item in items]
    inputs = frame_inputs(items, clips, prepare, batch.rows)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(next, inputs, None)
        while (current := ready.result()) is not None:
            ready = pool.submit(next, inputs, None)
            places, pictures = current
            encoded = np.concatenate([features for _, features in batch.over(pictures, forward)])
            for (clip, frame), vector in zip(places, encoded, strict=True):
                vectors[clip][frame] = vector
    return vectors


def _crops(frame: np.ndarray, faces: ClipFaces, number: int) -> Iterator[np.ndarray]:
    for box in faces.faces[number].boxes[faces.used[number]]:
        x0, y0, x1, y1 = box.astype(np.int64)
        yield frame[y0:y1, x0:x1]


def crops_of(frame: np.ndarray, faces: ClipFaces, number: int) -> list[np.ndarray]:
    """Crops, uint8 RGB (h, w, 3), of what counts in frame `number` of a clip; `frame_inputs` takes their mean."""
    return list(_crops(frame, faces, number))

"""The demo's faces: one public-domain portrait (NASA, shipped with scikit-image), warped by expression and actor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CROP = (135, 30, 315, 210)
"""x0, y0, x1, y1 of the head in the 512 x 512 portrait."""
# Pixels of the crop.
LEFT_EYE, RIGHT_EYE = (70, 72), (112, 74)
LEFT_BROW, RIGHT_BROW = (66, 60), (115, 61)
INNER_LEFT, INNER_RIGHT = (80, 61), (101, 62)
NOSE = (90, 98)
LEFT_MOUTH, RIGHT_MOUTH, UPPER_LIP, LOWER_LIP = (67, 110), (110, 112), (89, 109), (89, 119)

Shift = tuple[tuple[int, int], float, float, float]
"""Control point, shift in x and y at full strength (pixels), radius (pixels)."""

EXPRESSIONS: dict[str, tuple[Shift, ...]] = {
    "neutral": (),
    "happy": (
        (LEFT_MOUTH, -6, -6, 11),
        (RIGHT_MOUTH, 6, -6, 11),
        (LOWER_LIP, 0, 3, 12),
        ((70, 80), 0, -3, 9),
        ((112, 82), 0, -3, 9),
    ),
    "sad": (
        (LEFT_MOUTH, 2, 7, 11),
        (RIGHT_MOUTH, -2, 7, 11),
        (INNER_LEFT, 1, -5, 9),
        (INNER_RIGHT, -1, -5, 9),
        (LEFT_EYE, 0, 2, 8),
        (RIGHT_EYE, 0, 2, 8),
    ),
    "surprise": (
        (LOWER_LIP, 0, 13, 13),
        (UPPER_LIP, 0, -2, 10),
        (LEFT_BROW, 0, -8, 14),
        (RIGHT_BROW, 0, -8, 14),
        ((70, 68), 0, -3, 7),
        ((112, 70), 0, -3, 7),
    ),
    "fear": (
        (LEFT_MOUTH, -7, 3, 11),
        (RIGHT_MOUTH, 7, 3, 11),
        (LOWER_LIP, 0, 6, 12),
        (INNER_LEFT, 4, -7, 10),
        (INNER_RIGHT, -4, -7, 10),
        ((70, 76), 0, 4, 7),
        ((112, 78), 0, 4, 7),
    ),
    "disgust": (
        (UPPER_LIP, 0, -7, 11),
        (NOSE, 0, -5, 12),
        (LEFT_MOUTH, 3, 2, 9),
        (RIGHT_MOUTH, -1, -4, 9),
        (LEFT_BROW, 2, 4, 11),
        (RIGHT_BROW, -2, 4, 11),
    ),
    "angry": (
        (INNER_LEFT, 5, 8, 11),
        (INNER_RIGHT, -5, 8, 11),
        (LEFT_BROW, 2, 3, 11),
        (RIGHT_BROW, -2, 3, 11),
        (UPPER_LIP, 0, 3, 10),
        (LOWER_LIP, 0, -4, 11),
        (LEFT_MOUTH, 4, 2, 9),
        (RIGHT_MOUTH, -4, 2, 9),
    ),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """How one actor differs from the portrait."""

    mirrored: bool
    tint: tuple[float, float, float]
    """Gain of red, green and blue."""
    width: float
    """Width of the head as a share of the portrait's."""
    pitch: float
    """Mean fundamental frequency of the voice in Hz."""
    tract: float
    """Length of the vocal tract as a share of an adult man's: formants move with its inverse."""


def make_actor(generator: np.random.Generator) -> Actor:
    """Draw an actor."""
    low_voice = bool(generator.integers(2))
    return Actor(
        mirrored=bool(generator.integers(2)),
        tint=tuple(float(v) for v in generator.uniform(0.8, 1.12, 3)),  # type: ignore[arg-type]
        width=float(generator.uniform(0.88, 1.08)),
        pitch=float(generator.uniform(100, 130) if low_voice else generator.uniform(180, 220)),
        tract=float(generator.uniform(0.95, 1.02) if low_voice else generator.uniform(0.83, 0.9)),
    )


@lru_cache(maxsize=1)
def _portrait() -> np.ndarray:
    from skimage.data import astronaut

    x0, y0, x1, y1 = CROP
    return np.ascontiguousarray(astronaut()[y0:y1, x0:x1, :3])


@lru_cache(maxsize=1)
def _mask() -> np.ndarray:
    """Soft oval around the head, float32 (height, width, 1)."""
    height, width = _portrait().shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot((x - 90) / 78, (y - 86) / 86)
    return np.clip((1.0 - distance) * 6.0, 0.0, 1.0)[..., None]


@lru_cache(maxsize=64)
def _bump(point: tuple[int, int], radius: float) -> np.ndarray:
    """Gaussian around a control point, float32 (height, width)."""
    y, x = np.mgrid[: _portrait().shape[0], : _portrait().shape[1]].astype(np.float32)
    return np.asarray(np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * radius**2)))


def render_face(
    actor: Actor, expression: str, strength: float, talking: float, tilt: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a head.

    Args:
        actor: Whose head.
        expression: A key of `EXPRESSIONS`.
        strength: 0 is the portrait with a rested mouth, 1 the full expression.
        talking: 0 to 1, how far speech opens the mouth.
        tilt: Degrees by which the head is turned in the picture plane.
        size: Height of the result in pixels.

    Returns:
        Picture float32 (size, width, 3) with values 0-255 and its mask (size, width, 1).
    """
    import cv2

    portrait, mask = _portrait(), _mask()
    height, width = portrait.shape[:2]
    # The portrait smiles: every face starts from a mouth drawn half way back.
    rested: tuple[Shift, ...] = ((LEFT_MOUTH, 2.5, 3, 10), (RIGHT_MOUTH, -2.5, 3, 10), (LOWER_LIP, 0, -2, 10))
    shifts = [(shift, 1.0) for shift in rested]
    shifts += [(shift, strength) for shift in EXPRESSIONS[expression]]
    shifts.append(((LOWER_LIP, 0.0, 5.0, 11.0), talking))
    map_y, map_x = np.mgrid[:height, :width].astype(np.float32)
    for (point, dx, dy, radius), amount in shifts:
        map_x -= amount * dx * _bump(point, radius)
        map_y -= amount * dy * _bump(point, radius)
    warped = cv2.remap(portrait, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    face = np.clip(warped.astype(np.float32) * np.array(actor.tint, np.float32), 0, 255)
    if actor.mirrored:
        face, mask = face[:, ::-1], mask[:, ::-1]
    target = (max(round(size * actor.width), 8), size)
    scale = np.diag([target[0] / width, target[1] / height, 1.0])
    turn = np.vstack([cv2.getRotationMatrix2D((target[0] / 2, target[1] / 2), tilt, 1.0), [0, 0, 1]])
    matrix = (turn @ scale)[:2]
    drawn = cv2.warpAffine(np.ascontiguousarray(face), matrix, target, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.warpAffine(np.ascontiguousarray(mask), matrix, target)
    return drawn, soft[..., None]

"""From items to rows: an encoder's vectors in windows and pooled; an item that breaks the encoder costs itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from merloco.features.extraction.reader import Item
from merloco.features.extraction.segments import frame_segments, pool
from merloco.features.shards.format import OK, Row
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoder, Encoding, FaceEncoder, ModelError

T = TypeVar("T")


def encode_items(view: FeatureView, encoder: Encoder, items: Sequence[Item]) -> list[Row]:
    """Encode a batch of items into rows, one row per item in the given order."""
    if isinstance(encoder, FaceEncoder):
        return encode_detections(view, encoder, items, detect_batch(encoder, items))
    return _rows(view, items, lambda chosen: encoder.encode([item.value for item in chosen]))


def detect_batch(encoder: FaceEncoder, items: Sequence[Item]) -> dict[str, Any]:
    """Detection for the readable items: sample id -> what `FaceEncoder.find` gives, or the exception."""
    readable = [item for item in items if item.status == OK]
    found = bisect_failures(encoder.find, [item.value for item in readable])
    return dict(zip((item.sample_id for item in readable), found, strict=True))


def encode_detections(
    view: FeatureView, encoder: FaceEncoder, items: Sequence[Item], found: dict[str, Any]
) -> list[Row]:
    """Encode items in which faces have been looked for (`detect_batch`)."""
    items = [_failed(i, found[i.sample_id]) if isinstance(found.get(i.sample_id), Exception) else i for i in items]

    def encode(chosen: Sequence[Item]) -> list[Encoding]:
        return encoder.encode_found([item.value for item in chosen], [found[item.sample_id] for item in chosen])

    return _rows(view, items, encode)


def _rows(
    view: FeatureView, items: Sequence[Item], encode: Callable[[Sequence[Item]], Sequence[Encoding]]
) -> list[Row]:
    readable = [item for item in items if item.status == OK]
    encodings = dict(zip((i.sample_id for i in readable), bisect_failures(encode, readable), strict=True))
    return [_row(view, item, encodings.get(item.sample_id)) for item in items]


def bisect_failures(call: Callable[[Sequence[Any]], Sequence[T]], items: Sequence[Any]) -> list[T | Exception]:
    """Call with all items; if that fails, with halves, so that only the items at fault have an exception.

    Raises:
        ModelError, ImportError: What a user has to mend is no item's fault.
    """
    try:
        return list(call(items)) if items else []
    except (ModelError, ImportError):
        raise
    except Exception as error:  # a network may stumble over an item in any way
        if len(items) == 1:
            return [error]
        half = len(items) // 2
        return bisect_failures(call, items[:half]) + bisect_failures(call, items[half:])


def _failed(item: Item, error: Exception) -> Item:
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Item(item.sample_id, None, "encode_error", message, item.decode_errors)


def _row(view: FeatureView, item: Item, encoding: Encoding | Exception | None) -> Row:
    if isinstance(encoding, Exception):
        item = _failed(item, encoding)
    if item.status != OK or not isinstance(encoding, Encoding):
        return Row(item.sample_id, item.status, item.error, decode_errors=item.decode_errors)
    known: dict[str, Any] = {"decode_errors": item.decode_errors}
    if view.modality == "video":
        window, step = view.window_and_step(view.definition["fps"])
        segments = frame_segments(encoding.vectors, encoding.valid, window, step)
        frames, faces = len(encoding.valid), int(encoding.valid.sum())
        known |= {"frames": frames, "face_frames": faces}
        if faces < view.min_face_share * frames:
            seen = f"a face in {faces} of {frames} frames, below the view's min_face_share {view.min_face_share:g}"
            return Row(item.sample_id, "no_face", seen if faces else None, **known)
    else:
        segments = encoding.vectors[encoding.valid]
    if len(segments) == 0:
        return Row(item.sample_id, "no_face" if view.modality == "video" else "no_features", **known)
    segments = np.ascontiguousarray(segments, dtype=np.float32)
    pooled = pool(segments, view.pooling)
    if not np.isfinite(pooled).all():
        return Row(item.sample_id, "not_finite", "the encoder gave NaN or infinity", **known)
    return Row(item.sample_id, OK, None, segments, pooled, dict(encoding.extras), **known)

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
    return _rows(view, items, lambda batch: encoder.encode([item.value for item in batch]))


def detect_batch(encoder: FaceEncoder, items: Sequence[Item]) -> dict[str, Any]:
    """Detection for the readable items: sample id -> what `FaceEncoder.detect` gives, or the exception."""
    return by_id(items, lambda readable: encoder.detect([item.value for item in readable]))


def encode_detections(
    view: FeatureView, encoder: FaceEncoder, items: Sequence[Item], detections: dict[str, Any]
) -> list[Row]:
    """Encode items in which faces have been looked for (`detect_batch`)."""
    errors = {sample_id: error for sample_id, error in detections.items() if isinstance(error, Exception)}
    items = [_failed(i, errors[i.sample_id]) if i.sample_id in errors else i for i in items]

    def encode(batch: Sequence[Item]) -> list[Encoding]:
        return encoder.encode_detections([item.value for item in batch], [detections[item.sample_id] for item in batch])

    return _rows(view, items, encode)


def _rows(
    view: FeatureView, items: Sequence[Item], encode: Callable[[Sequence[Item]], Sequence[Encoding]]
) -> list[Row]:
    encodings = by_id(items, encode)
    return [_row(view, item, encodings.get(item.sample_id)) for item in items]


def by_id(items: Sequence[Item], call: Callable[[Sequence[Item]], Sequence[T]]) -> dict[str, T | Exception]:
    """What a call gives for each readable item, or its exception."""
    readable = [item for item in items if item.status == OK]
    return dict(zip((item.sample_id for item in readable), bisect_failures(call, readable), strict=True))


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
    return Item(item.sample_id, None, "encode_error", message, item.info)


def _row(view: FeatureView, item: Item, encoding: Encoding | Exception | None) -> Row:
    if isinstance(encoding, Exception):
        item = _failed(item, encoding)
    if item.status != OK or not isinstance(encoding, Encoding):
        return Row(item.sample_id, item.status, item.error, info=item.info)
    counts: dict[str, Any] = {"info": item.info}
    if view.modality == "video":
        window, step = view.window_and_step(view.definition["fps"])
        vectors, valid = encoding.vectors, encoding.valid
        if view.definition.get("faceless_frames") == "drop":
            vectors, valid = vectors[valid], valid[valid]
        segments = frame_segments(vectors, valid, window, step)
        frames, faces = len(encoding.valid), int(encoding.valid.sum())
        counts |= {"frames": frames, "face_frames": faces}
        if faces < view.min_face_share * frames:
            message = f"a face in {faces} of {frames} frames, below the view's min_face_share {view.min_face_share:g}"
            return Row(item.sample_id, "no_face", message if faces else None, **counts)
    else:
        segments = encoding.vectors[encoding.valid]
    if len(segments) == 0:
        return Row(item.sample_id, "no_face" if view.modality == "video" else "no_features", **counts)
    segments = np.ascontiguousarray(segments, dtype=np.float32)
    pooled = pool(segments, view.pooling)
    if not np.isfinite(pooled).all():
        return Row(item.sample_id, "not_finite", "the encoder gave NaN or infinity", **counts)
    return Row(item.sample_id, OK, None, segments, pooled, dict(encoding.extras), **counts)

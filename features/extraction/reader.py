"""Reading one sample for views: its status from the samples table, its media or text, cut as the encoders want it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from merloco.features.extraction.segments import audio_windows
from merloco.features.shards.format import OK
from merloco.features.views import FeatureView
from merloco.pipelines.media.clips import DecodeInfo
from merloco.pipelines.media.pool import Decoder, DecoderPool, InlineDecoder
from merloco.pipelines.media.probe import MediaError


@dataclass(frozen=True, slots=True)
class Item:
    """What was read of one sample for one view: an item for the encoder, or a status."""

    sample_id: str
    value: Any = None
    status: str = OK
    error: str | None = None
    info: DecodeInfo = field(default_factory=DecodeInfo)
    seconds: float = 0.0
    """Time to read it; what several views share is divided among them."""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.value.nbytes if isinstance(self.value, np.ndarray) else 1

    @property
    def rows(self) -> int:
        """Windows or frames; a text is one."""
        return len(self.value) if isinstance(self.value, np.ndarray) else 1


DECODING = {"audio": ("sample_rate", "down_mix"), "video": ("fps",), "text": ()}
"""Modality -> keys of a view's definition that decoding depends on."""
Reader = Callable[[Mapping[str, Any]], Item]
"""Reads one record of the samples table for one view."""


@lru_cache(maxsize=4)
def decoders(time_limit: float) -> DecoderPool:
    """The decoder processes of this process."""
    return DecoderPool(time_limit)


def make_reader(view: FeatureView, root: Path, media: Decoder | None = None) -> Reader:
    """A reader for one view of a corpus; its media paths are relative to `root`; None decodes in this process."""
    used = media or InlineDecoder()
    return lambda record: read_sample([view], record, root, used)[view.name]


def read_sample(views: Sequence[FeatureView], record: Mapping[str, Any], root: Path, media: Decoder) -> dict[str, Item]:
    """View name -> what was read; views that hear or see the same share one decoding."""
    groups: dict[tuple[Any, ...], list[FeatureView]] = {}
    for view in views:
        key = (view.modality, *(view.definition[name] for name in DECODING[view.modality]))
        groups.setdefault(key, []).append(view)
    items = {}
    for (modality, *settings), sharing in groups.items():
        begun = time.perf_counter()
        item = _read(record, root, media, modality, *settings)
        share = (time.perf_counter() - begun) / len(sharing)
        for view in sharing:
            items[view.name] = replace(item, value=prepare(view, item.value), seconds=share)
    return items


def _read(record: Mapping[str, Any], root: Path, media: Decoder, modality: str, *settings: Any) -> Item:
    sample_id, status = record["sample_id"], record[f"{modality}_status"]
    if status != OK:
        return Item(sample_id, status=status)
    if modality == "text":
        return Item(sample_id, record["text"])
    path = root / record[f"{modality}_path"]
    interval = record[f"{modality}_start"], record[f"{modality}_end"]
    try:
        if modality == "video":
            (fps,) = settings
            pictures = media.read_frames(path, *interval, fps, record["video_side"])
            return Item(sample_id, pictures.frames, info=pictures.info)
        sample_rate, down_mix = settings
        sound = media.read_audio(path, *interval, sample_rate, down_mix)
    except MediaError as error:
        return Item(sample_id, status=error.code, error=str(error))
    if sound.silent:
        return Item(sample_id, status="silent", info=sound.info)
    return Item(sample_id, sound.wave, info=sound.info)


def prepare(view: FeatureView, value: Any) -> Any:
    """Cut what was read into what the encoder takes: sound into windows; pictures and text stay as they are."""
    if view.modality == "audio" and value is not None:
        return audio_windows(value, *view.window_and_step(view.definition["sample_rate"]))
    return value

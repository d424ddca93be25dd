"""Reading one sample for a view: its status from the samples table, its media or text, cut as the encoder wants it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.extract import Item, Reader, prepare
from features.view import FeatureView
from pipelines.media import MediaError, read_audio, read_frames


def make_reader(view: FeatureView, root: Path) -> Reader:
    """A function that turns a samples-table record into an item for the view's encoder.

    Args:
        view: The feature view.
        root: Root of the corpus, to which media paths are relative.
    """
    modality = view.modality

    def read(record: Mapping[str, Any]) -> Item:
        sample_id, status = record["sample_id"], record[f"{modality}_status"]
        if status != "ok":
            return Item(sample_id, status=status)
        if modality == "text":
            return Item(sample_id, record["text"])
        path = root / record[f"{modality}_path"]
        interval = record[f"{modality}_start"], record[f"{modality}_end"]
        try:
            if modality == "video":
                pictures = read_frames(path, *interval, fps=view.definition["fps"], side=record["video_side"])
                return Item(sample_id, pictures.frames, decode_errors=pictures.decode_errors)
            sound = read_audio(path, *interval, sample_rate=view.definition["sample_rate"])
        except MediaError as error:
            return Item(sample_id, status=error.code, error=str(error))
        if sound.silent:
            return Item(sample_id, status="silent", decode_errors=sound.decode_errors)
        return Item(sample_id, prepare(view, sound.wave), decode_errors=sound.decode_errors)

    return read

"""CMU-MOSEI's labels from `CMU_MOSEI_Labels.csd`, an HDF5 computational sequence.

::

    All Labels/data/<video>/features     (n, 7)   sentiment and six emotions
    All Labels/data/<video>/intervals    (n, 2)   seconds
    All Labels/metadata/dimension names  (1,)     JSON

Row order means nothing: the clips of a video come in the order of their numbers as strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.corpora.mosei.labels import ALIASES, NAMES, LabelRow, means_of
from merloco.pipelines.errors import DataError


def read_csd(path: Path, parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of `CMU_MOSEI_Labels.csd` (HDF5). Dimension names come from its metadata.

    A video whose arrays are damaged costs its own rows: one `bad_row` per row that its intervals still count, else one.

    Raises:
        DataError: The file is no HDF5 computational sequence, or does not name the seven dimensions.
    """
    import h5py

    try:
        with h5py.File(path, "r") as handle:
            root = next((group for group in handle.values() if isinstance(group, h5py.Group)), None)
            videos = None if root is None else root.get("data")
            if root is None or not isinstance(videos, h5py.Group):
                raise DataError(f"{path.name}: not a label sequence: expected <name>/data/<video>/features")
            names = _dimension_names(root, path.name, parsed)
            for video in sorted(videos):
                yield from _csd_video(path.name, video, videos, names, parsed)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path.name}: not a label sequence ({error}): expected <name>/data/<video>/features") from None


def _dimension_names(group: Any, file: str, parsed: Parsed) -> list[str]:
    try:
        names = json.loads(group["metadata"]["dimension names"][0])
    except (KeyError, ValueError, IndexError, TypeError, AttributeError):
        names = None
    if not isinstance(names, list):
        parsed.notes.append(f"the .csd does not name its dimensions: taken as {', '.join(NAMES)}")
        return list(NAMES)
    names = [ALIASES.get(str(name), str(name)) for name in names]
    missing = [name for name in NAMES if name not in names]
    if missing:
        raise DataError(
            f"{file}: the dimension {missing[0]!r} is missing: its metadata names {', '.join(names)}; "
            f"expected {', '.join(NAMES)}"
        )
    return names


def _csd_video(file: str, video: str, videos: Any, names: list[str], parsed: Parsed) -> Iterator[LabelRow]:
    """Rows of one video, by number from 1 in the order of the file."""

    def bad(row: int, message: str) -> None:
        parsed.errors.append(RowError("bad_row", file, row, f"{video}: {message}"))

    try:
        intervals = np.asarray(videos[video]["intervals"][()], dtype=np.float64)
        features = np.asarray(videos[video]["features"][()], dtype=np.float64)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError):
        bad(0, "expected the numbers of the datasets features and intervals")
        return
    if intervals.ndim != 2 or intervals.shape[1] != 2:
        bad(0, f"intervals of shape {intervals.shape}; expected a start and an end per row")
        return
    if features.ndim != 2 or features.shape != (len(intervals), len(names)):
        for i in range(len(intervals)):
            bad(i + 1, f"features of shape {features.shape}; expected {(len(intervals), len(names))}")
        return
    for i, ((start, end), numbers) in enumerate(zip(intervals.tolist(), features.tolist(), strict=True)):
        if not np.isfinite([start, end, *numbers]).all():
            bad(i + 1, "a start, an end or an intensity that is not a finite number")
            continue
        values = means_of(dict(zip(names, numbers, strict=True)))
        yield LabelRow(video, None, round(start, 6), round(end, 6), values, file, i + 1)

"""CMU-MOSEI releases of a few segments."""

import json
from pathlib import Path

import h5py
import numpy as np

NAMES = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


Truth = dict[str, dict[int, tuple[float, float, list[float], str]]]


def transcripts(root: Path, videos: Truth) -> None:
    folder = root / "Transcript" / "Segmented" / "Combined"
    folder.mkdir(parents=True, exist_ok=True)
    for video, clips in videos.items():
        lines = [f"{video}___{c}___{s}___{e}___{t}" for c, (s, e, _, t) in clips.items()]
        (folder / f"{video}.txt").write_text("\n".join([*lines, f"{video}___99___90.0___91.0___unlabelled"]) + "\n")


def csd(root: Path, videos: Truth, names: tuple[str, ...] = NAMES) -> Path:
    """As the release: the clips of a video in the order of their numbers as strings."""
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "w") as handle:
        for video, clips in videos.items():
            order = sorted(clips, key=str)
            group = handle.create_group(f"All Labels/data/{video}")
            group["intervals"] = np.array([clips[c][:2] for c in order])
            group["features"] = np.array(
                [[dict(zip(NAMES, clips[c][2], strict=True))[n] for n in names] for c in order]
            )
        data = np.array([json.dumps(list(names))], dtype=object)
        handle.create_dataset("All Labels/metadata/dimension names", data=data, dtype=h5py.string_dtype())
    return root

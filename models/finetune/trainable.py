"""Encoders as networks that can be trained: a head over the vectors that the feature store would keep.

A unit is what has a label of its own in training (paper: windows and frames carry the label of their clip):

=========  ======================================================================
modality   one unit
=========  ======================================================================
audio      a window of sound: one array, float32 (n_samples,)
video      a frame: the crops that count in it, each uint8 RGB (height, width, 3)
text       a string
=========  ======================================================================
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from merloco.models.encoders.base import EncoderSpec
from merloco.models.faces.crops import ClipFaces, crops_of

DETECTOR = "detector_checkpoint"


class Trainable(ABC):
    """An encoder's network with a fresh head."""

    network: nn.Module
    """Everything that is trained and kept between epochs."""
    head: nn.Module
    """The part of it that starts from nothing."""
    cutting: Mapping[str, Any]
    """What decides how items are cut into units, beside the view: it stands in the name of a cache of them."""

    @abstractmethod
    def cut(self, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Units of each sample's item (see `merloco.models.encoders.base`); none where nothing counts."""

    def prepare(self, unit: Any) -> Any:
        """The part of the work on a unit that threads do ahead."""
        return unit

    @abstractmethod
    def logits(self, prepared: list[Any]) -> Tensor:
        """Logits (n, classes) of prepared units, with gradients."""

    def train_mode(self) -> None:
        """Switch to training; batch statistics stay those of the checkpoint.

        Frames of a batch come from few clips and differ less than the pictures behind the checkpoint: statistics over
        them would be of the clips' people and rooms, and would not be those that extraction uses.
        """
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    @abstractmethod
    def save(self, folder: Path) -> EncoderSpec:
        """Write the network as its encoder class reads it.

        Args:
            folder: An empty folder.

        Returns:
            How a catalog would describe it; paths are relative to the folder.
        """


def windows_of(values: Sequence[np.ndarray], shortest: int) -> list[list[list[np.ndarray]]]:
    """Units of sounds, float32 (n_windows, n_samples) each: every window of at least `shortest` samples."""
    return [[[window] for window in windows if len(window) >= shortest] for windows in values]


def frames_of(values: Sequence[np.ndarray], clips: Sequence[ClipFaces]) -> list[list[list[np.ndarray]]]:
    """Units of clips, uint8 RGB (n, height, width, 3) each: the crops of every frame in which something counts."""
    return [
        [crops_of(frames[number], faces, int(number)) for number in np.flatnonzero(faces.valid)]
        for frames, faces in zip(values, clips, strict=True)
    ]


def mean_input(crops: Sequence[np.ndarray], prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """One input, float32 (3, side, side), of the crops of one frame, as `frame_inputs` makes it."""
    return np.asarray(np.mean([prepare(crop) for crop in crops], axis=0))


def with_detector(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Parameters of the face side; the detector's weights go along, so that the folder needs no other."""
    if parameters["detector"] != "retinaface" or not parameters[DETECTOR]:
        return {name: value for name, value in parameters.items() if name != DETECTOR}
    copy = folder / "detector" / Path(parameters[DETECTOR]).name
    copy.parent.mkdir()
    shutil.copyfile(parameters[DETECTOR], copy)
    return {**parameters, DETECTOR: copy.relative_to(folder).as_posix()}

"""RetinaFace over batches of frames: network and geometry of retinaface-pytorch, not its one-image predictor.

Released weights come in two layouts with the same keys: those of retinaface-pytorch want RGB as ImageNet networks do,
those of Pytorch_Retinaface (`Resnet50_Final.pth`, which the published method uses) BGR of which only the mean is taken.
With the wrong one hardly a face is found, so a new detector has to find the one of a photograph first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.checkpoints.state_dict import load_into, load_state_dict
from merloco.models.errors import ModelError
from merloco.models.faces.detection import NO_FACE, Faces, iou

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

INPUTS = ("imagenet", "bgr_mean")
"""`imagenet`: RGB in [0, 1], minus `MEAN`, divided by `STD`. `bgr_mean`: BGR in [0, 255], minus `BGR_MEAN`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BGR_MEAN = (104.0, 117.0, 123.0)
KNOWN = {"6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d": "bgr_mean"}
"""sha256 of released weights -> their input: `Resnet50_Final.pth` (`detection_Resnet50_Final.pth` of facexlib)."""
PORTRAIT = Path(__file__).with_name("portrait.jpg")
"""Eileen Collins, photographed by NASA in 1993, public domain."""
PORTRAIT_FACE = (82.0, 61.0, 173.0, 183.0)
"""Where her face is: x0, y0, x1, y1 in pixels."""
VARIANCE = (0.1, 0.2)
LONGEST = 1280
"""Longest side in pixels that the network sees; larger pictures are scaled down."""
OVERLAP = 0.4
"""Boxes that overlap more than this are one face."""


class RetinaFace:
    """Finds faces with the ResNet-50 RetinaFace (paper: threshold 0.8)."""

    def __init__(
        self, checkpoint: str | Path, device: str, threshold: float = 0.8, input_layout: str = "imagenet"
    ) -> None:
        """Load the weights; `input_layout` is one of `INPUTS`.

        Raises:
            ModelError: They do not fit, or they find the face of a photograph only with the other input.
        """
        network = make_network()
        load_into(network, load_state_dict(checkpoint), checkpoint, "RetinaFace with a ResNet-50 backbone")
        self.network = network.eval().to(device)
        self.device = device
        self.threshold = threshold
        self.input_layout = input_layout
        self._require_input(checkpoint)

    def _require_input(self, checkpoint: str | Path) -> None:
        (other,) = set(INPUTS) - {self.input_layout}
        if self._finds_portrait(self.input_layout):
            return
        if self._finds_portrait(other):
            raise ModelError(
                f"{checkpoint}: these RetinaFace weights find no face in a photograph with the input "
                f"{self.input_layout!r}, and the right one with {other!r}: set the encoder's parameter input: {other}"
            )
        _log.warning("%s: these RetinaFace weights find no face in a photograph with either input", checkpoint)

    def _finds_portrait(self, input_layout: str) -> bool:
        from PIL import Image

        picture = np.array(Image.open(PORTRAIT).convert("RGB"))
        (faces,) = self._detect(picture[None], input_layout)
        return len(faces.boxes) > 0 and float(iou(np.array(PORTRAIT_FACE), faces.boxes[:1])[0]) > 0.3

    def detect(self, frames: np.ndarray) -> list[Faces]:
        """Faces of RGB frames of one size, uint8 (n, height, width, 3); boxes in pixels, clipped to the picture."""
        return self._detect(frames, self.input_layout)

    def _detect(self, frames: np.ndarray, input_layout: str) -> list[Faces]:
        import torch

        if len(frames) == 0:
            return []
        height, width = frames.shape[1:3]
        scale = min(LONGEST / max(height, width), 1.0)
        size = round(height * scale), round(width * scale)
        if scale < 1.0:
            import cv2

            frames = np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR) for frame in frames])
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float()
            location, logits, landmarks = self.network(_normalize(images, input_layout))
            scores = logits.softmax(-1)[..., 1]
            grid = _grid(*size).to(self.device)
            return [
                self._faces(location[i], scores[i], landmarks[i], grid, size, (width, height))
                for i in range(len(frames))
            ]

    def _faces(
        self,
        location: torch.Tensor,
        scores: torch.Tensor,
        landmarks: torch.Tensor,
        grid: torch.Tensor,
        size: tuple[int, int],
        picture: tuple[int, int],
    ) -> Faces:
        """Decode one frame: from offsets to boxes in pixels of the picture, best score first, overlaps removed."""
        import torch
        from retinaface.box_utils import decode, decode_landm
        from torchvision.ops import nms

        likely = scores > self.threshold
        if not likely.any():
            return NO_FACE
        unit = torch.tensor([size[1], size[0]] * 2, device=self.device, dtype=torch.float32)
        boxes = decode(location[likely], grid[likely], VARIANCE) * unit
        points = decode_landm(landmarks[likely], grid[likely], VARIANCE) * unit[:2].repeat(5)
        kept = nms(boxes, scores[likely], OVERLAP)
        back = torch.tensor([picture[0] / size[1], picture[1] / size[0]], device=self.device)
        corners = (boxes[kept].view(-1, 2, 2) * back).cpu().numpy()
        limits = np.array(picture, dtype=np.float32)
        return Faces(
            boxes=np.clip(corners, 0, limits).reshape(-1, 4),
            scores=scores[likely][kept].cpu().numpy(),
            landmarks=(points[kept].view(-1, 5, 2) * back).cpu().numpy(),
        )


def _normalize(images: torch.Tensor, input_layout: str) -> torch.Tensor:
    """Network input of RGB pictures in [0, 255], float32 (n, 3, height, width)."""
    import torch

    def vector(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values, device=images.device).view(1, 3, 1, 1)

    if input_layout == "bgr_mean":
        return images.flip(1) - vector(BGR_MEAN)
    return (images / 255 - vector(MEAN)) / vector(STD)


def input_layout(parameters: Mapping[str, Any], weights_sha256: str) -> str:
    """The input of weights: as the parameter `input` says, else as known of the file, else `imagenet`.

    Raises:
        ModelError: The parameter names no input.
    """
    chosen = parameters["input"]
    if chosen is not None and chosen not in INPUTS:
        raise ModelError(f"unknown input {chosen!r} of detector 'retinaface': known: {', '.join(INPUTS)}")
    return str(chosen or KNOWN.get(weights_sha256, "imagenet"))


def make_network() -> Any:
    """The network with untrained weights, in retinaface-pytorch's own key names.

    Raises:
        ModelError: The package is not installed.
    """
    try:
        from retinaface.network import RetinaFace as Network
    except ImportError:
        raise ModelError(
            "detector 'retinaface' needs the package retinaface-pytorch: run `make setup`, or "
            "`pip install --no-deps retinaface-pytorch`"
        ) from None
    layers = {"layer2": 1, "layer3": 2, "layer4": 3}
    return Network(name="Resnet50", pretrained=False, return_layers=layers, in_channels=256, out_channels=256)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> torch.Tensor:
    """Anchor boxes for one picture size: building them takes longer than decoding."""
    from retinaface.prior_box import priorbox

    sizes = [[16, 32], [64, 128], [256, 512]]
    grid: torch.Tensor = priorbox(min_sizes=sizes, steps=[8, 16, 32], clip=False, image_size=(height, width))
    return grid

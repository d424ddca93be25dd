"""RetinaFace over batches of frames: network and geometry of retinaface-pytorch, not its one-image predictor."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from merloco.models.checkpoints.state_dict import load_into, load_state_dict
from merloco.models.errors import ModelError
from merloco.models.faces.detection import NO_FACE, Faces

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VARIANCE = (0.1, 0.2)
LONGEST = 1280
"""Longest side in pixels that the network sees; larger pictures are scaled down."""
OVERLAP = 0.4
"""Boxes that overlap more than this are one face."""


class RetinaFace:
    """Finds faces with the ResNet-50 RetinaFace (paper: threshold 0.8)."""

    def __init__(self, checkpoint: str | Path, device: str, threshold: float = 0.8) -> None:
        network = make_network()
        load_into(network, load_state_dict(checkpoint), checkpoint, "RetinaFace with a ResNet-50 backbone")
        self.network = network.eval().to(device)
        self.device = device
        self.threshold = threshold

    def detect(self, frames: np.ndarray) -> list[Faces]:
        """Faces of RGB frames of one size, uint8 (n, height, width, 3); boxes in pixels, clipped to the picture."""
        import cv2
        import torch

        if len(frames) == 0:
            return []
        height, width = frames.shape[1:3]
        scale = min(LONGEST / max(height, width), 1.0)
        size = round(height * scale), round(width * scale)
        if scale < 1.0:
            frames = np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR) for frame in frames])
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2).float() / 255
            shift, spread = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
            location, logits, landmarks = self.network((images - shift) / spread)
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

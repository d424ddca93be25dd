"""The published visual encoder: ResNet-50 in the layout of its AffectNet checkpoint, and its face preprocessing.

The checkpoint descends from a Keras network, which explains where it differs from torchvision's ResNet-50: the stem
pads as TensorFlow's "same" does, the stride of a stage is on the first 1x1 convolution, the pooling after the stem pads
nothing, batch normalisation has eps 1e-3, and a fully connected layer of 512 lies between the pooling and the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from merloco.models.checkpoints.state_dict import load_into, load_state_dict, rows_of

SIDE = 224
"""Height and width of the input in pixels."""
FEATURES = 512
"""Width of `fc1`."""
CHANNEL_MEANS = (91.4953, 103.8827, 131.0912)
"""Blue, green, red; subtracted from values in 0..255."""
EPS = 1e-3
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, number of blocks and stride of each stage."""
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around which the input passes; the first of them carries the stride."""

    def __init__(self, channels: int, width: int, stride: int, downsample: bool) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        self.batch_norm1 = nn.BatchNorm2d(width, eps=EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.batch_norm2 = nn.BatchNorm2d(width, eps=EPS)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.batch_norm3 = nn.BatchNorm2d(out, eps=EPS)
        self.i_downsample = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out, eps=EPS))
            if downsample
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to (n, 4 * width, h / stride, w / stride)."""
        around = x if self.i_downsample is None else self.i_downsample(x)
        x = torch.relu(self.batch_norm1(self.conv1(x)))
        x = torch.relu(self.batch_norm2(self.conv2(x)))
        return torch.relu(self.batch_norm3(self.conv3(x)) + around)


class ResNet50AffectNet(nn.Module):
    """ResNet-50 with the published checkpoint's own key names.

    Args:
        classes: Number of classes of `fc2`; the features do not depend on it.
    """

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.conv_layer_s2_same = nn.Conv2d(3, 64, 7, stride=2, bias=False)
        self.batch_norm1 = nn.BatchNorm2d(64, eps=EPS)
        channels = 64
        for number, (width, blocks, stride) in enumerate(STAGES, start=1):
            layers = []
            for block in range(blocks):
                layers.append(Bottleneck(channels, width, stride if block == 0 else 1, downsample=block == 0))
                channels = width * EXPANSION
            setattr(self, f"layer{number}", nn.Sequential(*layers))
        self.fc1 = nn.Linear(channels, FEATURES)
        self.fc2 = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """`fc1` before its activation.

        Args:
            x: float32 (n, 3, height, width), preprocessed (see `preprocess`).

        Returns:
            float32 (n, 512).
        """
        x = self.conv_layer_s2_same(_pad_same(x, kernel=7, stride=2))
        x = functional.max_pool2d(torch.relu(self.batch_norm1(x)), kernel_size=3, stride=2)
        for number in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.fc1(x.mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of inputs (n, 3, height, width)."""
        return self.fc2(torch.relu(self.features(x)))


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's "same": what is left over goes to the right and to the bottom."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)


def load_resnet(path: str | Path, device: str = "cpu") -> ResNet50AffectNet:
    """Load the published checkpoint (FER_static_ResNet50_AffectNet.pt or one of its conversions).

    Raises:
        ModelError: The file is not such a checkpoint; the sentence names the keys.
    """
    state = load_state_dict(path)
    network = network_for(state)
    load_into(network, state, path, "ResNet-50 of AffectNet")
    return network.eval().to(device)


def network_for(state: Mapping[str, Tensor]) -> ResNet50AffectNet:
    """A network with as many classes as the checkpoint has."""
    return ResNet50AffectNet(rows_of(state, "fc2.weight", 7))


def preprocess(crop: np.ndarray) -> np.ndarray:
    """Turn a face into the network's input (paper: face preprocessing).

    Args:
        crop: uint8 RGB (height, width, 3), at least one pixel.

    Returns:
        float32 (3, 224, 224): nearest neighbour of the crop, blue first, less the channel means.
    """
    from PIL import Image

    picture = Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    blue_first = np.asarray(picture, dtype=np.float32)[..., ::-1] - np.array(CHANNEL_MEANS, dtype=np.float32)
    return np.ascontiguousarray(blue_first.transpose(2, 0, 1))

"""RetinaFace in batches equals retinaface-pytorch's own network and geometry one image at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from retinaface.box_utils import decode, decode_landm
from retinaface.prior_box import priorbox
from skimage.data import astronaut
from torchvision.ops import nms

from merloco.models.errors import ModelError
from merloco.models.faces.detection import Faces
from merloco.models.faces.retinaface import MEAN, STD, RetinaFace, make_network

pytestmark = pytest.mark.slow

THRESHOLD = 0.62
"""Low enough for a few boxes of random weights."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the released format, with the prefix that DataParallel leaves."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("retinaface") / "retinaface.pth"
    torch.save({f"module.{name}": value for name, value in make_network().state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    picture = astronaut()[:192, 100:356, :3]
    return np.stack([picture, picture[:, ::-1], np.zeros_like(picture)])


def one_image(checkpoint: Path, frame: np.ndarray) -> Faces:
    """The package's own pieces, as its predictor puts them together for one image."""
    network = make_network().eval()
    state = torch.load(checkpoint, weights_only=True)
    network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    height, width = frame.shape[:2]
    grid = priorbox(
        min_sizes=[[16, 32], [64, 128], [256, 512]], steps=[8, 16, 32], clip=False, image_size=(height, width)
    )
    image = (frame.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    with torch.inference_mode():
        location, logits, landmarks = network(torch.from_numpy(image.transpose(2, 0, 1))[None])
    scores = torch.softmax(logits, -1)[0, :, 1]
    scale = torch.tensor([width, height] * 2)
    boxes = decode(location[0], grid, [0.1, 0.2]) * scale
    points = decode_landm(landmarks[0], grid, [0.1, 0.2]) * torch.tensor([width, height] * 5)
    chosen = torch.nonzero(scores > THRESHOLD)[:, 0]
    chosen = chosen[nms(boxes[chosen], scores[chosen], 0.4)]
    return Faces(boxes[chosen].numpy(), scores[chosen].numpy(), points[chosen].view(-1, 5, 2).numpy())


def test_a_batch_equals_single_images(checkpoint: Path, frames: np.ndarray) -> None:
    found = RetinaFace(checkpoint, "cpu", THRESHOLD).detect(frames)
    assert sum(len(faces.boxes) for faces in found) > 0
    for faces, frame in zip(found, frames, strict=True):
        own = one_image(checkpoint, frame)
        assert len(faces.boxes) == len(own.boxes)
        limits = np.array([frame.shape[1], frame.shape[0]] * 2)
        for box, score, points in zip(own.boxes, own.scores, own.landmarks, strict=True):
            # Equal scores may come in another order, and boxes outside are cut to the same edge: each box has a
            # partner that agrees in everything.
            boxes_agree = np.abs(faces.boxes - np.clip(box, 0, limits)).max(axis=1) < 0.02
            points_agree = np.abs(faces.landmarks - points).max(axis=(1, 2)) < 0.02
            assert (boxes_agree & points_agree & (np.abs(faces.scores - score) < 1e-4)).any()


def test_boxes_stay_inside_the_picture(checkpoint: Path, frames: np.ndarray) -> None:
    for faces in RetinaFace(checkpoint, "cpu", 0.5).detect(frames):
        assert (faces.boxes >= 0).all() and (faces.boxes[:, 2] <= 256).all() and (faces.boxes[:, 3] <= 192).all()
        assert (np.diff(faces.scores) <= 0).all()


def test_a_threshold_that_nothing_reaches_gives_no_face(checkpoint: Path, frames: np.ndarray) -> None:
    assert [len(faces.boxes) for faces in RetinaFace(checkpoint, "cpu", 1.0).detect(frames)] == [0, 0, 0]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ModelError, match=r"other\.pth"):
        RetinaFace(path, "cpu")

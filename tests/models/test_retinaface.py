"""RetinaFace in batches equals retinaface-pytorch's own network and geometry one image at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from retinaface.box_utils import decode, decode_landm
from retinaface.prior_box import priorbox
from skimage.data import astronaut
from torchvision.ops import nms

from merloco.models.errors import ModelError
from merloco.models.faces.crops import DEFAULTS, face_identity
from merloco.models.faces.detection import Faces, iou
from merloco.models.faces.retinaface import (
    INPUTS,
    KNOWN,
    MEAN,
    PORTRAIT,
    PORTRAIT_FACE,
    STD,
    RetinaFace,
    _grid,
    _normalize,
    input_layout,
    make_network,
)

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


def trained_for(path: Path, layout: str) -> Path:
    """Weights that find the portrait's face with one input: random features, and a class head fitted to them."""
    torch.manual_seed(0)
    network = make_network().eval()
    picture = np.array(Image.open(PORTRAIT).convert("RGB"))
    images = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        pyramid = network.fpn(network.body(_normalize(images, "imagenet")))
        features = [ssh(level) for ssh, level in zip((network.ssh1, network.ssh2, network.ssh3), pyramid, strict=True)]
        for head in (*network.BboxHead, *network.LandmarkHead):  # boxes are the anchors themselves
            for parameter in head.parameters():
                parameter.zero_()
    anchors = _grid(*picture.shape[:2]).numpy() * np.array([*picture.shape[1::-1]] * 2)
    corners = np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], axis=1)
    truth = torch.from_numpy((iou(np.array(PORTRAIT_FACE), corners) > 0.45).astype(np.int64))
    assert truth.any()
    optimizer = torch.optim.Adam(network.ClassHead.parameters(), 0.05)
    for _ in range(150):
        logits = torch.cat([head(level) for head, level in zip(network.ClassHead, features, strict=True)], dim=1)[0]
        loss = torch.nn.functional.cross_entropy(logits, truth, weight=torch.tensor([1.0, 50.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if layout == "bgr_mean":  # the same network for the other input, but for the means, which are nearly the same
        first = network.body["conv1"].weight
        first.data = (first / (255 * torch.tensor(STD).view(1, 3, 1, 1))).flip(1)
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("layout", INPUTS)
def test_weights_for_the_other_input_are_refused_with_its_name(tmp_path: Path, layout: str) -> None:
    path = trained_for(tmp_path / "weights.pth", layout)
    (other,) = set(INPUTS) - {layout}
    assert RetinaFace(path, "cpu", 0.8, layout)._finds_portrait(layout)
    with pytest.raises(ModelError, match=f"no face in a photograph with the input '{other}'.*input: {layout}"):
        RetinaFace(path, "cpu", 0.8, other)


def test_the_input_is_in_the_fingerprint_and_known_files_have_theirs(checkpoint: Path) -> None:
    parameters = {**DEFAULTS, "detector_checkpoint": str(checkpoint)}
    assert face_identity(parameters)["input"] == "imagenet"
    assert face_identity({**parameters, "input": "bgr_mean"})["input"] == "bgr_mean"
    assert input_layout(parameters, next(iter(KNOWN))) == "bgr_mean"
    with pytest.raises(ModelError, match="unknown input 'rgb' of detector 'retinaface': known: imagenet, bgr_mean"):
        face_identity({**parameters, "input": "rgb"})

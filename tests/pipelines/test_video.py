"""The right picture: upright, with square pixels, the same by either decoder, and never a cover."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from merloco.pipelines.media.frame_grid import MAX_BYTES, open_clip
from merloco.pipelines.media.probe import MediaError, probe
from merloco.pipelines.media.video import _with_decord, _with_pyav, read_frames
from tests.helpers.media_files import Track, clicks, write_streams

TIMES = [i / 25 for i in range(50)]


def red_corner(frame: np.ndarray) -> str:
    """Where the red quarter of a frame (height, width, 3) is."""
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    corners = {
        "upper left": frame[:height, :width],
        "upper right": frame[:height, width:],
        "lower left": frame[height:, :width],
        "lower right": frame[height:, width:],
    }
    return max(corners, key=lambda name: float(corners[name][..., 0].mean()) - float(corners[name][..., 1].mean()))


@pytest.mark.parametrize(
    ("turned", "shape", "corner"),
    [
        (90, (128, 96), "lower left"),
        (180, (96, 128), "lower right"),
        (270, (128, 96), "upper right"),
        (-90, (128, 96), "upper right"),
    ],
)
@pytest.mark.parametrize("interval", [(None, None), (1.3, 1.9)])
def test_pictures_are_turned_as_the_file_says(
    tmp_path: Path, turned: int, shape: tuple[int, int], corner: str, interval: tuple[float | None, float | None]
) -> None:
    path = write_streams(tmp_path / "clip.mp4", TIMES, size=(128, 96), turned=turned)
    for clip in (read_frames(path, *interval), _with_pyav(open_clip(path, *interval, 5.0, "full"))):
        assert clip.frames.shape[1:3] == shape
        assert {red_corner(frame) for frame in clip.frames} == {corner}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2, 1), 128), (Fraction(8, 9), 57), (Fraction(1, 1), 64)])
def test_pixels_become_square(tmp_path: Path, name: str, aspect: Fraction, width: int) -> None:
    codecs = ("mpeg4", "mp2") if name.endswith("avi") else ("libx264", "aac")
    path = write_streams(tmp_path / name, TIMES, aspect=aspect, codecs=codecs)
    clip = read_frames(path)
    assert clip.frames.shape[1:3] == (48, width) and red_corner(clip.frames[0]) == "upper left"
    assert read_frames(path, side="left").frames.shape[2] == width // 2


def test_square_pixels_come_before_the_turn(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mp4", TIMES, turned=90, aspect=Fraction(2, 1))
    assert read_frames(path).frames.shape[1:3] == (128, 48)


def test_an_aspect_that_no_camera_has_is_not_believed(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mp4", TIMES, aspect=Fraction(200, 1))
    assert read_frames(path).frames.shape[1:3] == (48, 64)


@pytest.mark.parametrize("colors", [(1, 1), (2, 1), (2, 5), (1, 9)], ids=["bt709", "full 709", "full 601", "bt2020"])
def test_either_decoder_gives_the_same_colours(tmp_path: Path, colors: tuple[int, int]) -> None:
    path = write_streams(tmp_path / "clip.mp4", TIMES, size=(128, 96), colors=colors)
    clip = open_clip(path, None, None, 5.0, "full")
    one, other = _with_decord(clip), _with_pyav(clip)
    assert np.abs(one.frames.astype(int) - other.frames).max() <= 2
    assert (one.info.decoder, other.info.decoder) == ("decord", "pyav")


@pytest.mark.parametrize("name", ["clip.mp3", "clip.flac"])
def test_a_cover_picture_is_no_video(tmp_path: Path, name: str) -> None:
    codec = {"mp3": "libmp3lame", "flac": "flac"}[name.split(".")[1]]
    path = write_streams(tmp_path / name, None, [Track(clicks(2.0, [0.5]))], codecs=("mjpeg", codec), cover=True)
    with pytest.raises(MediaError) as error:
        read_frames(path)
    assert error.value.code == "no_video" and not probe(path).has_video


def test_beside_a_cover_picture_the_video_is_read(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mp4", TIMES, [Track(clicks(2.0, [0.5]))], cover=True)
    assert len(read_frames(path).frames) == 10 and probe(path).width == 64


def test_the_row_says_why_the_first_decoder_was_not_used(tmp_path: Path) -> None:
    stream = read_frames(write_streams(tmp_path / "clip.ts", TIMES))
    assert (stream.info.decoder, stream.info.decode_notes) == ("pyav", "a container without an index")
    path = write_streams(tmp_path / "clip.mp4", TIMES)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin : begin + 60] = bytes(60)  # the first packet
    path.write_bytes(content)
    try:
        broken = read_frames(path)
    except MediaError as error:
        assert error.code == "decode_error"
    else:
        assert broken.info.decoder == "pyav" and str(broken.info.decode_notes).startswith("decord: ")
        assert str(tmp_path) not in str(broken.info.decode_notes)


def test_more_pictures_than_fit_have_a_status(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mkv", [*TIMES, 3600.0 * 9], size=(640, 480))
    with pytest.raises(MediaError) as error:
        read_frames(path, 0.0, 3600.0 * 9)
    assert error.value.code == "too_long" and f"{MAX_BYTES >> 30} GiB" in str(error.value)

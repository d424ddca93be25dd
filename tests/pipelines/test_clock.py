"""One time line for sound and pictures: zero is the container's start, leaps of the stamps cost nothing."""

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.clock import MAX_GAP, MAX_OVERLAP, Clock
from merloco.pipelines.media.frame_grid import open_clip
from merloco.pipelines.media.probe import MediaError, probe
from merloco.pipelines.media.video import _with_pyav, read_frames
from tests.helpers.media_files import Track, clicks, write_streams

TIMES = [i / 25 for i in range(50)]
SOUND = clicks(2.0, [0.5, 1.5])


def first_click(path: Path, *interval: float | None) -> float:
    """Seconds from the begin of what is read to the first click in it."""
    return float(np.flatnonzero(np.abs(read_audio(path, *interval).wave) > 0.2)[0]) / 16000


def brightness(frames: np.ndarray) -> list[float]:
    """Mean of every frame; from one 0.2 s step to the next it rises by 6."""
    return [float(frame.mean()) for frame in frames]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.mov", "clip.flv"])
@pytest.mark.parametrize("start", [0.0, 5.0, 3600.0, 86400.0])
def test_a_clip_is_the_same_whatever_its_stamps_begin_with(tmp_path: Path, name: str, start: float) -> None:
    path = write_streams(tmp_path / name, [t + start for t in TIMES], [Track(SOUND, start=start)])
    assert first_click(path) == pytest.approx(0.5, abs=0.03)  # a codec's delay that the container does not tell
    assert len(read_audio(path).wave) / 16000 == pytest.approx(2.0, abs=0.06)
    assert first_click(path, 1.0, 2.0) == pytest.approx(0.5, abs=0.03)
    assert len(read_frames(path).frames) == 10
    assert brightness(read_frames(path, 0.0, 1.0).frames) == pytest.approx(
        brightness(read_frames(path).frames[:5]), abs=7
    ), "one picture earlier at most"
    assert probe(path).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_late_sound_stays_late(tmp_path: Path, name: str) -> None:
    path = write_streams(tmp_path / name, TIMES, [Track(SOUND, start=1.0)])
    assert first_click(path) == pytest.approx(1.5, abs=0.03)
    assert first_click(path, 1.0, 2.0) == pytest.approx(0.5, abs=0.03)
    assert read_audio(path, 0.0, 0.9).silent and len(read_audio(path, 0.0, 0.9).wave) == 14400


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize(
    "read", [read_frames, lambda *a: _with_pyav(open_clip(*a, 5.0, "full"))], ids=["first", "pyav"]
)
def test_late_pictures_stay_late_and_none_is_made_up(tmp_path: Path, name: str, read: object) -> None:
    path = write_streams(tmp_path / name, [t + 1.0 for t in TIMES], [Track(clicks(3.0, [0.5]))])
    whole = read(path, None, None).frames
    assert len(whole) == 10 and first_click(path) == pytest.approx(0.5, abs=0.03)
    assert brightness(read(path, 0.0, 1.5).frames) == pytest.approx(brightness(whole[:3]), abs=7)
    assert brightness(read(path, 1.4, 2.0).frames) == pytest.approx(brightness(whole[2:5]), abs=7)
    with pytest.raises(MediaError) as error:
        read(path, 0.0, 0.9)
    assert error.value.code == "no_video" and "begin at 1.0" in str(error.value)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_gap_in_the_sound_is_silence(tmp_path: Path, name: str) -> None:
    path = write_streams(tmp_path / name, TIMES, [Track(SOUND, gap=(1.0, 3.0))])
    wave = read_audio(path).wave
    loud = np.flatnonzero(np.abs(wave) > 0.2) / 16000
    assert loud[0] == pytest.approx(0.5, abs=0.03) and loud[-1] == pytest.approx(4.5, abs=0.05)
    assert read_audio(path, 2.0, 3.0).silent and len(read_audio(path, 2.0, 3.0).wave) == 16000
    assert len(read_audio(path, 0.8, 1.8).wave) == 16000
    assert first_click(path, 4.0, 5.0) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_leap_of_the_stamps_costs_what_the_clip_holds(tmp_path: Path, name: str) -> None:
    leap = 80_000.0
    times = [t if t < 1 else t + leap for t in TIMES]
    path = write_streams(tmp_path / name, times, [Track(SOUND, gap=(1.0, leap))])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(read_audio(path).wave) / 16000 == pytest.approx(2.0, abs=0.1)
    for clip in (read_frames(path), _with_pyav(open_clip(path, None, None, 5.0, "full"))):
        assert len(clip.frames) in (10, 11) and clip.frames[-1].mean() > clip.frames[0].mean() + 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


@given(
    steps=st.lists(st.floats(-100_000, 100_000), min_size=1, max_size=50),
    length=st.floats(0.001, 1.0),
    leaps_out=st.booleans(),
)
def test_time_never_falls_far_back_nor_leaps_where_leaps_are_taken_out(
    steps: list[float], length: float, leaps_out: bool
) -> None:
    clock = Clock(5.0, leaps_out, begin=0.0)
    stamp, end = 5.0, 0.0
    for step in steps:
        stamp += step
        time = clock.read(stamp, length)
        assert time - end >= -MAX_OVERLAP - 1e-6
        assert not leaps_out or time - end <= MAX_GAP + 1e-6
        end = time + length


def test_a_frame_without_a_stamp_follows_the_last_one() -> None:
    clock = Clock(2.0, leaps_out=True, begin=0.0)
    assert [clock.read(stamp, 0.5) for stamp in (2.0, None, None, 3.5)] == [0.0, 0.5, 1.0, 1.5]

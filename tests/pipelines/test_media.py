"""Decoding by time: the right frames, the right samples, and a code for every way a file can be bad."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.frame_grid import open_clip
from merloco.pipelines.media.probe import MediaError, probe
from merloco.pipelines.media.video import _pass, _with_decord, _with_pyav, read_frames
from tests.helpers.media_files import RATE, clicks, write_media


def brightness(frames: np.ndarray) -> list[int]:
    """The 0.2 s step that each frame shows."""
    return [round((float(frame.mean()) - 20) / 8) for frame in frames]


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), Fraction(24000, 1001)])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_frames_are_sampled_by_time_at_any_frame_rate(tmp_path: Path, fps: Fraction, name: str) -> None:
    codecs = ("libx264", "aac") if name.endswith("mp4") else ("mpeg4", "libmp3lame")
    path = write_media(tmp_path / name, seconds=3.0, fps=fps, codecs=codecs)
    shown = brightness(read_frames(path).frames)
    assert len(shown) in (15, 16)
    # The last frame shown by 0.2 i s belongs to step i, or to the one before where no frame begins just there.
    assert all(i - step in (0, 1) for i, step in enumerate(shown))
    assert shown == sorted(shown)


def test_decord_and_pyav_give_the_same_frames(tmp_path: Path) -> None:
    path = write_media(tmp_path / "clip.mp4", seconds=3.0)
    for interval in ((None, None), (0.7, 2.1), (1.5, None)):
        one = _with_decord(open_clip(path, *interval, 5.0, "full")).frames
        other = _with_pyav(open_clip(path, *interval, 5.0, "full")).frames
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).max() <= 2


def test_an_interval_begins_and_ends_where_it_should(tmp_path: Path) -> None:
    path = write_media(tmp_path / "clip.mp4", seconds=6.0)
    assert brightness(read_frames(path, 2.0, 3.0).frames) == [10, 11, 12, 13, 14]


def test_a_split_screen_is_cut_in_the_middle(tmp_path: Path) -> None:
    path = write_media(tmp_path / "clip.mp4", split=True)
    left, right = (read_frames(path, side=side).frames for side in ("left", "right"))
    assert left.shape[2] == right.shape[2] == 32
    assert left[:, :, :24].mean() < 10 and right[:, :, 8:].mean() > 245


def test_sound_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    left = 0.5 * np.sin(2 * np.pi * 440 * time)
    wave = np.stack([left, np.zeros_like(left)])
    path = tmp_path / "stereo.wav"
    soundfile.write(path, wave.T, RATE)
    sound = read_audio(path)
    assert sound.sample_rate == 16000 and len(sound.wave) == 16000
    assert np.abs(sound.wave).max() == pytest.approx(0.25, abs=0.01)


def test_of_six_channels_the_centre_is_the_loudest(tmp_path: Path) -> None:
    wave = np.zeros((6, RATE), dtype=np.float32)
    wave[2] = 0.6 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    sound = read_audio(write_media(tmp_path / "clip.mp4", 1.0, wave=wave))
    assert np.abs(sound.wave[4000:12000]).max() == pytest.approx(0.6 / (1 + 2**0.5 + 1), abs=0.015)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_clicks_stay_where_they_are_after_resampling(tmp_path: Path, name: str) -> None:
    codecs = ("libx264", "aac") if name.endswith("mp4") else ("mpeg4", "pcm_s16le")
    path = write_media(tmp_path / name, 5.0, wave=clicks(5.0, [1.0, 4.25]), codecs=codecs)
    whole = np.abs(read_audio(path).wave)
    assert np.flatnonzero(whole > 0.2)[0] / 16000 == pytest.approx(1.0, abs=0.003)
    cut = np.abs(read_audio(path, 4.0, 4.5).wave)
    assert len(cut) == 8000
    assert np.flatnonzero(cut > 0.2)[0] / 16000 == pytest.approx(0.25, abs=0.003)


def test_an_interval_late_in_a_long_wav_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, clicks(120.0, [100.5], 1)[0], RATE)
    cut = np.abs(read_audio(path, 100.0, 101.0).wave)
    assert len(cut) == 16000
    assert np.flatnonzero(cut > 0.2)[0] / 16000 == pytest.approx(0.5, abs=0.002)


def test_silence_is_told_from_quiet_sound(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "quiet.wav", clicks(1.0, [0.5], 1)[0] * 0.02, RATE)
    assert read_audio(tmp_path / "silent.wav").silent
    assert not read_audio(tmp_path / "quiet.wav").silent


def test_probe_reads_the_header(tmp_path: Path) -> None:
    found = probe(write_media(tmp_path / "clip.mp4", 2.0, wave=clicks(2.0, [])))
    assert (found.has_video, found.has_audio, found.width, found.height, found.sample_rate) == (
        True,
        True,
        64,
        48,
        RATE,
    )
    assert found.duration == pytest.approx(2.0, abs=0.1) and found.fps == 25


def bad_file(path: Path, kind: str) -> Path:
    if kind == "missing_media":
        return path
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no video")
    else:
        content = write_media(path, wave=clicks(3.0, [1.0])).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("kind", "code"),
    [("missing_media", "missing_media"), ("empty", "empty"), ("text", "decode_error"), ("truncated", "decode_error")],
)
@pytest.mark.parametrize("read", [read_audio, read_frames])
def test_a_bad_file_has_a_code(tmp_path: Path, read: object, kind: str, code: str) -> None:
    with pytest.raises(MediaError) as error:
        read(bad_file(tmp_path / "clip.mp4", kind))
    assert error.value.code == code and "clip.mp4" in str(error.value)


def test_a_file_without_sound_or_picture_has_a_code(tmp_path: Path) -> None:
    mute = write_media(tmp_path / "mute.mp4")
    blind = write_media(tmp_path / "blind.mp4", wave=clicks(3.0, [1.0]), picture=False)
    with pytest.raises(MediaError) as error:
        read_audio(mute)
    assert error.value.code == "no_audio"
    with pytest.raises(MediaError) as error:
        read_frames(blind)
    assert error.value.code == "no_video"


def test_bad_packets_cost_themselves_and_are_counted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * RATE)).astype(np.float32)
    path = write_media(tmp_path / "clip.mp4", 5.0, wave=noise, picture=False)
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    sound = read_audio(path)
    assert sound.info.decode_errors >= 1
    assert len(sound.wave) > 4.5 * 16000


def test_an_interval_outside_the_file_has_a_code(tmp_path: Path) -> None:
    path = write_media(tmp_path / "clip.mp4", wave=clicks(3.0, [1.0]))
    for read in (read_audio, read_frames):
        with pytest.raises(MediaError) as error:
            read(path, 30.0, 31.0)
        assert error.value.code == "decode_error"


CONTAINERS = {
    "clip.mp4": ("libx264", "aac"),
    "clip.mkv": ("libx264", "aac"),
    "clip.avi": ("mpeg4", "mp2"),
    "clip.ts": ("libx264", "aac"),
    "old.ts": ("mpeg2video", "mp2"),
}


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same five seconds in several containers; the sound rises in pitch, so that no two moments sound alike."""
    folder = tmp_path_factory.mktemp("containers")
    time = np.arange(5 * RATE) / RATE
    wave = (0.3 * np.sin(2 * np.pi * (200 + 40 * time) * time)).astype(np.float32)[None]
    return {name: write_media(folder / name, 5.0, wave=wave, codecs=codecs) for name, codecs in CONTAINERS.items()}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("interval", [(0.4, 1.2), (2.4, 3.1), (4.1, 4.8)])
def test_the_fallback_shows_of_an_interval_what_it_shows_from_the_begin(
    containers: dict[str, Path], name: str, interval: tuple[float, float]
) -> None:
    found = _with_pyav(open_clip(containers[name], *interval, 5.0, "full")).frames
    whole, errors = _pass(open_clip(containers[name], *interval, 5.0, "full"), from_start=True) or (None, 1)
    assert whole is not None and np.array_equal(found, np.stack(whole.pictures)) and errors == 0


def test_the_fallback_does_not_read_beyond_its_interval(containers: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(containers["clip.mp4"].read_bytes())
    end = content.rindex(b"moov") - 4  # the header lies behind the packets
    begin = end * 7 // 10
    content[begin:end] = np.random.default_rng(0).bytes(end - begin)
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(content)
    found = _with_pyav(open_clip(torn, 0.4, 1.2, 5.0, "full"))
    assert found.info.decode_errors == 0, "what is torn lies behind the interval"
    assert np.array_equal(found.frames, _with_pyav(open_clip(containers["clip.mp4"], 0.4, 1.2, 5.0, "full")).frames)
    assert _with_pyav(open_clip(torn, 0.4, None, 5.0, "full")).info.decode_errors > 0


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.ts", "old.ts"])
@pytest.mark.parametrize("interval", [(0.4, 1.2), (2.4, 3.1), (4.1, 4.8)])
def test_sound_of_an_interval_is_a_part_of_the_whole(
    containers: dict[str, Path], name: str, interval: tuple[float, float]
) -> None:
    whole, part = read_audio(containers[name]).wave, read_audio(containers[name], *interval).wave
    expected = whole[round(interval[0] * 16000) : round(interval[1] * 16000)]
    inner = slice(200, -200)  # the resampler has no neighbours at the edges
    assert len(part) == len(expected) and np.abs(part[inner] - expected[inner]).max() < 1e-3

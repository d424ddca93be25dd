"""Channels to one: by their places, by their mean, the first; and sound that must not be lost on the way."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.channels import ITU, mix_weights
from merloco.pipelines.media.probe import MediaError
from tests.helpers.media_files import RATE, Track, clicks, noise, write_streams

PLACES = {"FL": 0x1, "FR": 0x2, "FC": 0x4, "LFE": 0x8, "BL": 0x10, "BR": 0x20, "BC": 0x100, "SL": 0x200, "SR": 0x400}
LAYOUTS = {
    "mono": ["FC"],
    "stereo": ["FL", "FR"],
    "2.1": ["FL", "FR", "LFE"],
    "quad": ["FL", "FR", "BL", "BR"],
    "5.0": ["FL", "FR", "FC", "SL", "SR"],
    "5.1": ["FL", "FR", "FC", "LFE", "BL", "BR"],
    "6.1": ["FL", "FR", "FC", "LFE", "BC", "SL", "SR"],
    "7.1": ["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"],
}


def wav(path: Path, channels: np.ndarray, places: list[str] | None = None, kind: int = 1) -> Path:
    """A WAV of (channels, n): 16-bit integers (kind 1) or floats as they are (3); with places, an extensible header."""
    data = channels.T.astype("<f4") if kind == 3 else (channels.T * 32767).round().astype("<i2")
    bits, count = data.dtype.itemsize * 8, len(channels)
    head = struct.pack(
        "<HHIIHH", 0xFFFE if places else kind, count, RATE, RATE * count * bits // 8, count * bits // 8, bits
    )
    if places:
        guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
        head += struct.pack("<HHI", 22, bits, sum(PLACES[place] for place in places)) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", data.nbytes) + data.tobytes()
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def tones(count: int, seconds: float = 1.0) -> tuple[np.ndarray, list[int]]:
    """One tone per channel, amplitude 0.5, and their frequencies in hertz."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitches = [300 + 200 * channel for channel in range(count)]
    return np.stack([0.5 * np.sin(2 * np.pi * hertz * time) for hertz in pitches]), pitches


def amplitudes(wave: np.ndarray, pitches: list[int]) -> list[float]:
    """Of the tones in a second of sound at 16 kHz, relative to 0.5."""
    spectrum = np.abs(np.fft.rfft(wave[:16000])) / 8000
    return [float(spectrum[hertz]) / 0.5 for hertz in pitches]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_tone_per_channel_comes_out_at_the_weight_of_its_place(tmp_path: Path, layout: str) -> None:
    places = LAYOUTS[layout]
    channels, pitches = tones(len(places))
    clip = read_audio(wav(tmp_path / "clip.wav", channels, places))
    decibels = {"FC": 0.0, "FL": -3.01, "FR": -3.01, "LFE": -np.inf}
    relative = np.array([10 ** (decibels.get(place, -6.02) / 20) for place in places])
    assert amplitudes(clip.wave, pitches) == pytest.approx(list(relative / relative.sum()), abs=0.002)
    assert clip.info.n_channels == len(places) and clip.info.decode_notes is None


def test_a_file_that_names_no_places_gets_the_mean(tmp_path: Path) -> None:
    channels, pitches = tones(6)
    assert amplitudes(read_audio(wav(tmp_path / "clip.wav", channels)).wave, pitches) == pytest.approx(
        [1 / 6] * 6, abs=0.002
    )


def test_the_down_mix_can_be_chosen(tmp_path: Path) -> None:
    channels, pitches = tones(6)
    path = wav(tmp_path / "clip.wav", channels, LAYOUTS["5.1"])
    assert amplitudes(read_audio(path, down_mix="mean").wave, pitches) == pytest.approx([1 / 6] * 6, abs=0.002)
    assert amplitudes(read_audio(path, down_mix="first").wave, pitches) == pytest.approx([1, 0, 0, 0, 0, 0], abs=0.002)


@given(
    st.lists(st.sampled_from([*ITU, "NONE", "TFL"]), min_size=1, max_size=8), st.sampled_from(["itu", "mean", "first"])
)
def test_weights_are_a_mean(names: list[str], down_mix: str) -> None:
    weights = mix_weights(names, down_mix)
    assert weights.shape == (len(names),) and (weights >= 0).all() and weights.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("gain", [1.0, 0.95])
@pytest.mark.parametrize("down_mix", ["itu", "mean"])
def test_where_channels_cancel_one_is_taken_and_the_row_says_so(tmp_path: Path, gain: float, down_mix: str) -> None:
    (tone,), pitches = tones(1)
    clip = read_audio(wav(tmp_path / "clip.wav", np.stack([tone, -gain * tone]), LAYOUTS["stereo"]), down_mix=down_mix)
    assert amplitudes(clip.wave, pitches) == pytest.approx([1.0], abs=0.01)
    assert clip.info.decode_notes == "the down-mix cancels: channel 1 of 2 alone"


def test_one_silent_channel_is_no_cancellation(tmp_path: Path) -> None:
    (tone,), pitches = tones(1)
    clip = read_audio(wav(tmp_path / "clip.wav", np.stack([0 * tone, tone])))
    assert amplitudes(clip.wave, pitches) == pytest.approx([0.5], abs=0.01) and clip.info.decode_notes is None


@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
def test_floats_in_the_range_of_integers_are_scaled_and_marked(tmp_path: Path, scale: int) -> None:
    (tone,), pitches = tones(1)
    clip = read_audio(wav(tmp_path / "clip.wav", tone[None] * scale, kind=3))
    assert amplitudes(clip.wave, pitches) == pytest.approx([1.0], abs=0.01)
    assert f"full scale is {scale}" in str(clip.info.decode_notes)
    assert clip.info.level_dbfs == pytest.approx(-9.03, abs=0.05) and clip.info.clipped_share == 0


def test_floats_that_overshoot_a_little_stay(tmp_path: Path) -> None:
    (tone,), pitches = tones(1)
    clip = read_audio(wav(tmp_path / "clip.wav", tone[None] * 6, kind=3))
    assert amplitudes(clip.wave, pitches) == pytest.approx([6.0], abs=0.01) and clip.info.decode_notes is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_no_number_has_a_status_and_no_warning(tmp_path: Path, value: float) -> None:
    wave = tones(1)[0]
    wave[0, 5000] = value
    path = wav(tmp_path / "clip.wav", wave, kind=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError) as error:
            read_audio(path)
    assert error.value.code == "not_finite"


def test_level_and_clipping_are_measured(tmp_path: Path) -> None:
    square = np.where(np.arange(RATE) % 100 < 50, 1.0, -1.0)
    info = read_audio(wav(tmp_path / "loud.wav", np.stack([square, 0.5 * square])), sample_rate=RATE).info
    assert info.clipped_share == pytest.approx(0.5) and info.level_dbfs == pytest.approx(20 * np.log10(0.75), abs=0.01)
    soundfile.write(tmp_path / "zero.wav", np.zeros(RATE), RATE)
    assert read_audio(tmp_path / "zero.wav").info.level_dbfs is None


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_the_default_track_is_read_and_named(tmp_path: Path, name: str) -> None:
    tracks = [Track(noise(2.0, 2)), Track(clicks(2.0, [0.5]), default=True)]
    clip = read_audio(write_streams(tmp_path / name, None, tracks))
    assert np.flatnonzero(np.abs(clip.wave) > 0.3)[0] / 16000 == pytest.approx(0.5, abs=0.03)
    assert clip.info.decode_notes == "sound track 2 of 2"


def test_where_the_default_track_is_silent_the_first_with_signal_is_read(tmp_path: Path) -> None:
    tracks = [
        Track(0 * noise(2.0), default=True),
        Track(0 * noise(2.0)),
        Track(clicks(2.0, [0.5], 1)),
        Track(noise(2.0)),
    ]
    clip = read_audio(write_streams(tmp_path / "clip.mkv", None, tracks))
    assert not clip.silent and clip.info.decode_notes == "sound track 3 of 4"
    silent = read_audio(write_streams(tmp_path / "silent.mkv", None, tracks[:2]))
    assert silent.silent and silent.info.decode_notes == "sound track 1 of 2"

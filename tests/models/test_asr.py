"""Whisper transcripts, on a tiny random Whisper made on the spot."""

from pathlib import Path

import numpy as np
import pytest

from merloco.models.asr import BATCH, Transcriber, split_at_quiet
from merloco.models.errors import ModelError
from tests.helpers.tiny_models import save_roberta, save_whisper, waves

RATE = 16000


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber(str(save_whisper(tmp_path_factory.mktemp("asr") / "tiny-whisper")))


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    """A Whisper that is unsure of every word and believes that nobody speaks."""
    return Transcriber(str(save_whisper(tmp_path_factory.mktemp("asr") / "deaf", deaf=True)))


def test_transcripts_come_in_order_with_model_and_revision(transcriber: Transcriber) -> None:
    sounds = [waves(1, 2 * RATE, seed=i)[0] for i in range(3)]
    transcripts = transcriber.transcribe(sounds)
    assert len(transcripts) == 3
    assert all(t.text and not t.no_speech and 0 <= t.no_speech_probability <= 1 for t in transcripts)
    assert {(t.model, len(t.revision)) for t in transcripts} == {("tiny-whisper", 64)}
    assert transcriber.transcribe(sounds[::-1]) == transcripts[::-1]


def test_same_sound_gives_the_same_text_alone_and_among_others(transcriber: Transcriber) -> None:
    sounds = [waves(1, RATE * (1 + i % 4), seed=i)[0] for i in range(10)]
    assert [t.text for t in transcriber.transcribe(sounds)] == [transcriber.transcribe([s])[0].text for s in sounds]


def test_the_encoder_runs_once_for_a_batch(transcriber: Transcriber) -> None:
    sizes: list[int] = []
    encoder = transcriber.network.get_encoder()
    handle = encoder.register_forward_hook(lambda _module, _given, output: sizes.append(len(output[0])))
    transcriber.transcribe([waves(1, RATE, seed=i)[0] for i in range(BATCH + 2)])
    handle.remove()
    assert sizes == [BATCH, 2]


@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(0), np.full(RATE, 5e-5)], ids=["zeros", "empty", "faint"])
def test_silence_has_no_text_and_says_so(sound: np.ndarray, transcriber: Transcriber) -> None:
    (transcript,) = transcriber.transcribe([sound.astype(np.float32)])
    assert (transcript.text, transcript.no_speech, transcript.no_speech_probability) == ("", True, 1.0)


def test_text_that_whisper_itself_takes_for_no_speech_is_dropped(deaf: Transcriber) -> None:
    (transcript,) = deaf.transcribe([waves(1, RATE)[0]])
    assert (transcript.text, transcript.no_speech) == ("", True)
    assert transcript.no_speech_probability > 0.6


def test_long_sound_is_heard_in_chunks(transcriber: Transcriber) -> None:
    wave = waves(1, 65 * RATE)[0]
    (whole,) = transcriber.transcribe([wave])
    parts = transcriber.transcribe(list(split_at_quiet(wave, 30 * RATE)))
    assert len(parts) >= 3
    assert whole.text == " ".join(part.text for part in parts)


def test_silent_stretch_of_a_long_sound_leaves_the_rest(transcriber: Transcriber) -> None:
    wave = np.concatenate([waves(1, 10 * RATE)[0], np.zeros(50 * RATE, dtype=np.float32)])
    (transcript,) = transcriber.transcribe([wave])
    assert transcript.text and not transcript.no_speech


def test_chunks_are_the_sound_and_are_cut_where_it_is_quiet() -> None:
    wave = waves(1, 70 * RATE)[0]
    wave[27 * RATE : 28 * RATE] = 0
    chunks = list(split_at_quiet(wave, 30 * RATE))
    np.testing.assert_array_equal(np.concatenate(chunks), wave)
    assert all(0 < len(chunk) <= 30 * RATE for chunk in chunks)
    assert 27 * RATE <= len(chunks[0]) <= 28 * RATE


@pytest.mark.parametrize(("seconds", "chunks"), [(30, 1), (0, 0)])
def test_sound_that_fits_is_not_cut(seconds: int, chunks: int) -> None:
    assert len(list(split_at_quiet(waves(1, seconds * RATE)[0], 30 * RATE))) == chunks


def test_absent_model_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"Whisper has no weights: .*'merloco-tests/whisper' could not be reached"):
        Transcriber("merloco-tests/whisper")


def test_other_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model_type is 'roberta', expected 'whisper'"):
        Transcriber(str(save_roberta(tmp_path)))

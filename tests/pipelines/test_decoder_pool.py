"""Decoder processes: the same sound and pictures as in this process, and one that dies or hangs costs one sample."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.pool import DecoderPool
from merloco.pipelines.media.probe import MediaError
from merloco.pipelines.media.video import read_frames
from tests.helpers.corpora_files import write_tone
from tests.helpers.decoders import POISON
from tests.helpers.media_files import clicks, write_media


@pytest.fixture
def poisoned() -> Iterator[DecoderPool]:
    decoders = DecoderPool(time_limit=20.0, command=POISON)
    yield decoders
    decoders.close()


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    decoders = DecoderPool(lifetime=3)
    yield decoders
    decoders.close()


def test_a_child_gives_what_this_process_would(tmp_path: Path, decoders: DecoderPool) -> None:
    path = write_media(tmp_path / "a clip ä.mp4", 2.0, wave=clicks(2.0, [0.5, 1.5]))
    assert np.array_equal(decoders.read_audio(path, 0.2, 1.8, 16000).wave, read_audio(path, 0.2, 1.8).wave)
    pictures = decoders.read_frames(path, None, None, 5.0, "left")
    assert np.array_equal(pictures.frames, read_frames(path, side="left").frames) and pictures.fps == 5.0


def test_an_error_keeps_its_code_and_its_sentence(tmp_path: Path, decoders: DecoderPool) -> None:
    with pytest.raises(MediaError, match=r"gone.mp4 is not there") as error:
        decoders.read_frames(tmp_path / "gone.mp4", None, None, 5.0, "full")
    assert error.value.code == "missing_media"


def test_a_child_is_replaced_before_its_leaks_matter(tmp_path: Path, decoders: DecoderPool) -> None:
    path = write_tone(tmp_path / "a.wav", 0.1)
    pids = set()
    for _ in range(5):
        decoders.read_audio(path, None, None, 16000)
        pids.update(decoders.processes)
    assert len(pids) >= 2 and len(decoders.processes) <= 1


def test_a_crash_costs_its_sample_and_is_named(tmp_path: Path, poisoned: DecoderPool) -> None:
    with pytest.raises(MediaError, match=r"crash.wav: the decoder died twice \(SIGSEGV\)") as error:
        poisoned.read_audio(write_tone(tmp_path / "crash.wav", 0.1), None, None, 16000)
    assert error.value.code == "decoder_died"
    assert len(poisoned.read_audio(write_tone(tmp_path / "good.wav", 0.5), None, None, 16000).wave) == 8000


def test_a_hanging_decoder_is_killed_at_the_time_limit(tmp_path: Path, poisoned: DecoderPool) -> None:
    poisoned.read_audio(write_tone(tmp_path / "good.wav", 0.5), None, None, 16000)
    (child,) = poisoned.processes
    poisoned.time_limit = 0.5
    with pytest.raises(MediaError, match=r"hang.wav: not decoded within 0.5 s") as error:
        poisoned.read_audio(write_tone(tmp_path / "hang.wav", 0.1), None, None, 16000)
    assert error.value.code == "timeout" and not psutil.pid_exists(child)


def test_a_death_by_another_cause_is_tried_again(tmp_path: Path, poisoned: DecoderPool) -> None:
    assert len(poisoned.read_audio(write_tone(tmp_path / "once.wav", 0.5), None, None, 16000).wave) == 8000


def test_a_child_ends_with_its_parent_even_while_it_hangs(tmp_path: Path) -> None:
    script = f"""
import os, threading
from pathlib import Path
from merloco.pipelines.media.pool import DecoderPool
decoders = DecoderPool(20.0, {POISON!r})
decoders.read_audio(Path({str(write_tone(tmp_path / "good.wav", 0.5))!r}), None, None, 16000)
Path({str(tmp_path / "pid")!r}).write_text(str(decoders.processes[0]))
hang = Path({str(write_tone(tmp_path / "hang.wav", 0.1))!r})
threading.Thread(target=decoders.read_audio, args=(hang, None, None, 16000), daemon=True).start()
import time; time.sleep(0.5)
os._exit(9)
"""
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 9
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"child {child} outlived its parent")

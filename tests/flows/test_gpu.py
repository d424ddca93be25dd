"""GPU use in the progress bar, asked of nvidia-smi; a machine without one shows nothing."""

import stat
import time
from pathlib import Path

import pytest

from merloco.flows.extract import gpu
from merloco.flows.extract.gpu import gpu_use


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that answers as nvidia-smi does for two GPUs, and writes down what it was asked."""
    path = tmp_path / "nvidia-smi"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nprintf "80\\n61\\n"\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(gpu, "PERIOD", 0.02)
    return path


def watch(ids: list[str], tries: int = 200) -> tuple[list[int], list[int]]:
    shown: list[int] = []
    with gpu_use(shown.append, lambda: ids) as seen:
        for _ in range(tries):
            if shown:
                break
            time.sleep(0.02 if ids else 0.001)
    return shown, seen


def test_the_mean_of_the_gpus_in_use_is_shown(tool: Path) -> None:
    shown, seen = watch(["GPU-a", "GPU-b"])
    assert shown == seen and set(shown) == {70}
    asked = (tool.parent / "asked").read_text().splitlines()[0]
    assert asked == "--id=GPU-a,GPU-b --query-gpu=utilization.gpu --format=csv,noheader,nounits"


def test_nothing_is_asked_while_no_gpu_is_in_use(tool: Path) -> None:
    assert watch([]) == ([], [])
    assert not (tool.parent / "asked").exists()


def test_without_nvidia_smi_there_is_nothing_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "PERIOD", 0.02)
    assert watch(["GPU-a"], tries=10) == ([], [])

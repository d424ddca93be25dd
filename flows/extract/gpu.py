"""How busy the GPU is while this process uses it, as nvidia-smi sees it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD = 1.0
"""Seconds between two looks."""


@contextmanager
def gpu_use(show: Callable[[int], None], visible: Callable[[], list[str]] | None = None) -> Iterator[list[int]]:
    """Watch the GPUs that this process sees, from the moment it computes on one.

    Args:
        show: Called about once a second with their mean utilisation in percent.
        visible: Ids for nvidia-smi; none while no GPU is in use. None asks torch, if it is loaded.

    Yields:
        The percentages so far; none on a machine without nvidia-smi.
    """
    seen: list[int] = []
    done = threading.Event()
    tool = shutil.which("nvidia-smi")

    def watch() -> None:
        while not done.wait(PERIOD):
            ids = (visible or _in_use)()
            percent = _utilization(tool, ids) if tool and ids else None
            if percent is not None:
                seen.append(percent)
                show(percent)

    watcher = threading.Thread(target=watch, daemon=True) if tool else None
    if watcher:
        watcher.start()
    try:
        yield seen
    finally:
        done.set()
        if watcher:
            watcher.join()


def _in_use() -> list[str]:
    torch = sys.modules.get("torch")  # a command that computes nothing must not pay for the import
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(torch.cuda.device_count())]


def _utilization(tool: str, ids: list[str]) -> int | None:
    """Mean over the GPUs; None where nvidia-smi does not say."""
    query = [tool, f"--id={','.join(ids)}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [int(line) for line in text.split() if line.isdigit()]
    return round(sum(values) / len(values)) if values else None

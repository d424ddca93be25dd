"""How the cores of a machine are shared between networks that run beside each other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = 4
"""Networks at work at one time in an extraction: detection and encoding, of two jobs."""

_lock = threading.Lock()
_holders = 0
_before = 0


@contextmanager
def shared_cores() -> Iterator[None]:
    """A block in which each thread's network takes its share of the cores.

    Threads of torch wait for each other by spinning: where every network takes all cores, most of the time goes there.
    New threads take the setting over, so that it has to be made before they start.
    """
    global _holders, _before
    torch = sys.modules.get("torch")  # an encoder without a network does not need it
    if torch is None:
        yield
        return
    with _lock:
        if _holders == 0:
            _before = torch.get_num_threads()
            torch.set_num_threads(max(1, min(_before, len(os.sched_getaffinity(0)) // STAGES)))
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                torch.set_num_threads(_before)

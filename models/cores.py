"""How the cores of a machine are shared between networks that run beside each other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

STAGES = 4
"""Networks at work at one time in an extraction: detection and encoding, of two jobs."""

T = TypeVar("T")
Each = Callable[[Callable[[str], None]], None]
"""Calls a function with every one of some names."""
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


def in_turn(names: Sequence[str]) -> Each:
    """Call a function with one name after the other."""

    def each(work: Callable[[str], None]) -> None:
        for name in names:
            work(name)

    return each


@contextmanager
def at_once(loads: Mapping[str, int]) -> Iterator[Each]:
    """Call a function with every name, in as many threads as there are cores for.

    Args:
        loads: Name -> how much work a call with it is, in any unit.
    """
    import torch

    cores = torch.get_num_threads()
    groups: list[list[str]] = [[] for _ in range(min(cores, len(loads)))]
    for name in sorted(loads, key=lambda name: -loads[name]):
        min(groups, key=lambda group: sum(loads[n] for n in group)).append(name)

    first, *others = [in_turn(group) for group in groups]

    def each(work: Callable[[str], None]) -> None:
        waiting = [pool.submit(other, work) for other in others]
        first(work)
        for one in waiting:
            one.result()

    share = max(1, cores // len(groups))
    torch.set_num_threads(share)  # threads of this one that wait for more work would keep the others from a core
    try:
        with ThreadPoolExecutor(len(groups), initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield each
    finally:
        torch.set_num_threads(cores)


def side_by_side(works: Sequence[Callable[[], Iterator[T]]]) -> Iterator[T]:
    """Run iterators in a thread each, with its share of the cores; their results as they come.

    Raises:
        Exception: The first error of any of them, after the others have ended.
    """
    import torch

    results: SimpleQueue[tuple[str, T | BaseException | None]] = SimpleQueue()
    before = torch.get_num_threads()

    def run(work: Callable[[], Iterator[T]]) -> None:
        torch.set_num_threads(max(1, before // len(works)))
        try:
            for result in work():
                results.put(("result", result))
            results.put(("end", None))
        except BaseException as error:
            results.put(("error", error))

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    failure: BaseException | None = None
    try:
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            kind, value = results.get()
            if kind == "result":
                yield value  # type: ignore[misc]
            else:
                running -= 1
                failure = failure or (value if isinstance(value, BaseException) else None)
    finally:
        torch.set_num_threads(before)
    if failure is not None:
        raise failure

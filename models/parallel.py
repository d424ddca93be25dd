"""How the cores of a machine are shared between networks that run beside each other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

STAGES = 4
"""Networks at work at one time in an extraction: detection and encoding, of two jobs."""

T = TypeVar("T")
ParallelFor = Callable[[Sequence[str], Callable[[str], None]], None]
"""Calls a function with every one of some names."""
_generators = threading.RLock()
_lock = threading.Lock()
_holders = 0
_before = 0


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A block in which the products of the calling thread take this many threads; before and after are the same.

    A product of one thread adds in one order, whatever the machine's cores do: what has to be repeatable takes one.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """A block whose draws from torch's global generators are a function of a seed; they are afterwards as before.

    The generators are the process's: one thread at a time is in such a block.
    """
    import torch

    with _generators, torch.random.fork_rng([device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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


def sequential(names: Sequence[str], work: Callable[[str], None]) -> None:
    """Call a function with one name after the other."""
    for name in names:
        work(name)


@contextmanager
def parallel_for(loads: Mapping[str, int], cores: int) -> Iterator[ParallelFor]:
    """Call a function with every name, in as many threads as there are cores for, each product in one thread.

    Args:
        loads: Name -> how much work a call with it is, in any unit.
        cores: How many threads at most, the caller's with them.
    """
    import torch

    groups: list[list[str]] = [[] for _ in range(min(cores, len(loads)))]
    for name in sorted(loads, key=lambda name: -loads[name]):
        min(groups, key=lambda group: sum(loads[n] for n in group)).append(name)
    first, *others = groups
    with threads(1), ThreadPoolExecutor(max(1, len(others)), "", torch.set_num_threads, (1,)) as pool:

        def run(names: Sequence[str], work: Callable[[str], None]) -> None:
            futures = [pool.submit(sequential, group, work) for group in others]
            sequential(first, work)
            for future in futures:
                future.result()

        yield run


def run_parallel(tasks: Sequence[Callable[[threading.Event], Iterator[T]]], workers: int) -> Generator[T]:
    """Go through iterators in worker threads, each product in one thread; their values as they come.

    Closing the generator, or the first error, stops all: tasks that have not begun never do, and one at work ends when
    it looks at its event or has its next value. No thread is left behind.

    Args:
        tasks: Each takes the event that says that it is to end.
        workers: How many of them are at work at a time.

    Raises:
        Exception: The first error of any of them.
    """
    import torch

    values: SimpleQueue[tuple[str, T | BaseException | None]] = SimpleQueue()
    waiting, lock, stop = iter(tasks), threading.Lock(), threading.Event()

    def tasks_left() -> Iterator[Callable[[threading.Event], Iterator[T]]]:
        while not stop.is_set():
            with lock:
                task = next(waiting, None)
            if task is None:
                return
            yield task

    def work() -> None:
        try:
            with threads(1):
                for task in tasks_left():
                    for value in task(stop):
                        values.put(("value", value))
                        if stop.is_set():
                            return
        except BaseException as error:
            values.put(("error", error))
        finally:
            values.put(("end", None))

    before = torch.get_num_threads()
    pool: list[threading.Thread] = []
    try:
        for _ in range(min(workers, len(tasks))):
            pool.append(threading.Thread(target=work, daemon=True))
            pool[-1].start()
        running = len(pool)
        while running:
            kind, value = values.get()
            if kind == "value":
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                running -= 1
    finally:
        stop.set()
        for thread in pool:
            thread.join()
        torch.set_num_threads(before)  # new threads take over what the last of these had set

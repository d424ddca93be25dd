"""Cores are shared out, given back, and an error in a thread is an error of the caller."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from merloco.models.fusion.trainer import train_runs
from merloco.models.parallel import parallel_for, run_parallel
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, planted


@pytest.fixture(autouse=True)
def four_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_every_name_is_worked_on_once_and_the_heaviest_alone() -> None:
    found: dict[str, tuple[int, int]] = {}

    def work(name: str) -> None:
        found[name] = threading.get_ident(), torch.get_num_threads()

    torch.set_num_threads(2)
    with parallel_for({"audio": 512, "video": 1024, "text": 500}, cores=2) as each:
        each(["audio", "video", "text"], work)
    threads = {name: thread for name, (thread, _) in found.items()}
    assert threads["video"] != threads["audio"] == threads["text"]
    assert {cores for _, cores in found.values()} == {1}
    assert torch.get_num_threads() == 2


def test_one_name_has_one_core() -> None:
    found = []
    with parallel_for({"text": 768}, cores=4) as each:
        each(["text"], lambda name: found.append((name, torch.get_num_threads())))
    assert found == [("text", 1)]
    assert torch.get_num_threads() == 4


def test_an_error_of_one_name_is_raised_after_the_others() -> None:
    done = []

    def work(name: str) -> None:
        if name == "b":
            raise ValueError("b is ill")
        done.append(name)

    with pytest.raises(ValueError, match="b is ill"), parallel_for({"a": 3, "b": 2, "c": 1}, cores=4) as each:
        each(["a", "b", "c"], work)
    assert "a" in done
    assert torch.get_num_threads() == 4


def counted(first: int) -> Iterator[tuple[int, int]]:
    yield first, torch.get_num_threads()
    yield first + 1, torch.get_num_threads()


def test_tasks_in_parallel_give_all_values_and_have_a_core_each() -> None:
    found = list(run_parallel([lambda _, n=n: counted(n) for n in (0, 10, 20)], workers=2))
    assert sorted(found) == [(0, 1), (1, 1), (10, 1), (11, 1), (20, 1), (21, 1)]
    assert torch.get_num_threads() == 4


def endless(steps: list[int]) -> Callable[[threading.Event], Iterator[int]]:
    """A task that has no value and ends only when it is told to."""

    def task(stop: threading.Event) -> Iterator[int]:
        while not stop.wait(0.001):
            steps.append(1)
        yield from ()

    return task


def ill(_: threading.Event) -> Iterator[int]:
    yield 2
    raise ValueError("the task is ill")


def test_the_first_error_of_a_task_ends_the_others_soon() -> None:
    before = threading.active_count()
    steps: list[int] = []
    never: list[int] = []
    found = []
    with pytest.raises(ValueError, match="the task is ill"):
        for value in run_parallel([ill, endless(steps), endless(never)], workers=2):
            found.append(value)
    assert found == [2]
    assert threading.active_count() <= before and torch.get_num_threads() == 4


def test_closing_stops_the_workers_and_waits_for_them() -> None:
    before = threading.active_count()
    steps: list[int] = []
    values = run_parallel([ones, endless(steps)], workers=2)
    assert next(values) == 1
    values.close()
    assert threading.active_count() <= before and torch.get_num_threads() == 4
    seen = len(steps)
    time.sleep(0.02)
    assert len(steps) == seen


def ones(stop: threading.Event) -> Iterator[int]:
    while not stop.is_set():
        yield 1


def test_training_that_is_closed_trains_no_further() -> None:
    before = threading.active_count()
    data = planted(n=120)
    config = replace(CONFIG, epochs=10**6, patience=10**6)
    specs = [run_spec(data, Fold(("a", "b"), ("c",)), replace(config, epochs=epochs), 0) for epochs in (1, 10**6)]
    rows: list[dict[str, float]] = []
    results = train_runs([(data, spec) for spec in specs], lambda _, row: rows.append(row))
    assert next(results).spec is specs[0]
    results.close()
    assert threading.active_count() <= before

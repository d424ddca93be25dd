"""Cores are shared out, given back, and an error in a thread is an error of the caller."""

import threading
from collections.abc import Iterator

import pytest
import torch

from models.cores import at_once, side_by_side


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
    with at_once({"audio": 512, "video": 1024, "text": 500}) as each:
        each(work)
    threads = {name: thread for name, (thread, _) in found.items()}
    assert threads["video"] != threads["audio"] == threads["text"]
    assert {cores for _, cores in found.values()} == {1}
    assert torch.get_num_threads() == 2


def test_one_name_has_all_cores() -> None:
    found = []
    with at_once({"text": 768}) as each:
        each(lambda name: found.append((name, torch.get_num_threads())))
    assert found == [("text", 4)]


def test_an_error_of_one_name_is_raised_after_the_others() -> None:
    done = []

    def work(name: str) -> None:
        if name == "b":
            raise ValueError("b is ill")
        done.append(name)

    with pytest.raises(ValueError, match="b is ill"), at_once({"a": 3, "b": 2, "c": 1}) as each:
        each(work)
    assert "a" in done
    assert torch.get_num_threads() == 4


def test_works_side_by_side_give_all_results_with_a_share_of_the_cores() -> None:
    def work(first: int) -> Iterator[tuple[int, int]]:
        yield first, torch.get_num_threads()
        yield first + 1, torch.get_num_threads()

    found = list(side_by_side([lambda: work(0), lambda: work(10)]))
    assert sorted(found) == [(0, 2), (1, 2), (10, 2), (11, 2)]
    assert torch.get_num_threads() == 4


def test_an_error_of_a_work_is_raised_when_the_others_have_ended() -> None:
    def good() -> Iterator[int]:
        yield 1

    def bad() -> Iterator[int]:
        yield 2
        raise ValueError("the work is ill")

    found = []
    with pytest.raises(ValueError, match="the work is ill"):
        for result in side_by_side([good, bad]):
            found.append(result)
    assert sorted(found) == [1, 2]

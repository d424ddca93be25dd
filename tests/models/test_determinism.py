"""A run is a function of its config: whoever trains beside it, in whatever order, on however many cores."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.trainer import train_run, train_runs
from merloco.models.metrics.evaluation import evaluate
from merloco.models.parallel import threads
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, planted

pytestmark = pytest.mark.slow

LONG = replace(CONFIG, epochs=60, patience=60, dropout=0.1, batch_size=24)
WIDE = {"audio": 338, "video": 300, "text": 129}
"""Widths that are no multiples of a vector register."""


def widened(data: Dataset) -> Dataset:
    """The same rows with the features repeated up to the widths of `WIDE`."""
    features = {m: np.tile(f, (1, -(-WIDE[m] // f.shape[1])))[:, : WIDE[m]].copy() for m, f in data.features.items()}
    return replace(data, features=features)


def bits(result: RunResult) -> dict[str, bytes]:
    """Everything that a run gives, to the last bit."""
    found = {name: weight.tobytes() for name, weight in result.weights.items()}
    return {**found, "history": np.array([list(row.values()) for row in result.history]).tobytes()}


def trained(data: Dataset, specs: list[RunSpec], seed: int, cores: int) -> RunResult:
    """The result of the run with a seed, trained together with others."""
    with threads(cores):
        (result,) = [r for r in train_runs([(data, spec) for spec in specs]) if r.spec.seed == seed]
    return result


def run_of(data: Dataset, seed: int, **settings: object) -> RunSpec:
    return run_spec(data, Fold(("a", "b"), ("c",)), replace(LONG, **settings), seed)


def test_sixty_epochs_give_the_same_bits_alone_and_in_any_company() -> None:
    data = planted(n=160, signal=("text",))
    own = run_of(data, 7)
    two = [run_of(data, 1, learning_rate=1e-4), own]
    five = [own, *(run_of(data, s, learning_rate=10.0**-s, epochs=20 * s) for s in (2, 3, 4, 1))]
    alone = trained(data, [own], 7, cores=1)
    assert len(alone.history) == 60
    assert bits(trained(data, two, 7, cores=2)) == bits(alone)
    assert bits(trained(data, five, 7, cores=3)) == bits(alone)
    assert bits(trained(data, five[::-1], 7, cores=1)) == bits(alone)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 10, "gated_dim": 9}, {"optimizer": "lion", "task": "multi"}])
def test_wide_networks_give_the_same_bits_on_any_number_of_cores(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    monkeypatch.setattr(
        "merloco.models.fusion.trainer.WIDE", 2**19
    )  # so that these take several cores, as the published ones do
    data = widened(planted(n=120))
    own = run_of(data, 7, epochs=3, **settings)
    others = [run_of(data, seed, epochs=2) for seed in (1, 2)]
    one = trained(data, [own], 7, cores=1)
    assert sum(weight.nbytes for weight in one.weights.values()) > 2**19
    assert bits(trained(data, [own], 7, cores=2)) == bits(trained(data, [own], 7, cores=4)) == bits(one)
    assert (
        bits(trained(data, [*others, own], 7, cores=2)) == bits(trained(data, [own, *others], 7, cores=8)) == bits(one)
    )


def test_scores_are_the_same_on_any_number_of_cores() -> None:
    data = widened(planted(n=600))
    result = train_run(data, run_of(data, 0, epochs=1))
    found = []
    for cores in (1, 2, 5):
        with threads(cores):
            found.append(evaluate(data, result, "c", "test").probabilities.tobytes())
    assert len(set(found)) == 1


def test_random_numbers_that_others_draw_play_no_part() -> None:
    data = planted(n=60)
    specs = [run_of(data, seed, epochs=1) for seed in range(30)]
    alone = {spec.seed: bits(train_run(data, spec)) for spec in specs}
    over = threading.Event()

    def draw() -> None:
        while not over.is_set():
            torch.rand(3)

    noise = threading.Thread(target=draw)
    noise.start()
    try:
        with threads(2):
            together = {result.spec.seed: bits(result) for result in train_runs([(data, spec) for spec in specs])}
    finally:
        over.set()
        noise.join()
    assert together == alone


def test_training_and_scoring_draw_no_number_of_torchs_generator() -> None:
    data = planted(n=60)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    evaluate(data, train_run(data, run_of(data, 0, epochs=1)), "c", "test")
    assert torch.rand(1) == expected


def test_training_leaves_torchs_settings_as_they_were() -> None:
    data = planted(n=120)
    before = torch.get_num_threads()
    with threads(3):
        for count, _ in enumerate(train_runs([(data, run_of(data, seed, epochs=2)) for seed in range(4)])):
            assert torch.get_num_threads() == 3, count
        assert torch.get_num_threads() == 3
        assert new_thread_has() == 3
    assert torch.get_num_threads() == before


def new_thread_has() -> int:
    found = []
    one = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    one.start()
    one.join()
    return found[0]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before

"""What a device computes: golden vectors, stacks of runs, batches that do not fit, streams and transfers.

Differences are relative to the largest expected value where that is above 1. float32 is held to what encoders promise;
TF32 has 10 bits of mantissa and bfloat16 has 7: a factor is off by up to 2^-11 and 2^-8, which deep networks of random
weights add up.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from merloco.models.device import inference, to_device
from merloco.models.encoders.batching import BatchSize, encode_windows
from merloco.models.encoders.published.resnet import load_resnet
from merloco.models.encoders.published.roberta import dense, load_roberta
from merloco.models.encoders.published.wav2vec2 import load_wav2vec2, project
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.gated import FusionNet
from merloco.models.fusion.spec import RunResult, RunSpec
from merloco.models.fusion.trainer import STACK, train_run, train_runs
from merloco.models.protocols import Fold, loco_folds, run_spec
from tests.gpu.measuring import DEVICE, Row, chosen_size, forward_passes, print_table, write_report
from tests.helpers.tiny_models import audio_config, draw, seeded_state, text_config, vectors, waves
from tests.helpers.training import CONFIG, CORPORA, WIDTHS, four_corpora, planted

BOUNDS = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 5e-2}
LOSSES = {"float32": 1e-3, "tf32": 5e-3, "bf16": 5e-2}
"""Of the losses of a short training, against those in float32 alone."""
STREAMS = 1e-5
WINDOWS = {"full": 256, "small": 16, "tiny": 8}
ROOM = 2 * 2**30
"""Bytes beyond the weights that the forced lack of memory leaves: a fraction of what all windows at once take."""
SIMULATED = 3
"""Windows that a CPU pretends to hold."""

Check = tuple[str, str, float, float]
"""What, in which precision, its difference and its bound."""


def main() -> None:
    """Check, print, write; exit 1 if a difference is above its bound."""
    name = chosen_size("What a device computes, against golden vectors and against itself.")
    rows: list[Row] = []
    for checks in (golden_vectors(name), stacks(name), memory(WINDOWS[name]), streams(WINDOWS[name]), transfers()):
        for what, precision, difference, bound in checks:
            rows.append(
                {
                    "check": what,
                    "precision": precision,
                    "difference": difference,
                    "bound": bound,
                    "fine": bool(difference <= bound),
                }
            )
    print_table("differences", rows)
    write_report("correct", name, {"checks": rows})
    if not all(row["fine"] for row in rows):
        sys.exit("correct: a difference is above its bound")


def difference(found: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest expected value above 1; infinite where one is not a number."""
    found = found.float().cpu().numpy() if isinstance(found, torch.Tensor) else found
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


# ---- golden vectors


def golden_vectors(size: str) -> Iterator[Check]:
    """The published networks against the numbers that they are known to give."""
    for network, cases in (("resnet", _face), ("wav2vec2", _audio), ("roberta", _text), ("fusion", _fusion)):
        compute = cases()
        for precision, bound in BOUNDS.items():
            if precision == "bfloat16" and (network == "fusion" or (size, network) == ("tiny", "resnet")):
                continue  # the fusion has a bfloat16 of its own; half a minute on a processor without matrix units
            with forward_passes(precision):
                for what, found, expected in compute():
                    yield f"{network} {what}", precision, difference(found, expected), bound


Compute = Callable[[], Iterator[tuple[str, torch.Tensor, np.ndarray]]]


def _saved(state: dict[str, torch.Tensor], load: Callable[[Path], torch.nn.Module]) -> torch.nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "weights.pt")
        return load(Path(folder) / "weights.pt")


def _face() -> Compute:
    network = _saved(seeded_state("face_resnet50"), lambda path: load_resnet(path, DEVICE))
    expected, face = vectors("face_resnet50"), to_device(draw("input.face", (2, 3, 224, 224)) * 60, DEVICE)

    def compute() -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
        features = network.features(face)
        yield "features", features, expected["features"]
        yield "logits", network.fc2(torch.relu(features)), expected["logits"]

    return compute


def _audio() -> Compute:
    state = seeded_state("audio_wav2vec2_tiny")
    network = _saved(state, lambda path: load_wav2vec2(path, audio_config(), DEVICE))
    expected, wave = vectors("audio_wav2vec2_tiny"), to_device(draw("input.wav", (2, 64000)) * np.float32(0.1), DEVICE)

    def compute() -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
        hidden = project(network, wave)
        yield "frames", hidden[:, :3], expected["hidden_first"]
        yield "mean", hidden.mean(dim=1), expected["hidden_mean"]

    return compute


def _text() -> Compute:
    network = _saved(seeded_state("text_roberta_tiny"), lambda path: load_roberta(path, text_config(), DEVICE))
    expected = vectors("text_roberta_tiny")
    tokens = [to_device(expected[name], DEVICE) for name in ("input_ids", "attention_mask")]

    def compute() -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
        yield "features", dense(network, *tokens), expected["features"]

    return compute


def _fusion() -> Compute:
    def compute() -> Iterator[tuple[str, torch.Tensor, np.ndarray]]:
        for gated_dim in (64, 128):
            golden = vectors(f"fusion_{gated_dim}")
            features = {m: to_device(golden[m], DEVICE) for m in WIDTHS}
            for gate in ("softmax", "sigmoid"):
                network = FusionNet(WIDTHS, gated_dim, 7, gate)
                network.load_state_dict(seeded_state(f"fusion_{gated_dim}"))
                yield f"{gated_dim} {gate}", network.eval().to(DEVICE)(features), golden[f"logits_{gate}"]

    return compute


# ---- stacks


def stacks(size: str) -> Iterator[Check]:
    """Runs that train as one stack, against each of them alone; on a CPU, which has no stacks, against one forced."""
    most, STACK["cpu"] = STACK["cpu"], STACK["cuda"]
    try:
        yield from _weights_of_stacks()
        yield from _losses_of_stacks(600 if size == "full" else 200)
    finally:
        STACK["cpu"] = most


def _weights_of_stacks() -> Iterator[Check]:
    data, short = planted(), replace(CONFIG, epochs=6, patience=2, dropout=0.1)
    folds = (Fold(("a", "b"), ("c",)), Fold(("a",), ("c",)), Fold(("b", "c"), ("a",)))
    specs = [run_spec(data, fold, short, seed) for fold in folds for seed in (0, 1)]
    together, alone = _together(data, specs), [train_run(data, spec, device=DEVICE) for spec in specs]
    worst = max(
        difference(one.weights[name], weight)
        for one, other in zip(together, alone, strict=True)
        for name, weight in other.weights.items()
    )
    yield "weights of a stack", "float32", worst, 1e-4
    epochs = max(abs(a.best_epoch - b.best_epoch) for a, b in zip(together, alone, strict=True))
    yield "best epochs of a stack", "float32", epochs, 0


def _losses_of_stacks(rows: int) -> Iterator[Check]:
    data = four_corpora(rows)
    config = replace(CONFIG, gated_dim=64, epochs=2, learning_rate=1e-4, dropout=0.1)
    runs = [(fold, seed) for fold in loco_folds(CORPORA)[:2] for seed in (0, 1)]
    specs = [run_spec(data, fold, config, seed) for fold, seed in runs]
    expected = _losses([train_run(data, spec, device=DEVICE) for spec in specs])
    for precision, bound in LOSSES.items():
        own = [replace(spec, config=replace(config, precision=precision)) for spec in specs]
        yield "losses of a stack", precision, difference(_losses(_together(data, own)), expected), bound


def _together(data: Dataset, specs: list[RunSpec]) -> list[RunResult]:
    return sorted(train_runs([(data, spec) for spec in specs], device=DEVICE), key=lambda result: result.position)


def _losses(results: list[RunResult]) -> np.ndarray:
    return np.array([[row["loss"] for row in result.history] for result in results])


# ---- memory, streams, transfers


def _speech_network() -> torch.nn.Module:
    """wav2vec2-base on a GPU; its small relative on a CPU."""
    torch.manual_seed(0)
    config = Wav2Vec2Config() if DEVICE == "cuda" else Wav2Vec2Config.from_dict(audio_config())
    return Wav2Vec2ForSequenceClassification(config).eval().to(DEVICE)


def _means(network: torch.nn.Module, batch: np.ndarray) -> np.ndarray:
    with inference(DEVICE):
        return np.asarray(project(network, to_device(batch, DEVICE)).mean(dim=1).cpu().numpy())


def memory(count: int) -> Iterator[Check]:
    """More windows at once than memory holds: the batch is halved until it fits, and no value changes."""
    network, windows = _speech_network(), waves(count, 64000)
    batch, small = BatchSize(count), BatchSize(min(count, 4))
    expected = np.stack([e.vectors for e in encode_windows([windows], lambda w: _means(network, w), 256, small)])
    with _scarce_memory():
        found = np.stack([e.vectors for e in encode_windows([windows], _limited(network), 256, batch)])
    yield "values after a lack of memory", "float32", difference(found, expected), BOUNDS["float32"]
    yield f"batch after a lack of memory (of {count})", "float32", batch.rows, count / 2


def _limited(network: torch.nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """A forward pass that takes memory; a CPU, which has too much of it, pretends."""

    def forward(batch: np.ndarray) -> np.ndarray:
        if DEVICE == "cpu" and len(batch) > SIMULATED:
            raise torch.OutOfMemoryError("simulated")
        return _means(network, batch)

    return forward


@contextmanager
def _scarce_memory() -> Iterator[None]:
    """A block with little more memory than what is taken already."""
    if DEVICE == "cpu":
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + ROOM) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def streams(count: int) -> Iterator[Check]:
    """Two threads with a stream each, as detection and encoding have, against one after the other."""
    network, batches = _speech_network(), np.split(waves(min(count, 32), 32000), 2)
    expected = [_means(network, batch) for batch in batches]
    found: list[list[np.ndarray]] = [[], []]

    def work(number: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()) if DEVICE == "cuda" else nullcontext():
            for _ in range(3):
                found[number].append(_means(network, batches[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worst = max(difference(f, e) for own, e in zip(found, expected, strict=True) for f in own)
    yield "two streams", "float32", worst if all(len(own) == 3 for own in found) else float("inf"), STREAMS


def transfers() -> Iterator[Check]:
    """Arrays that are overwritten as soon as they are under way arrive as they were."""
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(generator.integers(1, 2**20), dtype=np.float32) for _ in range(64)]
    kept = [array.copy() for array in arrays]
    sent = []
    for array in arrays:
        sent.append(to_device(array, DEVICE).clone())
        array.fill(np.nan)
    yield "transfers", "float32", max(difference(t, array) for t, array in zip(sent, kept, strict=True)), 0


if __name__ == "__main__":
    main()

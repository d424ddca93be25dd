"""`kill -9` in the middle of a fine-tuning: started again, it ends with the weights of an uninterrupted one.

MERLOCO_KILLS sets the number of kills (2 by default, to keep the suite short).
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from merloco.pipelines.catalog.registered import registered_encoders
from merloco.pipelines.files.atomic import TEMPORARY
from tests.helpers.store_files import CATALOG, make_store
from tests.helpers.tiny_models import save_roberta

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MERLOCO_KILLS", "2"))
EPOCHS = 40
SAMPLES = 200


def arguments(store: Path, base: Path) -> list[str]:
    words = f"finetune --modality text --corpus meld --root meld=. --epochs {EPOCHS} --patience {EPOCHS} --device cpu"
    named = ["--base", str(base), "--name", "tuned", "--learning-rate", "1e-3", "--store", str(store)]
    return [*words.split(), "--no-flow", *named]


def kill_one(store: Path, base: Path, delay: float) -> None:
    """Start a fine-tuning, and kill it some time after it has got ahead by an epoch."""
    snapshot = store / "encoders" / "tuned" / "training.safetensors"
    before = snapshot.stat().st_mtime_ns if snapshot.is_file() else 0
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-m", "merloco.flows.cli.app", *arguments(store, base)],
        cwd=CATALOG.parent,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and (not snapshot.is_file() or snapshot.stat().st_mtime_ns == before):
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"


def contents(store: Path) -> dict[str, bytes]:
    weights = store / "encoders" / "tuned" / "weights"
    return {path.name: path.read_bytes() for path in sorted(weights.iterdir())}


def finish(store: Path, base: Path) -> None:
    """Fine-tune to the end in a process like those that are killed: sums depend on torch's number of threads."""
    subprocess.run([sys.executable, "-m", "merloco.flows.cli.app", *arguments(store, base)], check=True)


def test_a_killed_fine_tuning_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    base = save_roberta(tmp_path / "base")
    whole, killed = (make_store(tmp_path / name, n=SAMPLES, extracted=False).root for name in ("whole", "killed"))
    finish(whole, base)

    generator = random.Random(7)
    for _ in range(KILLS):
        kill_one(killed, base, generator.uniform(0.0, 0.2))
        assert registered_encoders(killed) == {}, "what is unfinished is not known"
    finish(killed, base)
    assert contents(killed) == contents(whole)
    one, other = (registered_encoders(store)["tuned"].description for store in (whole, killed))
    assert one["history"] == other["history"] and len(one["history"]) == EPOCHS + 1
    left = [path.name for path in (killed / "encoders" / "tuned").iterdir()]
    assert sorted(left) == [".lock", "encoder.json", "weights"], f"unfinished files begin with {TEMPORARY}"

"""`kill -9` at any moment of ingest, extract and train: re-running completes, and the store equals an undisturbed one.

MERLOCO_KILLS sets the number of random kills (4 by default, to keep the suite short). The kill server forks children
that have everything imported, so that kills fall on the work.
"""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.checks import check_store
from features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, write_run
from features.store import FeatureStore
from pipelines.catalog import load_catalog
from pipelines.samples import ingest_corpus
from tests.kill_server import KillServer
from tests.store_files import CATALOG, extract_all, make_store

KILLS = int(os.environ.get("MERLOCO_KILLS", "4"))
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
TIMES = '"00:00:01,000","00:00:02,500"'
EMOTIONS = ("neutral", "joy", "sadness", "anger")
KILLED = -9


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), 200)


def write_release(root: Path, train: int) -> Path:
    """A MELD release without media: `train` lines for training, 40 for validation and test each."""
    for part, n in (("train", train), ("dev", 40), ("test", 40)):
        rows = [f"{i},line {i} of {part} says {e},Ann,{e},x,{i // 5},{i % 5},1,1,{TIMES}" for i, e in emotions(n)]
        (root / f"{part}_sent_emo.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return root


def emotions(n: int) -> list[tuple[int, str]]:
    return [(i, EMOTIONS[(i * 7) % 4]) for i in range(n)]


def stages(store: Path, release: Path) -> list[list[str]]:
    """The commands that make a store from nothing."""
    commands = [
        f"ingest meld --root meld={release} --no-flow",
        "extract --modalities text --no-flow",
        "train --train meld --test meld --modalities text --epochs 2 --no-flow",
    ]
    return [[*command.split(), "--store", str(store), "--catalog", str(CATALOG)] for command in commands]


def contents(root: Path) -> dict[str, bytes | dict]:
    """All that a store says: its files byte for byte, of run records and commit records what does not tell the time."""
    found: dict[str, bytes | dict] = {}
    finished = (p for p in root.rglob("*") if not any(part.startswith(".") for part in p.relative_to(root).parts))
    for path in sorted(p for p in finished if p.is_file()):
        value: bytes | dict = path.read_bytes()
        if path.name == "config.json":
            value = json.loads(value)["config"]
        elif path.name.endswith(".commit.json"):
            value = {key: v for key, v in json.loads(value).items() if key != "seconds"}
        found[str(path.relative_to(root))] = value
    return found


def test_kills_at_random_moments_cost_nothing(kill_server: KillServer, release: Path, tmp_path: Path) -> None:
    seconds = []
    for command in stages(tmp_path / "whole", release):
        done = kill_server(*command)
        assert done["code"] == 0, done["output"]
        seconds.append(done["seconds"])
    expected = contents(tmp_path / "whole")
    assert sum(name.startswith("runs/") for name in expected) == 5 and len(expected) == 15

    generator = random.Random(7)
    kills = 0
    while kills < KILLS:
        root = tmp_path / f"killed-{kills}"
        for command, duration in zip(stages(root, release), seconds, strict=True):
            for _ in range(generator.randint(1, 3)):
                kills += kill_server(*command, after=generator.uniform(0, 1.1) * duration)["code"] == KILLED
                assert errors(root) == []
            done = kill_server(*command)
            assert done["code"] == 0, done["output"]
        assert kill_server(*stages(root, release)[1])["code"] == 0  # sweeps what the killed trainers left
        assert contents(root) == expected
        assert check_store(FeatureStore.open(root, load_catalog(CATALOG))) == []
        shutil.rmtree(root)


def errors(root: Path) -> list[str]:
    """What would be wrong or lost; a store that is not there yet has no errors."""
    if not (root / "store.json").is_file():
        return []
    store = FeatureStore.open(root, load_catalog(CATALOG))
    return [finding.message for finding in check_store(store) if finding.severity == "error"]


def rewrite_shards(root: str) -> None:
    """Write every shard of a store again, over the committed ones."""
    extract_all(FeatureStore.open(root, load_catalog(CATALOG)))


def ingest_again(root: str, release: str) -> None:
    """Ingest a release."""
    ingest_corpus("meld", load_catalog(CATALOG).corpus("meld"), Path(release), Path(root))


def write_run_again(root: str) -> None:
    """Write a run over the same one."""
    tables = [schema.empty_table() for schema in (METRICS_SCHEMA, EPOCHS_SCHEMA, PREDICTIONS_SCHEMA)]
    config = {"experiment": "e", "protocol": "p", "train": [], "test": [], "feature_set": "light", "seed": 0}
    write_run(Path(root), config, *tables, {"w": np.ones(3, np.float32)}, {})


@pytest.mark.parametrize("function", ["rewrite_shards", "ingest_again", "write_run_again"])
def test_a_kill_before_every_single_change_of_a_file(
    function: str, kill_server: KillServer, release: Path, tmp_path: Path
) -> None:
    base = make_store(tmp_path / "base", n=20).root
    call = {"call": f"tests.test_kill:{function}"}
    extra = [str(release)] if function == "ingest_again" else []
    whole = shutil.copytree(base, tmp_path / "whole")
    done = kill_server(**call, args=[str(whole), *extra])
    assert done["code"] == 0, done["output"]
    steps = 0
    while True:
        steps += 1
        root = shutil.copytree(base, tmp_path / f"killed-{steps}")
        killed = kill_server(**call, args=[str(root), *extra], step=steps, within=str(root))
        assert errors(root) == []
        if killed["code"] == 0:
            break
        assert killed["code"] == KILLED, killed["output"]
        assert kill_server(**call, args=[str(root), *extra])["code"] == 0
        assert contents(root) == contents(whole)
        shutil.rmtree(root)
    assert steps > 5

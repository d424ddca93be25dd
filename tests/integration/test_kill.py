"""`kill -9` at any moment of ingest, transcribe, extract, finetune, train and delete: the same command completes it.

The store equals an undisturbed one then, and nobody who was deleted is back.

MERLOCO_KILLS sets the number of random kills (4 by default, to keep the suite short). The kill server forks children
that have everything imported, so that kills fall on the work.
"""

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from merloco.features.maintenance.check import check_store
from merloco.features.maintenance.delete import delete
from merloco.features.maintenance.targets import resolve_targets
from merloco.features.runs import EPOCHS_SCHEMA, METRICS_SCHEMA, PREDICTIONS_SCHEMA, write_run
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.ingest import ingest_corpus
from tests.helpers.kill_server import KillServer
from tests.helpers.media_files import clicks, write_media
from tests.helpers.store_contents import contents, write_release
from tests.helpers.store_files import CATALOG, extract_all, make_store
from tests.helpers.tiny_models import save_roberta, save_whisper

KILLS = int(os.environ.get("MERLOCO_KILLS", "4"))
KILLED = -9
INTERRUPTED = ("deleted", "hash")
"""Codes of what `check` finds until an interrupted deletion is run again."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), 200)


@dataclass(frozen=True)
class Materials:
    """What the commands work on: two releases, and the models that transcribe and are fine-tuned."""

    meld: Path
    afew: Path
    whisper: Path
    roberta: Path


@pytest.fixture(scope="module")
def materials(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Materials:
    root = tmp_path_factory.mktemp("materials")
    afew = write_clips(root / "afew")
    return Materials(release, afew, save_whisper(root / "tiny-whisper"), save_roberta(root / "tiny-roberta"))


def write_clips(root: Path, n: int = 6) -> Path:
    """An AFEW release of `n` short clips with sound and without text."""
    for i in range(n):
        path = root / "Train_AFEW" / "Happy" / f"{i:09d}.avi"
        write_media(path, seconds=0.8, size=(32, 32), wave=clicks(0.8, [0.2]), codecs=("mpeg4", "pcm_s16le"))
    return root


def every_stage(store: Path, materials: Materials) -> list[list[str]]:
    """The commands that make a store from nothing, and at last take a person out of it."""
    commands = [
        f"ingest --root meld={materials.meld} --root afew={materials.afew} --no-flow",
        f"transcribe --corpora afew --model {materials.whisper} --device cpu --no-flow",
        "extract --modalities text --no-flow",
        f"finetune --modality text --corpus meld --base {materials.roberta} --name tuned --features light --epochs 4 "
        "--device cpu --no-flow",
        "train --train meld --test meld --modalities text --epochs 2 --no-flow",
        "delete --speaker meld/Bob --yes",
    ]
    return [[*command.split(), "--store", str(store), "--catalog", str(CATALOG)] for command in commands]


def once_more(store: Path, materials: Materials) -> list[list[str]]:
    """Ingest and extract again: they bring nobody back, and sweep what killed writers left."""
    commands = every_stage(store, materials)
    return [commands[0], commands[2]]


def ids_in(root: Path) -> set[str]:
    """Every sample id that stands in a table of a store."""
    tables = (pq.read_table(path) for path in root.rglob("*.parquet") if not path.name.startswith("."))
    return {id_ for table in tables if "sample_id" in table.column_names for id_ in table["sample_id"].to_pylist()}


def test_kills_at_random_moments_cost_nothing(kill_server: KillServer, materials: Materials, tmp_path: Path) -> None:
    seconds = []
    whole = tmp_path / "whole"
    for number, command in enumerate(every_stage(whole, materials)):
        if number == 5:
            bobs = ids_in(whole)
        done = kill_server(*command)
        assert done["code"] == 0, done["output"]
        seconds.append(done["seconds"])
    bobs -= ids_in(whole)
    for again in once_more(whole, materials):
        assert kill_server(*again)["code"] == 0
    assert len(bobs) == 33, "every ninth line of 200, 40 and 40"
    expected = contents(whole)

    generator = random.Random(7)
    kills = 0
    while kills < KILLS:
        root = tmp_path / f"killed-{kills}"
        for command, duration in zip(every_stage(root, materials), seconds, strict=True):
            for _ in range(generator.randint(1, 3)):
                kills += kill_server(*command, after=generator.uniform(0, 1.1) * duration)["code"] == KILLED
                # An interrupted deletion says so until the same command has completed it.
                assert errors(root, INTERRUPTED if command[0] == "delete" else ()) == []
            done = kill_server(*command)
            assert done["code"] == 0, done["output"]
        for again in once_more(root, materials):
            assert kill_server(*again)["code"] == 0
        assert not ids_in(root) & bobs
        assert contents(root) == expected
        assert check_store(FeatureStore.open(root, load_catalog(CATALOG, root))) == []
        shutil.rmtree(root)


def errors(root: Path, but: Sequence[str] = ()) -> list[str]:
    """What would be wrong or lost, but findings of some codes; a store that is not there yet has no errors."""
    if not (root / "store.json").is_file():
        return []
    store = FeatureStore.open(root, load_catalog(CATALOG, root))
    return [f.message for f in check_store(store) if f.severity == "error" and f.code not in but]


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


def delete_a_sample(root: str) -> None:
    """Delete one sample for good."""
    store = FeatureStore.open(root, load_catalog(CATALOG, root))
    for target in resolve_targets(store, ["meld/train/dia0_utt0"], []):
        delete(store, target)


@pytest.mark.parametrize("function", ["rewrite_shards", "ingest_again", "write_run_again", "delete_a_sample"])
def test_two_kills_before_any_change_of_a_file(
    function: str, kill_server: KillServer, release: Path, tmp_path: Path
) -> None:
    base = make_store(tmp_path / "base", n=20).root
    call = {"call": f"tests.integration.test_kill:{function}"}
    extra = [str(release)] if function == "ingest_again" else []
    but = INTERRUPTED if function == "delete_a_sample" else ()
    whole = shutil.copytree(base, tmp_path / "whole")
    done = kill_server(**call, args=[str(whole), *extra])
    assert done["code"] == 0, done["output"]
    generator = random.Random(7)
    steps = 0
    while True:
        steps += 1
        root = shutil.copytree(base, tmp_path / f"killed-{steps}")
        killed = kill_server(**call, args=[str(root), *extra], step=steps, within=str(root))
        assert errors(root, but) == []
        if killed["code"] == 0:
            break
        assert killed["code"] == KILLED, killed["output"]
        # A second one falls on what the first one left.
        killed = kill_server(**call, args=[str(root), *extra], step=generator.randint(1, steps), within=str(root))
        assert killed["code"] in (0, KILLED), killed["output"]
        assert errors(root, but) == []
        assert kill_server(**call, args=[str(root), *extra])["code"] == 0
        assert contents(root) == contents(whole)
        shutil.rmtree(root)
    assert steps > 5

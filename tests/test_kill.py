"""`kill -9` at random moments of an extraction: re-running completes, and the store equals an uninterrupted one.

MERLOCO_KILLS sets the number of kills (3 by default, to keep the suite short).
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from features.checks import check_store
from features.store import FeatureStore
from pipelines.catalog import load_catalog
from tests.store_files import CATALOG, make_store

KILLS = int(os.environ.get("MERLOCO_KILLS", "3"))
SAMPLES = 2000


def command(store: Path) -> list[str]:
    script = str(Path(sys.executable).parent / "merloco")
    return [script, "extract", "--modalities", "text", "--store", str(store), "--no-flow", "--root", "meld=."]


def extract(store: Path) -> None:
    done = subprocess.run(command(store), cwd=CATALOG.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def contents(store: FeatureStore) -> dict[str, bytes]:
    files = sorted(p for p in (store.root / "views").rglob("*") if p.suffix in (".tar", ".parquet"))
    return {str(p.relative_to(store.root)): p.read_bytes() for p in files if not p.name.startswith(".tmp-")}


def test_a_killed_extraction_is_completed_by_the_next_one(tmp_path: Path) -> None:
    whole = make_store(tmp_path / "whole", n=SAMPLES, extracted=False)
    begun = time.monotonic()
    extract(whole.root)
    duration = time.monotonic() - begun
    expected = contents(whole)
    assert len(expected) == 16

    generator = random.Random(7)
    killed = make_store(tmp_path / "killed", n=SAMPLES, extracted=False)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(
            command(killed.root), cwd=CATALOG.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0.3, 1.0) * duration)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        reopened = FeatureStore.open(killed.root, load_catalog(CATALOG))
        assert [f.message for f in check_store(reopened) if f.severity == "error"] == []
        if len(contents(reopened)) == len(expected):  # nothing is left to be killed in: begin again
            assert contents(reopened) == expected
            shutil.rmtree(killed.root / "views")
    extract(killed.root)
    assert contents(killed) == expected
    assert check_store(killed) == []

"""Where a corpus lies: what is not there now although the ingest saw it is a fault of the moment, and is said."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from merloco.features.maintenance.check import check_store
from merloco.features.shards.commit import read_commit
from merloco.features.store import FeatureStore
from merloco.flows.extract.jobs import extract_jobs
from merloco.flows.extract.service import clear_caches, extract_one
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.samples.audit import read_audit
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.media_files import clicks, write_media
from tests.helpers.store_files import CATALOG

pytestmark = pytest.mark.slow

WAVE = clicks(0.3, [0.1])
EXTRACT = ("extract", "--corpora", "afew", "--modalities", "audio", "--no-flow")


def write_clips(root: Path, n: int) -> Path:
    """An AFEW release of `n` short clips."""
    first = write_media(
        root / "Train_AFEW" / "Happy" / f"{0:09d}.avi", 0.3, 10, (32, 32), WAVE, codecs=("mpeg4", "mp2")
    )
    for i in range(1, n):
        (first.parent / f"{i:09d}.avi").write_bytes(first.read_bytes())
    return root


def clip(root: Path, i: int) -> Path:
    return root / "Train_AFEW" / "Happy" / f"{i:09d}.avi"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own with a release `afew` of five clips in it."""
    monkeypatch.setenv("MERLOCO_CATALOG", str(CATALOG))
    monkeypatch.delenv("AFEW_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "afew", 5)
    return tmp_path


def run(capsys: pytest.CaptureFixture, workspace: Path, *arguments: str) -> tuple[int, str, str]:
    return merloco(capsys, *arguments, "--store", str(workspace / "store"), "--catalog", str(CATALOG))


def ingest(capsys: pytest.CaptureFixture, workspace: Path, root: str = "afew") -> None:
    code, _, err = run(capsys, workspace, "ingest", "afew", "--root", f"afew={root}", "--no-flow")
    assert code == 0, err


def opened(workspace: Path) -> FeatureStore:
    return FeatureStore.open(workspace / "store", load_catalog(CATALOG))


def states(workspace: Path) -> list[str]:
    store = opened(workspace)
    return [p.state for p in store.plan([store.view("prosody")])]


def statuses(workspace: Path) -> dict[str, int]:
    store = opened(workspace)
    commit = read_commit(store.folder(store.view("prosody")), "afew-00000")
    return {} if commit is None else commit.statuses


def test_a_relative_root_means_the_same_from_every_folder(
    capsys: pytest.CaptureFixture, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(capsys, workspace)
    assert read_audit(workspace / "store", "afew").root == str(workspace / "afew")
    (workspace / "elsewhere").mkdir()
    monkeypatch.chdir(workspace / "elsewhere")
    assert run(capsys, workspace, *EXTRACT)[0] == 0
    assert statuses(workspace) == {"ok": 5}


@pytest.mark.parametrize(
    "command",
    [
        "extract --corpora afew --modalities audio --no-flow",
        "transcribe --corpora afew --no-flow",
        "finetune --modality audio --corpus afew --no-flow",
        "stats afew --media",
        "check samples afew",
        "ingest afew --no-flow",
    ],
)
def test_a_root_that_is_no_folder_is_refused(command: str, capsys: pytest.CaptureFixture, workspace: Path) -> None:
    ingest(capsys, workspace)
    code, _, err = run(capsys, workspace, *command.split(), "--root", "afew=nowhere")
    assert code == 1 and str(workspace / "nowhere") in the_sentence(err)
    assert states(workspace) == ["missing"]


def test_a_release_that_was_moved_is_refused_and_extracted_from_its_new_place(
    capsys: pytest.CaptureFixture, workspace: Path
) -> None:
    ingest(capsys, workspace)
    (workspace / "afew").rename(workspace / "moved")
    code, _, err = run(capsys, workspace, *EXTRACT)
    assert code == 1 and f"{str(workspace / 'afew')!r} is not a folder" in the_sentence(err)
    assert states(workspace) == ["missing"]
    assert run(capsys, workspace, *EXTRACT, "--root", "afew=moved")[0] == 0
    assert statuses(workspace) == {"ok": 5}


def test_an_empty_mount_point_commits_nothing(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    ingest(capsys, workspace)
    (workspace / "afew").rename(workspace / "disk")
    (workspace / "afew").mkdir()
    code, _, err = run(capsys, workspace, *EXTRACT)
    assert code == 1 and "(an empty folder): mount it there" in the_sentence(err)
    assert states(workspace) == ["missing"]


def test_a_disk_that_goes_while_a_shard_is_extracted_commits_nothing(
    capsys: pytest.CaptureFixture, workspace: Path
) -> None:
    write_clips(workspace / "afew", 250)
    ingest(capsys, workspace)
    command = [sys.executable, "-m", "merloco.flows.cli.app", *EXTRACT, "--store", "store", "--catalog", str(CATALOG)]
    environment = {**os.environ, "PYTHONPATH": str(CATALOG.parent)}
    process = subprocess.Popen(command, cwd=workspace, stderr=subprocess.PIPE, text=True, env=environment)
    store = workspace / "store"
    while not list(store.glob("views/prosody/*/.claim-*")) and process.poll() is None:
        time.sleep(0.002)
    (workspace / "afew").rename(workspace / "unplugged")
    _, err = process.communicate()
    # Gone before the first clip is opened, or after: either way a sentence asks for it.
    assert process.returncode == 1 and re.search("not committed: mount the disk|mount it there", the_sentence(err))
    assert states(workspace) == ["missing"]
    (workspace / "unplugged").rename(workspace / "afew")
    assert run(capsys, workspace, *EXTRACT)[0] == 0
    assert statuses(workspace) == {"ok": 250}


def test_a_file_that_the_ingest_saw_is_work_until_it_is_back(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    ingest(capsys, workspace)
    clip(workspace / "afew", 2).rename(workspace / "borrowed.avi")
    code, _, err = run(capsys, workspace, *EXTRACT)
    assert code == 0 and "1 rows lack media that the ingest saw" in err
    assert statuses(workspace) == {"missing_media": 1, "ok": 4} and states(workspace) == ["lost"]
    assert [finding.code for finding in check_store(opened(workspace))] == ["lost"]
    assert "media lost" in run(capsys, workspace, "plan", "--modalities", "audio")[1]

    (workspace / "borrowed.avi").rename(clip(workspace / "afew", 2))
    clip(workspace / "afew", 0).write_bytes(b"what is there already is not read again")
    assert run(capsys, workspace, *EXTRACT)[0] == 0
    assert statuses(workspace) == {"ok": 5} and states(workspace) == ["done"]


def test_a_new_ingest_makes_a_fact_of_a_file_that_is_gone(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    ingest(capsys, workspace)
    run(capsys, workspace, *EXTRACT)
    clip(workspace / "afew", 4).unlink()
    ingest(capsys, workspace)
    run(capsys, workspace, *EXTRACT)
    assert states(workspace) == ["done"] and check_store(opened(workspace)) == []


def test_lost_media_count_for_the_failure_budget(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    write_clips(workspace / "afew", 60)
    ingest(capsys, workspace)
    for i in range(30):
        clip(workspace / "afew", i).unlink()
    code, _, err = run(capsys, workspace, *EXTRACT)
    assert code == 1 and "30 of 60 samples failed (missing_media 30)" in the_sentence(err)
    assert run(capsys, workspace, *EXTRACT, "--max-failures", "0.6")[0] == 0


def test_a_store_that_was_committed_from_a_wrong_root_is_work(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    """As merloco 0.1.0 left it: every row `missing_media`, and no word of it in the record."""
    ingest(capsys, workspace)
    store = opened(workspace)
    folder = store.folder(store.view("prosody"))
    moved = [clip(workspace / "afew", i) for i in range(4)]
    for path in moved:
        path.rename(path.with_suffix(".away"))
    run(capsys, workspace, *EXTRACT)
    record = folder / "afew-00000.commit.json"
    write_json(record, {k: v for k, v in json.loads(record.read_text()).items() if k != "lost"})
    assert states(workspace) == ["lost"]
    for path in moved:
        path.with_suffix(".away").rename(path)
    assert run(capsys, workspace, *EXTRACT)[0] == 0
    assert statuses(workspace) == {"ok": 5}


def test_a_shard_that_an_ingest_took_away_is_one_sentence(capsys: pytest.CaptureFixture, workspace: Path) -> None:
    ingest(capsys, workspace)
    store = opened(workspace)
    planned = store.plan([store.view("prosody")])
    (job,) = extract_jobs(store, str(CATALOG), planned, {}, "cpu", retry_failed=False)
    clear_caches()
    with pytest.raises(DataError, match=r"shard afew-00001: .* was ingested again meanwhile"):
        extract_one(replace(job, shard="afew-00001"))

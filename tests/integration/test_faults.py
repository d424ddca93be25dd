"""Faults of the store: damaged files, full and read-only disks, two extractors at once, faults that pass."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from merloco.features.maintenance.check import check_store
from merloco.features.shards.commit import read_commit
from merloco.features.shards.format import Row, plan_shards, read_rows, write_shard
from merloco.features.shards.locks import remove_stale_locks, shard_is_locked, shard_lock
from merloco.features.store import FeatureStore
from merloco.flows.extract import shard_queue
from merloco.flows.extract.jobs import extract_jobs
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import meld_root, the_sentence
from tests.helpers.kill_server import KillServer
from tests.helpers.store_files import CATALOG, make_store

SHARDS = ["meld-00000", "meld-00001", "meld-00002"]


def extract(kill_server: KillServer, store: FeatureStore, *options: str, **request: int) -> dict:
    """Extract the text view in a child of the kill server, without a flow."""
    places = ("--store", str(store.root), "--catalog", str(CATALOG), "--root", "meld=.")
    return kill_server("extract", "--modalities", "text", "--no-flow", *places, *options, **request)


def files(store: FeatureStore) -> dict[str, bytes]:
    """Content of every tar and Parquet file of the text view, also of unfinished ones."""
    folder = store.folder(store.view("minilm"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".tar", ".parquet")}


@pytest.fixture(scope="module")
def whole(kill_server: KillServer, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """600 samples, three shards, extracted without any fault."""
    store = make_store(tmp_path_factory.mktemp("whole"), n=600, extracted=False)
    assert extract(kill_server, store)["code"] == 0
    return store


@pytest.fixture
def copy(whole: FeatureStore, tmp_path: Path) -> FeatureStore:
    return FeatureStore.open(shutil.copytree(whole.root, tmp_path / "copy"), load_catalog(CATALOG))


def states(store: FeatureStore, **how: Callable) -> list[str]:
    return [p.state for p in store.plan([store.view("minilm")], **how)]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_truncated_or_lost_file_is_found_and_made_again(
    kind: str, kill_server: KillServer, whole: FeatureStore, copy: FeatureStore
) -> None:
    folder = copy.folder(copy.view("minilm"))
    truncate(folder / f"meld-00000.{kind}")
    (folder / f"meld-00002.{kind}").unlink()
    assert len([f for f in check_store(copy) if f.severity == "error"]) == 2
    assert states(copy) == ["damaged", "done", "damaged"]
    assert "Extracted 2 of 3 shards" in extract(kill_server, copy)["output"]
    assert files(copy) == files(whole) and check_store(copy) == []


def test_a_flipped_byte_is_found_by_check_and_made_again_by_extract_verify(
    kill_server: KillServer, whole: FeatureStore, copy: FeatureStore
) -> None:
    flip(copy.folder(copy.view("minilm")) / "meld-00001.tar")
    assert [f.severity for f in check_store(copy)] == ["error"]
    assert states(copy) == ["done"] * 3
    assert states(copy, verify=lambda _: None) == ["done", "damaged", "done"]
    assert "Extracted 1 of 3 shards" in extract(kill_server, copy, "--verify")["output"]
    assert files(copy) == files(whole) and check_store(copy) == []


def test_rows_of_a_damaged_shard_are_not_taken_over_into_a_new_one(copy: FeatureStore) -> None:
    folder = copy.folder(copy.view("minilm"))
    flip(folder / "meld-00001.tar")
    with pytest.raises(DataError, match=r"meld-00001.tar is not the file that was committed.*extract --verify"):
        read_rows(folder, "meld-00001")


def test_a_broken_samples_table_is_ingested_again(tmp_path: Path) -> None:
    root, entry = meld_root(tmp_path / "meld"), load_catalog(CATALOG).corpus("meld")
    ingest_corpus("meld", entry, root, tmp_path / "store")
    path = samples_path(tmp_path / "store", "meld")
    before = path.read_bytes()
    path.write_bytes(before[:100])
    ingest_corpus("meld", entry, root, tmp_path / "store")
    assert path.read_bytes() == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system with options (`size=3m`), and mounts it again with others; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def test_a_disk_that_is_full_is_said_before_the_work_and_lets_go_on(
    kill_server: KillServer, small_disk: Callable[..., Path], whole: FeatureStore
) -> None:
    store = make_store(small_disk("size=3m") / "store", n=600, extracted=False)
    done = extract(kill_server, store)
    assert done["code"] == 1
    assert "not enough room" in the_sentence(done["output"]) and "shard minilm-meld-00002" in done["output"]
    assert states(store) == ["done", "done", "missing"] and check_store(store) == []
    small_disk("size=16m", "remount")
    assert extract(kill_server, store)["code"] == 0
    assert files(store) == files(whole) and check_store(store) == []


def test_a_disk_that_fills_up_while_a_shard_is_written_shows_no_half_shard(
    kill_server: KillServer, small_disk: Callable[..., Path]
) -> None:
    store = make_store(small_disk("size=1200k") / "store", n=256, extracted=False)
    done = extract(kill_server, store)
    assert done["code"] == 1 and "no room left" in the_sentence(done["output"])
    assert files(store) == {} and states(store) == ["missing"] and check_store(store) == []


def test_a_plan_that_cannot_fit_is_refused_before_any_work(
    kill_server: KillServer, small_disk: Callable[..., Path]
) -> None:
    store = make_store(small_disk("size=1m") / "store", n=600, extracted=False)
    done = extract(kill_server, store)
    assert done["code"] == 1 and "an extraction of 3 shards needs about 2.5 MB" in the_sentence(done["output"])
    assert not (store.root / "views").exists()


def test_a_read_only_store_is_said_before_the_work(kill_server: KillServer, small_disk: Callable[..., Path]) -> None:
    store = make_store(small_disk("size=16m") / "store", n=20, extracted=False)
    small_disk("ro", "remount")
    done = extract(kill_server, store)
    assert done["code"] == 1 and "cannot be written (Read-only file system)" in the_sentence(done["output"])


def test_a_file_size_limit_is_one_sentence_and_costs_nothing(
    kill_server: KillServer, whole: FeatureStore, tmp_path: Path
) -> None:
    store = make_store(tmp_path, n=600, extracted=False)
    done = extract(kill_server, store, limit=200_000)
    assert done["code"] == 1 and "no room left" in the_sentence(done["output"])
    assert files(store) == {} and check_store(store) == []
    assert extract(kill_server, store)["code"] == 0 and files(store) == files(whole)


def extract_twice_at_once(root: str) -> None:
    """Two processes that begin the same extraction at the same moment (called in a child of the kill server)."""
    import merloco.flows.cli.app

    ready, go = os.pipe(), os.pipe()
    children = []
    for _ in range(2):
        children.append(os.fork())
        if not children[-1]:
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            import sys

            sys.argv = ["merloco", "extract", "--modalities", "text", "--no-flow", "--store", root, "--root", "meld=."]
            merloco.flows.cli.app.main()
            sys.stdout.flush()
            os._exit(0)
    os.read(ready[0], 1), os.read(ready[0], 1)
    os.write(go[1], b"gg")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def test_two_extractors_at_once_share_the_shards(kill_server: KillServer, whole: FeatureStore, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=600, extracted=False)
    done = kill_server(call="tests.integration.test_faults:extract_twice_at_once", args=[str(tmp_path)])
    assert done["code"] == 0, done["output"]
    shares = [int(n) for n in re.findall(r"Extracted (\d) of 3 shards", done["output"])]
    assert sum(shares) == 3  # none twice
    assert files(store) == files(whole) and check_store(store) == []


def write_what_differs(root: str, value: float) -> None:
    """Write the shards again and again under claims, with vectors that no other writer writes."""
    store = FeatureStore.open(root, load_catalog(CATALOG))
    view = store.view("minilm")
    for _ in range(15):
        for shard in plan_shards("meld", store.samples(), "text"):
            vector = np.full(3, value, np.float32)
            rows = [Row(name, "ok", None, vector[None], vector) for name in shard.samples["sample_id"].to_pylist()]
            with shard_lock([store.folder(view)], shard.name) as ours:
                if ours:
                    write_shard(store.folder(view), shard, rows, 3, {})


def test_a_commit_record_never_vouches_for_the_bytes_of_another_writer(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=300, extracted=False)
    store.write_view_manifest(store.view("minilm"))
    writers = [threading.Thread(target=write_what_differs, args=(str(tmp_path), float(i))) for i in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        time.sleep(0.05)
    assert check_store(store) == []


def hold_a_claim(folder: str, name: str) -> None:
    """Take a claim and never give it back (called in a child of the kill server)."""
    with shard_lock([Path(folder)], name) as ours:
        assert ours
        if not os.fork():  # a grandchild that outlives its parent, as a decoder might
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_claim_ends_with_its_holder(kill_server: KillServer, tmp_path: Path) -> None:
    folder = tmp_path / "views" / "v" / "f"
    with shard_lock([folder], "a") as ours:
        assert ours and shard_is_locked([folder], "a") and not shard_is_locked([folder], "b")
    assert not shard_is_locked([folder], "a") and list(folder.iterdir()) == []
    assert kill_server(call="tests.integration.test_faults:hold_a_claim", args=[str(folder), "a"])["code"] == -9
    assert [path.name for path in folder.iterdir()] == [".claim-a"]
    remove_stale_locks(tmp_path)
    assert not shard_is_locked([folder], "a") and list(folder.iterdir()) == []


def test_a_shard_that_another_extractor_holds_is_waited_for(
    whole: FeatureStore, copy: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_queue, "WAIT", 0.05)
    folder = copy.folder(copy.view("minilm"))
    moved = {path: path.read_bytes() for path in folder.glob("meld-0000[12].*")}
    for path in moved:
        path.unlink()
    jobs = extract_jobs(copy, str(CATALOG), copy.plan([copy.view("minilm")]), {"meld": "."}, "cpu", False)
    assert [job.shard for job in jobs] == SHARDS[1:]
    waited: list[int] = []

    def other_extractor(number: int) -> None:  # commits both shards while it is waited for
        waited.append(number)
        for path, content in moved.items():
            path.write_bytes(content)

    with shard_lock([folder], SHARDS[1]), shard_lock([folder], SHARDS[2]):
        queue = shard_queue.ShardQueue(copy, jobs, 0.2, held=other_extractor)
        done = shard_queue.run_here(queue, ["cpu"])
    assert (waited, done.commits, done.elsewhere) == ([2], [], 2)


def test_a_fault_that_passes_is_tried_again(copy: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_queue, "BACK_OFF", 0.2)
    folder = copy.folder(copy.view("minilm"))
    (folder / "meld-00001.commit.json").unlink()
    jobs = extract_jobs(copy, str(CATALOG), copy.plan([copy.view("minilm")]), {"meld": "."}, "cpu", False)
    folder.rename(folder.with_suffix(".away"))
    folder.write_text("for a while the folder is something else")

    def mend() -> None:
        folder.unlink()
        folder.with_suffix(".away").rename(folder)

    threading.Timer(0.1, mend).start()
    done = shard_queue.run_here(shard_queue.ShardQueue(copy, jobs, 0.2), ["cpu"])
    assert done.commits == [read_commit(folder, "meld-00001")]


def test_a_fault_that_stays_is_one_sentence(copy: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_queue, "BACK_OFF", 0.01)
    folder = copy.folder(copy.view("minilm"))
    (folder / "meld-00001.commit.json").unlink()
    jobs = extract_jobs(copy, str(CATALOG), copy.plan([copy.view("minilm")]), {"meld": "."}, "cpu", False)
    (folder / ".claim-meld-00001").mkdir()
    with pytest.raises(DataError, match=r"shard minilm-meld-00001: .*Is a directory.*after 3 retries"):
        shard_queue.run_here(shard_queue.ShardQueue(copy, jobs, 0.2), ["cpu"])


def blocked_shards(root: Path, numbers: Sequence[int]) -> shard_queue.ShardQueue:
    """The queue of eight shards, some of which cannot be claimed: a folder lies where their lock belongs."""
    store = make_store(root, n=2000, extracted=False)
    folder = store.folder(store.view("minilm"))
    for number in numbers:
        (folder / f".claim-meld-{number:05d}").mkdir(parents=True)
    jobs = extract_jobs(store, str(CATALOG), store.plan([store.view("minilm")]), {}, "cpu", False)
    return shard_queue.ShardQueue(store, jobs, 0.2)


def test_a_shard_that_fails_keeps_no_other_from_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_queue, "BACK_OFF", 0.001)
    queue = blocked_shards(tmp_path, [0, 3])
    with pytest.raises(DataError, match=r"shard minilm-meld-00000: .*; shard minilm-meld-00003: .*when it has passed$"):
        shard_queue.run_here(queue, ["cpu"])
    assert sorted(commit.shard[-1] for commit in queue.done.commits) == ["1", "2", "4", "5", "6", "7"]


def test_shards_that_all_fail_are_not_tried_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_queue, "BACK_OFF", 0.001)
    queue = blocked_shards(tmp_path, range(8))
    with pytest.raises(DataError, match=r"shard minilm-meld-00000: .*; \d more were not tried$"):
        shard_queue.run_here(queue, ["cpu"])
    assert queue.done.commits == [] and len(queue.waiting) in (2, 3)  # two are in hand at a time

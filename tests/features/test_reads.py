"""A read never deletes or repairs: what cannot be read now stays; an ingest sets a proven broken file aside."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merloco.features.maintenance.gc import plan_gc
from merloco.features.shards.commit import read_commit
from merloco.features.shards.locks import PREFIX, active_locks
from merloco.features.shards.rewrite import prune_shard
from merloco.features.store import FeatureStore
from merloco.flows.cli import app as cli
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.audit import Audit, audit_path
from merloco.pipelines.samples.ingest import cached_audit, ingest_corpus
from merloco.pipelines.samples.schema import ARROW_SCHEMA
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.command_line import merloco, the_sentence
from tests.helpers.kill_server import KillServer
from tests.helpers.meld_release import release
from tests.helpers.store_files import CATALOG, make_store

ENTRY = load_catalog(CATALOG).corpus("meld")
NOBODY = 65534


def own_notes(audit: Audit) -> list[str]:
    """Notes of an audit but for those on the catalog, whose bad clips a few rows do not have."""
    return [note for note in audit.notes if not note.startswith("catalog: ")]


def files(root: Path) -> dict[str, bytes]:
    found = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    """A store with an ingested release beside it."""
    ingest_corpus("meld", ENTRY, release(tmp_path / "meld"), tmp_path / "store")
    FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    return tmp_path / "store"


def with_few_files(act: Callable[[], object], free: int) -> None:
    """Run something while this process may open `free` more files."""
    low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]  # the numbers below the limit are all taken
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1 + free, high))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, high))
        for number in held:
            os.close(number)


def read_with_few_files(store: str, release: str) -> None:
    """Every reader of the samples, with room for few open files or none (called in a child of the kill server)."""
    root = Path(store)
    for free in range(3):
        for read in (
            lambda: read_samples(root, "meld"),
            lambda: cached_audit("meld", ENTRY, Path(release), root),
            lambda: ingest_corpus("meld", ENTRY, Path(release), root),
        ):
            try:
                with_few_files(read, free)
                print("fine")
            except OSError as error:
                print("errno", error.errno)


def test_a_limit_of_open_files_is_an_error_and_no_reason_to_remove_a_table(kill_server: KillServer, meld: Path) -> None:
    before = files(meld)
    done = kill_server(
        call="tests.features.test_reads:read_with_few_files", args=[str(meld), str(meld.parent / "meld")]
    )
    assert done["code"] == 0 and done["output"].count("errno 24") >= 3, done["output"]
    assert files(meld) == before


def ask_as_nobody(*argv: str) -> None:
    """Run a command as a user to whom the files do not belong (called in a child of the kill server)."""
    import sys

    os.setegid(NOBODY), os.seteuid(NOBODY)
    sys.argv = ["merloco", *argv]
    cli.main()


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("command", ["sql", "plan", "ingest"])
def test_a_table_that_this_user_may_not_read_is_one_sentence_and_stays(
    command: str, kill_server: KillServer, meld: Path
) -> None:
    open_to_all(meld / "samples")
    samples_path(meld, "meld").chmod(0o600)
    before = files(meld)
    arguments = {
        "sql": ["select count(*) from samples"],
        "plan": ["--modalities", "text"],
        "ingest": ["meld", "--root", f"meld={meld.parent / 'meld'}", "--no-flow"],
    }[command]
    argv = [command, *arguments, "--store", str(meld), "--catalog", str(CATALOG)]
    done = kill_server(call="tests.features.test_reads:ask_as_nobody", args=argv)
    assert done["code"] == 1, done["output"]
    assert the_sentence(done["output"]).endswith("meld.parquet': Permission denied")
    assert files(meld) == before


def test_commands_that_ask_leave_a_broken_table_where_it_is(capsys: pytest.CaptureFixture, meld: Path) -> None:
    samples_path(meld, "meld").write_bytes(b"PAR1 and then nothing")
    before = files(meld)
    for command in (["sql", "select 1 from samples"], ["plan"], ["check", "samples"], ["stats"]):
        code, _, err = merloco(capsys, *command, "--store", str(meld), "--catalog", str(CATALOG))
        assert code == 1 and "not a Parquet file" in the_sentence(err) and "merloco ingest meld" in the_sentence(err)
    assert files(meld) == before


@pytest.mark.parametrize("harm", [lambda b: b[:100], lambda b: b[:-30], lambda b: b[:200] + b"\xff" * 60 + b[260:]])
def test_an_ingest_sets_a_broken_table_aside_and_says_so(harm: Callable[[bytes], bytes], meld: Path) -> None:
    path = samples_path(meld, "meld")
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    audit = ingest_corpus("meld", ENTRY, meld.parent / "meld", meld)
    assert own_notes(audit) == ["meld.parquet was broken and is set aside as meld.parquet.broken"]
    assert path.read_bytes() == whole and path.with_name("meld.parquet.broken").read_bytes() == harm(whole)
    path.write_bytes(b"broken again")
    assert "meld.parquet.broken-2" in own_notes(ingest_corpus("meld", ENTRY, meld.parent / "meld", meld))[0]
    assert path.with_name("meld.parquet.broken").read_bytes() == harm(whole)


def replace_again_and_again(store: str) -> None:
    """Replace a sound table by another while somebody reads it (called in a child of the kill server)."""
    path = samples_path(Path(store), "meld")
    large, small = pq.read_table(path), pq.read_table(path).slice(0, 1)
    child = os.fork()
    if not child:
        for number in range(400):
            write_parquet(path, small if number % 2 else large)
        os._exit(0)
    reads = 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        assert read_samples(Path(store), "meld").num_rows in (large.num_rows, 1)
        reads += 1
    print("reads", reads)


def test_a_table_that_is_replaced_while_it_is_read_is_not_taken_for_a_broken_one(
    kill_server: KillServer, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store", n=2000, extracted=False)
    done = kill_server(call="tests.features.test_reads:replace_again_and_again", args=[str(store.root)])
    assert done["code"] == 0, done["output"]


def test_columns_that_an_older_table_does_not_have_are_null(meld: Path) -> None:
    path = samples_path(meld, "meld")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["turn", "marks"]), path)
    found = read_samples(meld, "meld")
    assert found.schema == ARROW_SCHEMA and found["turn"].null_count == found["marks"].null_count == table.num_rows
    assert found["sample_id"] == table["sample_id"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.append_column("mood", pa.array(["good"] * t.num_rows)), "the unknown column mood"),
        (lambda t: t.drop_columns(["audio_status"]), "no column audio_status"),
        (
            lambda t: t.set_column(0, "sample_id", pa.array([[1]] * t.num_rows)),
            "the column sample_id as list<element: int64>, expected string",
        ),
    ],
)
def test_a_table_of_another_version_is_refused_and_never_overwritten(
    change: Callable[[pa.Table], pa.Table], sentence: str, meld: Path
) -> None:
    path = samples_path(meld, "meld")
    pq.write_table(change(pq.read_table(path)), path)
    before = files(meld)
    for act in (
        lambda: read_samples(meld, "meld"),
        lambda: ingest_corpus("meld", ENTRY, meld.parent / "meld", meld),
    ):
        with pytest.raises(DataError, match=f"of another version of merloco .has {sentence}"):
            act()
    assert files(meld) == before


def test_an_audit_of_another_version_is_written_anew(meld: Path) -> None:
    before = files(meld)
    path = audit_path(meld, "meld")
    path.write_text(path.read_text().replace('"found"', '"found_rows"'))
    assert own_notes(ingest_corpus("meld", ENTRY, meld.parent / "meld", meld)) == []
    assert files(meld) == before


def test_a_look_for_garbage_removes_no_claim_file(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=10)
    folder = store.folder(store.view("minilm"))
    (folder / f"{PREFIX}meld-00000").write_bytes(b"")
    assert active_locks(store.root) == []
    plan_gc(store)
    assert (folder / f"{PREFIX}meld-00000").is_file()


def prune_with_few_files(store: str) -> None:
    """Take a row out of a shard with no file left to open (called in a child of the kill server)."""
    opened = FeatureStore.open(store, load_catalog(CATALOG))
    folder = opened.folder(opened.view("minilm"))
    commit = read_commit(folder, "meld-00000")
    assert commit is not None
    read_parquet(folder / "meld-00000.parquet")  # whatever this loads is loaded
    with_few_files(lambda: prune_shard(folder, commit, ["meld/train/dia0_utt0"], ""), 0)


def test_a_limit_of_open_files_is_no_reason_to_drop_a_shard(kill_server: KillServer, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=10)
    before = files(store.root)
    done = kill_server(call="tests.features.test_reads:prune_with_few_files", args=[str(store.root)])
    assert done["code"] == 70 and "Too many open files" in done["output"]
    assert files(store.root) == before

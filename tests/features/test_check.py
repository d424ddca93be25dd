"""`merloco check`: every kind of damage has a code, a severity, a place and a next step."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merloco.features.maintenance.check import CODES, check_store
from merloco.features.shards.commit import commit_path, read_commit
from merloco.features.shards.format import Row, plan_shards, write_shard
from merloco.features.store import FeatureStore
from merloco.pipelines.files.atomic import temporary_name
from merloco.pipelines.files.formats import write_json, write_parquet
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from merloco.pipelines.samples.tombstones import add_tombstones
from tests.helpers.corpora_files import merloco
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import extract_all, make_store, meld_samples


def folder_of(store: FeatureStore) -> Path:
    return store.folder(store.view("minilm"))


def recommit(store: FeatureStore, **changes: object) -> None:
    """Give the first shard a record that vouches for the files as they are now."""
    folder = folder_of(store)
    tar, parquet = folder / "meld-00000.tar", folder / "meld-00000.parquet"
    commit = replace(
        read_commit(folder, "meld-00000"),
        tar_sha256=sha256_file(tar),
        parquet_sha256=sha256_file(parquet),
        tar_bytes=tar.stat().st_size,
        parquet_bytes=parquet.stat().st_size,
        **changes,
    )
    write_json(commit_path(folder, "meld-00000"), asdict(commit))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def poison(store: FeatureStore) -> None:
    """A NaN in the pooled column, under a record that fits."""
    path = folder_of(store) / "meld-00000.parquet"
    table = pq.read_table(path)
    rows = table["pooled"].to_pylist()
    rows[0] = [float("nan"), 0.0, 0.0]
    write_parquet(
        path, table.set_column(table.column_names.index("pooled"), "pooled", pa.array(rows, pa.list_(pa.float32(), 3)))
    )
    recommit(store)


def retar(
    store: FeatureStore, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]
) -> None:
    """Rewrite the first shard's tar member by member, under a record that fits."""
    path = folder_of(store) / "meld-00000.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for pair in (change(*pair) for pair in members):
            if pair is not None:
                pair[0].size = len(pair[1])
                tar.addfile(pair[0], io.BytesIO(pair[1]))
    recommit(store)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def first(name: str, content: bytes | None) -> Callable:
    """A change of the first sample's file with this kind."""

    def change(member: tarfile.TarInfo, old: bytes) -> tuple[tarfile.TarInfo, bytes] | None:
        if member.name != f"meld/train/dia0_utt0.{name}":
            return member, old
        return None if content is None else (member, content)

    return change


def duplicate(store: FeatureStore) -> None:
    for kind in ("tar", "parquet"):
        (folder_of(store) / f"meld-00009.{kind}").write_bytes((folder_of(store) / f"meld-00000.{kind}").read_bytes())
    copy = replace(read_commit(folder_of(store), "meld-00000"), shard="meld-00009")
    write_json(commit_path(folder_of(store), "meld-00009"), asdict(copy))


def other_samples(store: FeatureStore) -> None:
    samples = [replace(s, text="other words") if i == 0 else s for i, s in enumerate(meld_samples(300))]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))


def break_view(store: FeatureStore) -> None:
    path = folder_of(store) / "view.json"
    content = json.loads(path.read_text())
    content["definition"]["modality"] = "smell"
    write_json(path, content)


def lose_media(store: FeatureStore) -> None:
    """Shards of sound without any, although the samples table says that it was there."""
    samples = [replace(s, audio_status="ok", audio_path="a.wav") for s in meld_samples(300)]
    write_parquet(samples_path(store.root, "meld"), to_table(samples))
    view = store.view("prosody")
    store.write_view_manifest(view)
    for planned in store.plan([view]):
        rows = [Row(sample_id, "missing_media") for sample_id in planned.shard.samples["sample_id"].to_pylist()]
        write_shard(store.folder(view), planned.shard, rows, 6, {})


CASES: dict[str, Callable[[FeatureStore], object]] = {
    "samples": lambda s: samples_path(s.root, "meld").write_bytes(b"no parquet"),
    "duplicate": duplicate,
    "broken_commit": lambda s: commit_path(folder_of(s), "meld-00000").write_text("{"),
    "missing_file": lambda s: (folder_of(s) / "meld-00001.tar").unlink(),
    "hash": lambda s: flip(folder_of(s) / "meld-00000.tar"),
    "hash parquet": lambda s: flip(folder_of(s) / "meld-00001.parquet"),
    "hash truncated": lambda s: truncate(folder_of(s) / "meld-00000.tar"),
    "hash truncated parquet": lambda s: truncate(folder_of(s) / "meld-00000.parquet"),
    "count": lambda s: recommit(s, rows=255),
    "dimension": lambda s: recommit(s, pooled_dim=4),
    "not_finite": poison,
    "not_finite segments": lambda s: retar(s, first("segments.npy", npy(np.full((1, 3), np.nan, np.float32)))),
    "segments": lambda s: retar(s, first("segments.npy", npy(np.ones((5, 3), np.float32)))),
    "segments object": lambda s: retar(s, first("segments.npy", npy(np.array([{"a": 1}], dtype=object)))),
    "tar_ids": lambda s: retar(s, first("segments.npy", None)),
    "unsafe_name": lambda s: retar(s, lambda m, c: (_named(m, "../../x.npy"), c)),
    "fingerprint": break_view,
    "fingerprint broken": lambda s: (folder_of(s) / "view.json").write_text("{"),
    "no_definition": lambda s: (folder_of(s) / "view.json").unlink(),
    "deleted": lambda s: add_tombstones(s.root, "meld", ["meld/train/dia0_utt0"], []),
    "run": lambda s: (make_run(s.root, ["meld/train/dia0_utt0"]) / "predictions.parquet").write_bytes(b"no"),
    "leftover": lambda s: (folder_of(s) / temporary_name("x")).write_bytes(b"half"),
    "orphan": lambda s: (folder_of(s) / "meld-00007.tar").write_bytes(b"half"),
    "superseded": lambda s: (s.root / "views" / "minilm" / "0123456789abcdef").mkdir(),
    "unasked": lambda s: write_parquet(samples_path(s.root, "meld"), to_table(meld_samples(256))),
    "stale": other_samples,
    "lost": lose_media,
}
BESIDE = {"deleted": {"stale"}, "duplicate": {"unasked"}, "unasked": {"stale"}}
"""What else a case brings about: shards that are out of date, and a copy of a shard for which nobody asks."""


def _named(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    member.name = name
    return member


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("whole"), n=300)


@pytest.mark.parametrize("case", CASES)
def test_check_names_the_damage(case: str, whole: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(whole.root, tmp_path / "store")
    store = FeatureStore.open(tmp_path / "store", whole.catalog)
    assert check_store(store) == []
    CASES[case](store)
    code = case.split()[0]
    found = check_store(store)
    assert {f.code for f in found} - BESIDE.get(code, set()) == {code}
    assert all(
        (f.severity, f.next_step) == CODES[f.code] and f.message and not Path(f.where).is_absolute() for f in found
    )


def test_every_code_is_tested() -> None:
    assert {case.split()[0] for case in CASES} == set(CODES)


def test_findings_are_machine_readable_and_errors_exit_with_one(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=5)
    assert merloco(capsys, store, "check", "--format", "json")[:2] == (0, "[]\n")
    (folder_of(store) / "meld-00000.tar").unlink()
    (folder_of(store) / "meld-00007.tar").write_bytes(b"half")
    code, out, _ = merloco(capsys, store, "check", "--format", "json")
    assert code == 1
    found = {finding["code"]: finding for finding in json.loads(out)}
    assert found["missing_file"]["severity"] == "error" and found["orphan"]["severity"] == "warning"
    assert found["missing_file"]["where"].endswith("meld-00000")
    assert "merloco extract --verify" in found["missing_file"]["next_step"]


def test_warnings_alone_exit_with_zero(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=5)
    (folder_of(store) / "meld-00007.tar").write_bytes(b"half")
    code, out, _ = merloco(capsys, store, "check")
    assert code == 0 and "0 errors, 1 warnings." in out


def test_a_flipped_byte_is_repaired_by_extracting_the_shard_again(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=20)
    before = (folder_of(store) / "meld-00000.tar").read_bytes()
    flip(folder_of(store) / "meld-00000.tar")
    [planned] = store.plan([store.view("minilm")], verify=lambda _: None)
    assert planned.state == "damaged"
    extract_all(store)
    assert (folder_of(store) / "meld-00000.tar").read_bytes() == before and check_store(store) == []


def test_shards_after_a_deletion_keep_their_cut(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=600, extracted=False)
    samples = store.samples()
    gone = ["meld/train/dia0_utt0", "meld/train/dia99_utt4"]
    whole, cut = (plan_shards("meld", samples, "text", deleted) for deleted in ((), gone))
    assert [s.samples.num_rows for s in cut] == [255, 256, 87]
    assert cut[1].inputs == whole[1].inputs

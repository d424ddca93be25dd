"""Streaming from the tars: every committed sample exactly once, checked against Parquet; nothing else gets in."""

import io
import json
import os
import shutil
import string
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.features.extraction.segments import pool
from merloco.features.query.streaming import read_segments, stream_segments
from merloco.features.shards.commit import commit_path, read_commit
from merloco.features.shards.format import Row, plan_shards, read_rows, write_shard
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.samples.schema import Sample, to_table
from tests.helpers.store_files import add_sequences, make_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = make_store(tmp_path_factory.mktemp("whole"), n=1100, extracted=False)
    add_sequences(store)
    return store


@pytest.fixture
def store(whole: FeatureStore, tmp_path: Path) -> FeatureStore:
    shutil.copytree(whole.root, tmp_path / "store")
    return FeatureStore.open(tmp_path / "store", whole.catalog)


def ids_of(store: FeatureStore, **options: object) -> list[str]:
    return [sample.sample_id for sample in stream_segments(store, store.view("prosody"), **options)]


def ok_ids(store: FeatureStore) -> list[str]:
    rows = store.sql("select sample_id from prosody where status = 'ok' order by shard, sample_id").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_every_sample_comes_exactly_once_in_order_whatever_the_number_of_workers(
    whole: FeatureStore, workers: int
) -> None:
    assert ids_of(whole, workers=workers) == ok_ids(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_shuffles_repeatably_and_every_sample_comes_once(whole: FeatureStore, workers: int) -> None:
    once, again, next_epoch, other = (
        ids_of(whole, seed=seed, epoch=epoch, workers=workers) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert once == again and len({tuple(order) for order in (once, next_epoch, other)}) == 3
    assert sorted(once) == sorted(next_epoch) == sorted(other) == sorted(ok_ids(whole))
    ordered = ok_ids(whole)
    assert len({ordered.index(sample_id) // 256 for sample_id in once[:32]}) > 1  # drawn from several shards


def test_pooling_what_is_streamed_gives_the_parquet_column_to_the_bit(whole: FeatureStore) -> None:
    pooled = dict(whole.sql("select sample_id, pooled from prosody where status = 'ok'").fetchall())
    view = whole.view("prosody")
    for sample in stream_segments(whole, view):
        assert pool(sample.segments, view.pooling).tolist() == list(pooled.pop(sample.sample_id))
    assert pooled == {}


def test_only_the_samples_that_are_wanted(whole: FeatureStore) -> None:
    train = [row[0] for row in whole.sql("select sample_id from samples where split = 'train'").fetchall()]
    assert ids_of(whole, only=train) == [sample_id for sample_id in ok_ids(whole) if sample_id in set(train)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("cut", "readable"), [(1, True), (700, True), (10240, False)])
def test_a_truncated_shard_is_an_error_and_no_partial_sample(
    store: FeatureStore, workers: int, cut: int, readable: bool
) -> None:
    path = store.folder(store.view("prosody")) / "meld-00004.tar"
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    with pytest.raises(DataError, match="meld-00004") as error:
        ids_of(store, workers=workers)
    assert "\n" not in str(error.value)
    vouch(store, "meld-00004")
    if readable:  # only the padding at the end was lost
        read = list(read_segments(path.parent, read_commit(path.parent, "meld-00004")))
        assert [s.sample_id for s in read] == ok_ids(store)[-len(read) :]
    else:
        with pytest.raises(DataError, match="meld-00004"):
            list(read_segments(path.parent, read_commit(path.parent, "meld-00004")))


def test_a_flipped_byte_is_an_error(store: FeatureStore) -> None:
    path = store.folder(store.view("prosody")) / "meld-00000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not the file that was committed"):
        ids_of(store)


def vouch(store: FeatureStore, shard: str) -> None:
    """A record that fits the files, as somebody who wants to be believed would write it."""
    folder = store.folder(store.view("prosody"))
    tar = folder / f"{shard}.tar"
    commit = replace(read_commit(folder, shard), tar_sha256=sha256_file(tar), tar_bytes=tar.stat().st_size)
    write_json(commit_path(folder, shard), asdict(commit))


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


NAME = "meld/train/dia0_utt0"
UNSAFE: dict[str, tuple[tarfile.TarInfo, bytes]] = {
    "a name that leads out": (member("../../etc/x.segments.npy"), b""),
    "an absolute name": (member("/etc/x.segments.npy"), b""),
    "a name that leads out in the middle": (member("meld/../../x.segments.npy"), b""),
    "a symbolic link": (member(f"{NAME}.segments.npy", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
    "a hard link": (member(f"{NAME}.segments.npy", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b""),
    "a device": (member(f"{NAME}.segments.npy", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
    "a pipe": (member(f"{NAME}.segments.npy", type=tarfile.FIFOTYPE), b""),
    "a folder": (member("meld/train", type=tarfile.DIRTYPE), b""),
    "a pickle": (member(f"{NAME}.pickle"), b"\x80\x04N."),
    "an npz, which may hold pickles": (member(f"{NAME}.x.npz"), b""),
    "a name without a sample": (member("notes.npy"), b""),
    "an array of objects": (member(f"{NAME}.segments.npy"), object_array()),
    "no array": (member(f"{NAME}.segments.npy"), b"words"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_tars_with_anything_unsafe_are_refused(store: FeatureStore, case: str) -> None:
    folder = store.folder(store.view("prosody"))
    info, content = UNSAFE[case]
    with tarfile.open(folder / "meld-00000.tar", "w") as tar:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        description = json.dumps({"sample_id": NAME}).encode()
        tar.addfile(member(f"{NAME}.json", size=len(description)), io.BytesIO(description))
    vouch(store, "meld-00000")
    readers: list[Callable] = [lambda: ids_of(store), lambda: read_rows(folder, "meld-00000")]
    for read in readers:
        with pytest.raises(DataError, match=r"unsafe member|not an array of numbers") as error:
            read()
        assert "\n" not in str(error.value)


PART = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40)
ODD = st.sampled_from(["__x__", "-", "_", "0", "A" * 120, "--", "a_-", "npy", "json", "segments"])
SAMPLE_IDS = st.lists(PART | ODD, min_size=2, max_size=4).map(lambda parts: "/".join(["meld", *parts]))


@settings(max_examples=25)
@given(data=st.data(), ids=st.sets(SAMPLE_IDS, min_size=1, max_size=8))
def test_whatever_the_ids_what_was_written_comes_back(
    data: st.DataObject, ids: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """write_shard -> read_rows and write_shard -> stream; a tar of webdataset splits keys at dots and skips `__x__`."""
    folder = tmp_path_factory.mktemp("odd")
    samples = to_table([Sample(sample_id, "meld", "train") for sample_id in ids])
    [shard] = plan_shards("meld", samples, "audio")
    rows = []
    for sample_id in shard.samples["sample_id"].to_pylist():
        n = data.draw(st.integers(0, 3))
        segments = np.array(
            data.draw(
                st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2 * n, max_size=2 * n)
            ),
            np.float32,
        ).reshape(n, 2)
        extras = {"boxes": np.arange(n, dtype=np.int16)} if data.draw(st.booleans()) else {}
        pooled = segments.mean(axis=0, dtype=np.float64).astype(np.float32) if n else None
        rows.append(Row(sample_id, "ok", None, segments, pooled, extras) if n else Row(sample_id, "no_audio", "why"))
    commit = write_shard(folder, shard, rows, 2, {})
    back = read_rows(folder, shard.name)
    streamed = list(read_segments(folder, commit))
    assert [r.sample_id for r in back] == sorted(ids)
    assert [s.sample_id for s in streamed] == [r.sample_id for r in rows if r.status == "ok"]
    by_id = {s.sample_id: s for s in streamed}
    for then, now in zip(rows, back, strict=True):
        assert (then.status, then.error) == (now.status, now.error)
        if then.segments is not None and now.segments is not None and now.pooled is not None:
            assert then.segments.tobytes() == now.segments.tobytes() == by_id[now.sample_id].segments.tobytes()
            assert then.pooled is not None and then.pooled.tobytes() == now.pooled.tobytes()
            assert {k: v.tolist() for k, v in then.extras.items()} == {k: v.tolist() for k, v in now.extras.items()}
            assert by_id[now.sample_id].extras.keys() == then.extras.keys()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_is_hashed_once_for_as_long_as_its_files_stay(store: FeatureStore, workers: int) -> None:
    assert ids_of(store, workers=workers) == ok_ids(store)
    path = store.folder(store.view("prosody")) / "meld-00000.tar"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ids_of(store, workers=workers) == ok_ids(store), "by size and time it is the file that was hashed"
    path.touch()
    with pytest.raises(DataError, match="meld-00000"):
        ids_of(store, workers=workers)

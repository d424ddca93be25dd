"""The feature store: what has no commit record does not exist, and a killed writer costs at most one shard."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.features.maintenance.check import check_store
from merloco.features.query.matrices import load_matrices
from merloco.features.shards.commit import commit_path
from merloco.features.shards.format import SHARD_ROWS, Row, plan_shards, read_rows, write_shard
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.media.clips import DecodeInfo
from merloco.pipelines.samples.schema import to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.store_files import CATALOG, extract_all, make_store, meld_samples


def bytes_of(store: FeatureStore) -> dict[str, bytes]:
    """Content of every tar and Parquet file of the views."""
    files = [p for p in sorted((store.root / "views").rglob("*")) if p.suffix in (".tar", ".parquet")]
    return {str(p.relative_to(store.root)): p.read_bytes() for p in files}


def folder_of(store: FeatureStore) -> Path:
    return store.folder(store.view("minilm"))


def test_shards_are_cut_from_the_samples_table(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=600, extracted=False)
    shards = plan_shards("meld", store.samples(), "text")
    assert [s.name for s in shards] == ["meld-00000", "meld-00001", "meld-00002"]
    assert [s.samples.num_rows for s in shards] == [SHARD_ROWS, SHARD_ROWS, 600 - 2 * SHARD_ROWS]


def test_every_input_has_a_row_and_a_missing_text_is_no_silent_zero(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = store.sql("select status, count(*), count(pooled) from minilm group by 1 order by 1").fetchall()
    assert rows == [("no_text", 60, 0), ("ok", 540, 540)]


def test_the_plan_counts_done_missing_and_stale_shards(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit_path(folder_of(store), "meld-00001").unlink()
    samples = meld_samples(600)
    changed = [s if i else type(s)(**{**_fields(s), "text": "another text"}) for i, s in enumerate(samples)]
    write_parquet(samples_path(store.root, "meld"), to_table(changed))
    states = {p.shard.name: p.state for p in store.plan([store.view("minilm")])}
    assert states == {"meld-00000": "stale", "meld-00001": "missing", "meld-00002": "done"}


def _fields(sample: object) -> dict:
    return {name: getattr(sample, name) for name in sample.__slots__}


@settings(max_examples=8)
@given(lost=st.sets(st.sampled_from(["meld-00000", "meld-00001", "meld-00002"])))
def test_resuming_after_any_subset_of_shards_equals_a_fresh_run(
    tmp_path_factory: pytest.TempPathFactory, lost: set[str]
) -> None:
    fresh = bytes_of(make_store(tmp_path_factory.mktemp("fresh")))
    store = make_store(tmp_path_factory.mktemp("resumed"))
    for shard in lost:
        for path in folder_of(store).glob(f"{shard}.*"):
            path.unlink()
    extract_all(store)
    assert bytes_of(store) == fresh


def test_a_shard_without_its_commit_record_does_not_exist(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    commit_path(folder_of(store), "meld-00000").unlink()
    assert store.sql("select count(*) from minilm").fetchall() == [(600 - SHARD_ROWS,)]
    assert [f.code for f in check_store(store)] == ["orphan", "orphan"]


def test_the_tar_reads_with_webdataset_and_holds_the_ok_samples(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    url = str(folder_of(store) / "meld-00000.tar")
    read = list(wds.WebDataset(url, shardshuffle=False).decode())
    table = pq.read_table(folder_of(store) / "meld-00000.parquet").to_pylist()
    assert [sample["__key__"] for sample in read] == [r["sample_id"] for r in table if r["status"] == "ok"]
    assert all(sample["segments.npy"].shape == (1, 3) and sample["json"]["n_segments"] == 1 for sample in read)


def test_rows_survive_the_round_trip(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=3)
    shard = plan_shards("meld", store.samples(), "text")[0]
    ids = shard.samples["sample_id"].to_pylist()
    info = DecodeInfo("pyav", 4, "sound track 1 of 2", 2, -20.0, 0.5)
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    rows = [
        Row(ids[0], "ok", None, np.ones((2, 3), np.float32), np.ones(3, np.float32), {"boxes": boxes}, info),
        Row(ids[1], "no_face"),
        Row(ids[2], "decode_error", "the file ends early"),
    ]
    write_shard(tmp_path / "v", shard, rows, 3, {})
    back = read_rows(tmp_path / "v", shard.name)
    assert [(r.sample_id, r.status, r.error, r.info) for r in back] == [
        (ids[0], "ok", None, info),
        (ids[1], "no_face", None, DecodeInfo()),
        (ids[2], "decode_error", "the file ends early", DecodeInfo()),
    ]
    assert np.array_equal(back[0].extras["boxes"], boxes)
    assert back[0].segments.shape == (2, 3)


def test_rows_that_are_not_the_planned_samples_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=2)
    shard = plan_shards("meld", store.samples(), "text")[0]
    ids = shard.samples["sample_id"].to_pylist()
    with pytest.raises(ValueError, match="not the planned samples"):
        write_shard(tmp_path / "v", shard, [Row(ids[1], "no_text"), Row(ids[0], "no_text")], 3, {})


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=1)
    shard = plan_shards("meld", store.samples(), "text")[0]
    row = Row(shard.samples["sample_id"][0].as_py(), "ok", None, np.ones((1, 3)), np.array([1, np.nan, 1], np.float32))
    with pytest.raises(ValueError, match="finite"):
        write_shard(tmp_path / "v", shard, [row], 3, {})


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_check_finds_one_flipped_byte(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path)
    path = folder_of(store) / f"meld-00001.{kind}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [(f.code, f.severity) for f in check_store(store)] == [("hash", "error")]


def test_check_finds_a_lost_file_a_leftover_and_a_superseded_view(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    (folder_of(store) / "meld-00002.tar").unlink()
    (folder_of(store) / ".tmp-0-meld-00002.tar").write_bytes(b"half")
    (store.root / "views" / "minilm" / "0123456789abcdef").mkdir()
    assert sorted(f.code for f in check_store(store)) == ["leftover", "missing_file", "superseded"]


def test_a_clean_store_has_no_finding(tmp_path: Path) -> None:
    assert check_store(make_store(tmp_path)) == []


def test_a_store_of_another_label_schema_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, n=5, extracted=False)
    head = json.loads((store.root / "store.json").read_text())
    head["label_order"] = head["label_order"][::-1]
    (store.root / "store.json").write_text(json.dumps(head))
    with pytest.raises(DataError, match=r"label order angry, disgust.*the catalog has neutral, happy"):
        FeatureStore.open(tmp_path, load_catalog(CATALOG))


def test_no_store_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="merloco ingest"):
        FeatureStore.open(tmp_path / "none", load_catalog(CATALOG))


def test_matrices_are_joined_by_id_whatever_the_order_of_the_shards(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    matrices = load_matrices(store, "light", ["meld"], ["text"])
    by_id = dict(store.sql("select sample_id, pooled from minilm where status = 'ok'").fetchall())
    assert matrices.features["text"].shape == (600, 3)
    assert matrices.present["text"].sum() == 540
    for i, sample_id in enumerate(matrices.sample_id):
        expected = by_id.get(sample_id, (0.0, 0.0, 0.0))
        assert matrices.features["text"][i].tolist() == list(expected)


def test_matrices_without_features_say_what_to_extract(tmp_path: Path) -> None:
    store = make_store(tmp_path, extracted=False)
    with pytest.raises(DataError, match="merloco extract --corpora meld --modalities text"):
        load_matrices(store, "light", ["meld"], ["text"])

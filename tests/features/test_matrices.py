"""Matrices for training: joined by sample id, whatever the order and the gaps of the shards."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merloco.features.query.matrices import load_matrices
from merloco.features.shards.commit import commits
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from tests.helpers.store_files import make_store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path, n=600)


def expected(store: FeatureStore) -> dict[str, list[float] | None]:
    return dict(store.sql("select sample_id, pooled from minilm").fetchall())


def test_every_row_has_the_vector_of_its_id_or_none(store: FeatureStore) -> None:
    loaded, vectors = load_matrices(store, "light", ["meld"], ["text"]), expected(store)
    assert loaded.sample_id.tolist() == store.samples(["meld"])["sample_id"].to_pylist()
    for row, sample_id in enumerate(loaded.sample_id):
        vector = vectors[sample_id]
        assert loaded.present["text"][row] == (vector is not None)
        assert np.array_equal(loaded.features["text"][row], np.zeros(3) if vector is None else vector)


def test_what_a_row_has_is_known_without_its_vectors(store: FeatureStore) -> None:
    whole = load_matrices(store, "light", ["meld"], ["text"])
    bare = load_matrices(store, "light", ["meld"], ["text"], vectors=False)
    assert bare.features == {} and not whole.present["text"].all()
    assert np.array_equal(bare.present["text"], whole.present["text"])
    assert np.array_equal(bare.sample_id, whole.sample_id) and np.array_equal(bare.label, whole.label)


@pytest.mark.parametrize("change", ["shuffled", "gaps"])
def test_the_order_of_a_shards_rows_and_what_it_lacks_do_not_move_the_others(store: FeatureStore, change: str) -> None:
    whole = load_matrices(store, "light", ["meld"], ["text"])
    folder = store.folder(store.view("minilm"))
    lost: set[str] = set()
    for number, commit in enumerate(commits(folder)):
        path = folder / f"{commit.shard}.parquet"
        table = pq.read_table(path)
        chosen = np.random.default_rng(number).permutation(table.num_rows)
        if change == "gaps":
            chosen = np.sort(chosen[: table.num_rows // 2])
            kept = set(table["sample_id"].take(pa.array(chosen)).to_pylist())
            lost |= set(table["sample_id"].to_pylist()) - kept
        pq.write_table(table.take(pa.array(chosen)), path)
    moved = load_matrices(store, "light", ["meld"], ["text"])
    there = np.array([sample_id not in lost for sample_id in whole.sample_id])
    assert np.array_equal(moved.features["text"][there], whole.features["text"][there])
    assert np.array_equal(moved.present["text"], whole.present["text"] & there)
    bare = load_matrices(store, "light", ["meld"], ["text"], vectors=False)
    assert np.array_equal(bare.present["text"], moved.present["text"])


def test_rows_without_an_annotation_have_no_annotated_class(store: FeatureStore) -> None:
    loaded = load_matrices(store, "light", ["meld"], ["text"])
    assert (loaded.label >= 0).all() and loaded.mask.all() and (loaded.target.sum(1) == 1).all()


@pytest.mark.parametrize("vectors", [True, False])
def test_missing_features_name_the_next_command(store: FeatureStore, vectors: bool) -> None:
    with pytest.raises(DataError, match="merloco extract --corpora meld --modalities audio"):
        load_matrices(store, "light", ["meld"], vectors=vectors)

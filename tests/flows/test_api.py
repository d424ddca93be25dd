"""The Python API does what the command line does, into the same store; its examples run as they stand."""

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from torch.utils.data import DataLoader

from merloco.flows.api import PooledDataset, SegmentDataset, Store, collate_segments
from merloco.pipelines.errors import DataError
from tests.helpers.command_line import merloco
from tests.helpers.planted_store import DIM, planted_catalog, planted_store
from tests.helpers.plugin_files import write_workspace
from tests.helpers.store_files import shard_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's own: a catalog, and a store in demo/store."""
    folder = tmp_path_factory.mktemp("own")
    planted_store(folder / "demo" / "store", planted_catalog(folder), n=90)
    return folder


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(folder)
    return Store.open("demo/store")


def test_the_examples_run(store: Store) -> None:
    found = [example for example in doctest.DocTestFinder().find(Store, "Store") if example.examples]
    assert {example.name for example in found} == {"Store", "Store.matrices", "Store.train"}
    for example in found:
        example.globs = {"store": store}
        assert doctest.DocTestRunner().run(example).failed == 0, example.name


def test_parameters_of_a_query_are_values_and_not_sql(store: Store) -> None:
    query = "select count(*) from samples where corpus = ?"
    assert store.sql(query, ["meld"]).fetchall() == [(90,)]
    assert store.sql(query, ["' or true --"]).fetchall() == [(0,)]
    ((n,),) = store.sql("select count(*) from samples where split = $split", {"split": "test"}).fetchall()
    assert 0 < n < 360
    with pytest.raises(DataError, match="SQL: "):
        store.sql(query)


def test_matrices_go_into_scikit_learn(store: Store) -> None:
    x, y, mask, groups = store.matrices("light", ["meld", "afew"], split="train")
    widths = [matrix.shape[1] for matrix in store.dataset().features.values()]
    assert x.shape == (len(y), sum(widths)) and x.dtype == np.float32 and mask.shape == (len(y), 3)
    assert set(y) <= set(store.catalog.label_order) and mask.all()
    train = store.sql("select count(*) from samples join labels using (sample_id) where samples.split = 'train' "
                      "and samples.corpus in ('meld', 'afew') and emotion is not null").fetchall()  # fmt: skip
    assert train == [(len(y),)]
    scores = cross_val_score(LogisticRegression(max_iter=500), x, y, groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.8
    assert store.matrices("light", ["meld"], modalities=["text"]).X.shape[1] == DIM


def test_training_is_the_command_lines(store: Store, capsys: pytest.CaptureFixture) -> None:
    scores = store.train(["meld"], ["meld", "afew"], modalities=["text"], seeds=[0, 1], epochs=4)
    rows = scores.to_pylist()
    assert [(row["corpus"], row["seed"]) for row in rows] == [("meld", 0), ("afew", 0), ("meld", 1), ("afew", 1)]
    options = "train --train meld --test meld,afew --modalities text --seeds 0,1 --epochs 4 --store demo/store"
    code, out, err = merloco(capsys, *options.split(), "--format", "csv")
    assert code == 0, err
    assert [line.split(",")[0].strip('"') for line in out.splitlines()[1:]] == [row["run"] for row in rows]
    predicted = store.predictions(rows[0]["run"]).arrow().read_all()
    assert {"sample_id", "truth", "prediction", "probabilities"} <= set(predicted.column_names)
    assert predicted.num_rows == rows[0]["n"] + rows[1]["n"]


def test_experiments_and_loco_give_tables(store: Store) -> None:
    loco = store.loco(["meld", "afew"], seeds=[0], epochs=2)
    assert loco["corpus"].to_pylist() == ["meld", "afew"] and all(loco["held_out"].to_pylist())
    grid = store.experiment("grid", seeds=[0])
    assert grid.num_rows >= 2 and "settings" in grid.column_names


def test_pooled_items_make_batches(store: Store) -> None:
    data = store.dataset("light", ["meld"])
    items = PooledDataset(data, ["meld"], "train")
    batch = next(iter(DataLoader(items, batch_size=4)))
    assert batch["features"]["text"].shape == (4, DIM) and batch["label"].dtype == torch.int64
    row = data.sample_id.tolist().index(batch["sample_id"][0])
    assert np.array_equal(batch["features"]["text"][0], data.features["text"][row])
    assert len(items) == len(data.rows(("meld",), "train"))


def test_sequences_are_padded_and_come_once_a_pass_in_another_order(store: Store) -> None:
    data = store.dataset("light", ["meld"], ["text"])
    sequences = SegmentDataset(store, "minilm", data, ["meld"], "train", seed=0)
    passes = []
    for _ in range(2):
        batches = list(DataLoader(sequences, batch_size=8, collate_fn=collate_segments))
        passes.append([name for batch in batches for name in batch["sample_id"]])
    assert sorted(passes[0]) == sorted(data.sample_id[data.rows(("meld",), "train")].tolist())
    assert sorted(passes[0]) == sorted(passes[1]) and passes[0] != passes[1]
    first = batches[0]
    assert first["segments"].shape[:2] == first["mask"].shape and first["mask"].any(dim=1).all()


def test_shorter_sequences_get_zeros_that_the_mask_tells() -> None:
    from merloco.features.query.streaming import Segments

    items = [(Segments("a", np.ones((3, 2), np.float32), {}), 1), (Segments("b", np.ones((1, 2), np.float32), {}), 0)]
    batch = collate_segments(items)
    assert batch["mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["segments"].sum(dim=(1, 2)).tolist() == [6.0, 2.0] and batch["label"].tolist() == [1, 0]


def test_releases_become_features_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = write_workspace(tmp_path / "work", "plugin_of_the_api")
    store = Store.open(tmp_path / "store", catalog, create=True)
    with pytest.raises(DataError, match=r"nowhere|no annotation|not a folder"):
        store.ingest(["mine"], roots={"mine": tmp_path / "nowhere"})
    audit = store.ingest(["mine"], roots={"mine": tmp_path / "work" / "release"})["mine"]
    assert audit.found == audit.samples == 40
    (row,) = store.extract("own", device="cpu").to_pylist()
    assert (row["view"], row["corpus"], row["samples"], row["ok"]) == ("letters", "mine", 40, 40)
    before = shard_bytes(store)
    assert store.extract("own", ["mine"], ["text"], "cpu").to_pylist() == [row] and shard_bytes(store) == before
    assert Store.open(tmp_path / "store").sql("select count(pooled) from letters").fetchall() == [(40,)]


def test_mistakes_are_one_sentence(store: Store) -> None:
    with pytest.raises(DataError, match=r"nosuch|holds no run"):
        store.predictions("nosuch")
    with pytest.raises(DataError, match=r"nothing\.wav"):
        store.predict(["nothing.wav"])


def test_systems_are_compared_as_on_the_command_line(store: Store, capsys: pytest.CaptureFixture) -> None:
    for loss in ("balanced", "plain"):
        store.train(["meld"], ["afew"], modalities=["text"], seeds=[3, 4, 5], epochs=2, loss=loss)
    names = ("loss=balanced,epochs=2,seed=3,4,5", "loss=plain,epochs=2,seed=3,4,5")
    rows = store.compare(*names, experiment="train").to_pylist()
    code, out, err = merloco(
        capsys, "compare", *names, "--experiment", "train", "--format", "json", "--store", "demo/store"
    )
    assert code == 0, err
    (ours, *_), (theirs, *_) = rows, json.loads(out)
    assert (ours["corpus"], ours["train"], ours["seeds"]) == ("afew", "meld", 3)
    assert ours == pytest.approx(theirs)
    with pytest.warns(UserWarning, match="one seed each"):
        single = [f"{name.partition(',')[0]},epochs=2,seed={seed}" for name, seed in zip(names, (3, 4), strict=True)]
        assert store.compare(*single).num_rows > 1
    with pytest.raises(DataError, match="differ in seeds alone"):
        store.compare("loss=plain,epochs=2,seed=3", "loss=plain,epochs=2,seed=4")

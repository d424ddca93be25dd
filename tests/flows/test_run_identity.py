"""A run is known by what it learns from and how, as values: not by the bytes of files, nor by its experiment's name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merloco.features.runs import finished_runs, read_config
from merloco.features.shards.commit import commit_path, commits
from merloco.features.shards.format import shard_values, values_digest
from merloco.features.store import FeatureStore
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.files.hashing import sha256_file
from merloco.pipelines.samples.table import samples_path
from tests.helpers.command_line import merloco
from tests.helpers.planted_store import planted_catalog, planted_store
from tests.helpers.run_files import own_runs
from tests.helpers.store_files import CATALOG, make_store

pytestmark = pytest.mark.slow

TRAIN = ("train", "--train", "meld", "--test", "meld", "--modalities", "text", "--epochs", "2")


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CATALOG.parent)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def succeed(capsys: pytest.CaptureFixture, store: FeatureStore, *arguments: str) -> str:
    code, out, err = merloco(capsys, *arguments, "--store", str(store.root), "--device", "cpu")
    assert code == 0, err
    return out


def written_anew(store: FeatureStore, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> None:
    """Write the tables of MELD as another version of pyarrow might: other compression, row groups and encodings."""
    samples = samples_path(store.root, "meld")
    pq.write_table(pq.read_table(samples), samples, compression="gzip", row_group_size=7, use_dictionary=False)
    folder = store.folder(store.view("minilm"))
    for commit in commits(folder):
        path = folder / f"{commit.shard}.parquet"
        table = change(pq.read_table(path))
        pq.write_table(table, path, compression="gzip", row_group_size=11)
        record = json.loads(commit_path(folder, commit.shard).read_text())
        record |= {"parquet_sha256": sha256_file(path), "parquet_bytes": path.stat().st_size}
        write_json(commit_path(folder, commit.shard), {**record, "values_sha256": values_digest(table)})


def test_other_bytes_of_the_same_rows_and_vectors_retrain_nothing(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = make_store(tmp_path, n=200)
    succeed(capsys, store, *TRAIN)
    before = sha256_file(samples_path(store.root, "meld"))
    written_anew(store)
    assert sha256_file(samples_path(store.root, "meld")) != before
    assert "1 of them read from the store" in succeed(capsys, store, *TRAIN)
    assert len(own_runs(store.root)) == 1


def test_records_of_an_earlier_version_give_the_same_identity(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=200)
    succeed(capsys, store, *TRAIN)
    folder = store.folder(store.view("minilm"))
    for commit in commits(folder):
        path = commit_path(folder, commit.shard)
        write_json(path, {k: v for k, v in json.loads(path.read_text()).items() if k != "values_sha256"})
        assert shard_values(folder, replace(commit, values_sha256=None)) == commit.values_sha256
    assert "1 of them read from the store" in succeed(capsys, store, *TRAIN)


def test_one_other_bit_of_a_vector_is_another_run(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    def one_bit(table: pa.Table) -> pa.Table:
        vectors = [v if v is None else np.asarray(v, np.float32) for v in table["pooled"].to_pylist()]
        first = next(v for v in vectors if v is not None)
        first[0] = np.nextafter(first[0], np.float32(np.inf))
        place = table.column_names.index("pooled")
        return table.set_column(place, table.schema.field(place), pa.array(vectors, table["pooled"].type))

    store = make_store(tmp_path, n=200)
    succeed(capsys, store, *TRAIN)
    written_anew(store, one_bit)
    assert "read from the store" not in succeed(capsys, store, *TRAIN)
    assert len(own_runs(store.root)) == 2


def test_a_deleted_sample_is_another_run(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path, n=200)
    succeed(capsys, store, *TRAIN)
    gone = store.sql("select sample_id from labels where split = 'train' and emotion is not null limit 1").fetchall()
    code, _, err = merloco(capsys, "delete", "--sample", gone[0][0], "--yes", "--store", str(store.root))
    assert code == 0, err
    folder = store.folder(store.view("minilm"))
    for commit in commits(folder):
        assert commit.values_sha256 == shard_values(folder, replace(commit, values_sha256=None))
    assert "read from the store" not in succeed(capsys, store, *TRAIN)
    assert len(own_runs(store.root)) == 2


def test_the_same_runs_of_another_experiment_are_adopted(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    catalog = planted_catalog(
        tmp_path,
        experiments__twin={
            "protocol": "loco",
            "feature_sets": ["light"],
            "corpora": ["mosei", "afew", "meld", "iemocap"],
        },
    )
    store = planted_store(tmp_path / "store", catalog, n=120)
    given = ("--catalog", str(catalog))
    first = json.loads(succeed(capsys, store, "loco", "--seeds", "0", *given, "--format", "json"))
    assert "8 runs, 4 of them read from the store" in succeed(
        capsys, store, "experiment", "twin", "--seeds", "0,1", *given
    )
    counts = "select experiment, count(*) from runs group by all order by all"
    assert dict(store.sql(counts).fetchall()) == {"loco": 4, "reference": 4, "twin": 8}
    scores = """
        select corpus, class, metric, value from metrics join runs using (run)
        where experiment = '{}' and seed = 0 order by all"""
    one, other = (store.sql(scores.format(name)).fetchall() for name in ("loco", "twin"))
    assert str(one) == str(other) and len(one) > 100
    assert len(set(store.sql("select count(*), count(distinct (sample_id, run)) from predictions").fetchall()[0])) == 1
    sources = {}
    for folder in own_runs(store.root):
        record = read_config(folder)
        assert record["run"] == folder.name and record["config"]["experiment"] == folder.parent.name
        if source := record["environment"].get("adopted_from"):
            sources[folder] = store.root / "runs" / source
    assert {(folder.parent.name, source.parent.name) for folder, source in sources.items()} == {("twin", "loco")}
    assert all((s / "weights.safetensors").samefile(f / "weights.safetensors") for f, s in sources.items())
    again = json.loads(succeed(capsys, store, "loco", "--seeds", "0,1", *given, "--format", "json"))
    own = [{key: value for key, value in row.items() if "mean_" not in key and "std_" not in key} for row in again]
    assert [row | {"seeds": 1} for row in own if row["seed"] == 0] == [
        {key: row[key] for key in own[0]} for row in first
    ]
    assert len(own_runs(store.root)) == 16 and len(finished_runs(store.root)) == 8 + 4
    assert "8 runs, 8 of them" in succeed(capsys, store, "experiment", "twin", "--seeds", "0,1", *given)


def test_what_else_is_planned_changes_no_run(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """The ablation reads the text as well: a model of sound and pictures learns from the rows that have these."""
    catalog = planted_catalog(tmp_path)
    store = planted_store(tmp_path / "store", catalog, n=120, lacking={"meld": "video"})
    given = ("--catalog", str(catalog), "--seeds", "0", "--format", "json")
    ablation = json.loads(succeed(capsys, store, "experiment", "ablation", *given))
    alone = json.loads(
        succeed(capsys, store, "train", "--train", "afew", "--test", "afew", "--modalities", "audio,video", *given)
    )
    (same,) = [r for r in ablation if (r["corpus"], r["modalities"]) == ("afew", "audio,video")]
    assert [same[key] for key in ("n", "uar", "accuracy")] == [alone[0][key] for key in ("n", "uar", "accuracy")]
    weights = {f: (f / "weights.safetensors").stat().st_ino for f in own_runs(store.root) if f.parent.name == "train"}
    assert len(weights) == 1 and all((f / "weights.safetensors").stat().st_nlink == 2 for f in weights)

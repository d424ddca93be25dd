"""`merloco export duckdb`: one file that a DuckDB without merloco answers from, wherever it is moved."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from merloco.features.export.duckdb_file import write_duckdb
from merloco.features.store import FeatureStore
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.corpora_files import merloco
from tests.helpers.run_folder import make_run
from tests.helpers.store_files import make_sequence_store, make_store

ASK = """
import json, sys
sys.modules["merloco"] = None
import duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print(json.dumps([connection.execute(query).fetchall() for query in sys.argv[2:]]))
"""
"""A client: Python and DuckDB alone, in another folder."""


def ask(path: Path, *queries: str) -> list[list[list[Any]]]:
    command = [sys.executable, "-I", "-c", ASK, str(path), *queries]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[list[list[Any]]] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """300 samples with three views, and a run."""
    store = make_sequence_store(tmp_path_factory.mktemp("store"))
    make_run(store.root, store.samples(["meld"])["sample_id"].to_pylist()[:3])
    return store


@pytest.fixture(scope="module")
def file(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, moved after it was written, while the store is not where it was."""
    folder = tmp_path_factory.mktemp("out")
    rows = write_duckdb(store, folder / "it's here.duckdb", segments=True)
    assert rows["samples"] == rows["prosody"] == 300 < rows["prosody_segments"]
    assert [path.name for path in folder.iterdir()] == ["it's here.duckdb"]
    moved = tmp_path_factory.mktemp("moved") / "handed over.duckdb"
    shutil.move(folder / "it's here.duckdb", moved)
    return moved


def test_a_client_without_merloco_has_the_views_as_tables(store: FeatureStore, file: Path) -> None:
    names = "select table_name from duckdb_tables() order by 1"
    (found,) = ask(file, names)
    tables = {name for (name,) in found}
    feature_views = {"minilm", "prosody", "face_hog"}
    assert feature_views | {f"{name}_segments" for name in feature_views} < tables
    fixed = {"samples", "labels", "shards", "failures", "runs", "metrics", "epochs", "predictions", "findings"}
    assert tables >= fixed | {"classes"} and not {"wav2vec2_mer", "wav2vec2_mer_segments"} & tables
    for name in sorted(fixed | feature_views):
        columns = f"select column_name, column_type from (describe {name})"
        count = f"select count(*) from {name}"
        (described, counted) = ask(file, columns, count)
        assert [tuple(row) for row in described] == store.sql(columns).fetchall()
        assert counted == [list(row) for row in store.sql(count).fetchall()]


def test_embeddings_samples_and_runs_answer_as_in_the_store(store: FeatureStore, file: Path) -> None:
    queries = [
        "select sample_id, emotion, target, mask from labels order by 1",
        "select sample_id, split, speaker, text, duration from samples order by 1",
        "select run, experiment, train, test, config from runs order by 1",
        "select sample_id, prediction, probabilities from predictions order by 1",
        "select emotion, mean_vector(pooled) from labels join prosody using (sample_id) group by all order by 1",
        """select b.sample_id from prosody a, prosody b where a.sample_id = 'meld/train/dia0_utt0'
        order by array_cosine_similarity(a.pooled, b.pooled) desc nulls last, 1 limit 5""",
    ]
    for query, answer in zip(queries, ask(file, *queries), strict=True):
        assert answer
        assert answer == json.loads(json.dumps(store.sql(query).fetchall()))


def test_segments_are_rows_whose_mean_is_the_pooled_vector(file: Path) -> None:
    query = """
        select n_segments, count(*), list(segment order by segment), list(embedding), any_value(pooled)
        from prosody join prosody_segments using (sample_id) group by sample_id, n_segments
    """
    rows, without = ask(file, query, "select count(*) from prosody where pooled is null and status = 'ok'")
    assert len(rows) > 200 and without == [[0]]
    for n, counted, places, vectors, pooled in rows:
        assert counted == n and places == list(range(n))
        mean = [sum(column) / n for column in zip(*vectors, strict=True)]
        assert all(math.isclose(a, b, abs_tol=1e-5) for a, b in zip(mean, pooled, strict=False))


def test_places_of_targets_have_names(store: FeatureStore, file: Path) -> None:
    query = """
        select distinct l.emotion, c.class from labels l join classes c using (corpus)
        where l.emotion is not null and target[place] = 1
    """
    names, classes = ask(file, query, "select class from classes where corpus = 'meld' order by place")
    assert names and all(emotion == label for emotion, label in names)
    assert tuple(label for (label,) in classes) == store.catalog.label_order


def test_the_file_is_of_a_format_that_older_versions_open(file: Path) -> None:
    (version,) = ask(file, "select tags['storage_version'] from duckdb_databases() where not internal")
    assert version == [["v1.0.0+"]]


def test_maps_over_different_classes_stand_side_by_side(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    mixed = make_store(tmp_path / "store", n=5)
    sample = Sample("mosei/v/0", "mosei", "train", intensities={"happy": 1.0, "sad": 0.5}, speaker="Zoë Ångström")
    write_parquet(samples_path(mixed.root, "mosei"), to_table([sample]))
    code, out, err = merloco(capsys, mixed, "export", "duckdb", str(tmp_path / "x.duckdb"))
    assert code == 0 and "Wrote " in out and "MB)" in out, err
    query = "select speaker, intensities['sad'], emotion from samples join labels using (sample_id) where speaker > ''"
    assert ask(tmp_path / "x.duckdb", query) == [[["Zoë Ångström", 0.5, "happy"]]]


def test_a_view_that_is_broken_or_not_extracted_is_said(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    folder = tmp_path / "store" / store.folder(store.view("prosody")).relative_to(store.root)
    folder.rename(folder.with_name("0123456789abcdef"))
    write_parquet(
        samples_path(tmp_path / "store", "afew"), to_table([Sample("afew/v/0", "afew", "train", label="hapy")])
    )
    code, out, err = merloco(capsys, tmp_path / "store", "export", "duckdb", str(tmp_path / "x.duckdb"))
    assert code == 0 and "minilm" in out
    lines = err.splitlines()
    assert any("view labels is left out" in line and "hapy" in line for line in lines)
    assert any("prosody" in line and "left out" in line for line in lines)


def test_it_overwrites_nothing(capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "mine.duckdb").write_text("mine")
    code, _, err = merloco(capsys, store, "export", "duckdb", str(tmp_path / "mine.duckdb"))
    assert code == 2 and "exists" in err and (tmp_path / "mine.duckdb").read_text() == "mine"


def test_a_damaged_shard_leaves_no_file(capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    shard = next((tmp_path / "store" / "views" / "prosody").glob("*/*.parquet"))
    shard.write_bytes(b"PAR1" + bytes(shard.stat().st_size - 8) + b"PAR1")
    code, _, err = merloco(capsys, tmp_path / "store", "export", "duckdb", str(tmp_path / "x.duckdb"))
    assert code == 1 and len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["store"]

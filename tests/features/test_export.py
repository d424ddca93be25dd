"""`merloco export`: peers read it with their own tools, rows are joined by id, nothing is a silent zero."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from merloco.features.export.huggingface import card, write_hf
from merloco.features.export.parquet import export_classes, export_table
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import samples_path, write_samples
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import make_sequence_store, make_store, meld_samples


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """300 samples with a text view, two views with windows, and one sample of audio that was never extracted."""
    return make_sequence_store(tmp_path_factory.mktemp("store"))


def test_one_parquet_holds_labels_and_a_column_per_view(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    code, printed, _ = merloco(capsys, store, "export", "--to", "parquet", "--out", str(out))
    assert code == 0 and "train" in printed
    table = pq.read_table(out)
    assert table.num_rows == 300
    rows = {row["sample_id"]: row for row in table.to_pylist()}
    query = """
        select sample_id, l.split, emotion, target, m.pooled, m.status, p.pooled, p.status
        from labels l join minilm m using (sample_id) join prosody p using (sample_id)
    """
    for sample_id, split, emotion, target, text, text_status, audio, audio_status in store.sql(query).fetchall():
        row = rows.pop(sample_id)
        assert (row["split"], row["emotion"], row["target"]) == (split, emotion, list(target))
        vectors = (("minilm", text, text_status), ("prosody", audio, audio_status))
        for view, vector, status in vectors:
            expected = [0.0] * len(row[view]) if vector is None else list(vector)
            assert (row[view], row[f"{view}_present"], row[f"{view}_status"]) == (expected, vector is not None, status)
    assert rows == {}
    assert store.sql("select count(*) from minilm where pooled is null").fetchall()[0][0] > 0


def test_what_was_not_extracted_says_so(store: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    grown = FeatureStore.open(tmp_path / "store", store.catalog)
    samples = from_table(store.samples())
    write_parquet(
        samples_path(grown.root, "meld"), to_table([*samples, replace(samples[0], sample_id="meld/train/dia999_utt0")])
    )
    rows = {row["sample_id"]: row for row in export_table(grown, "light", ["meld"]).to_pylist()}
    new = rows["meld/train/dia999_utt0"]
    assert (new["minilm_present"], new["minilm_status"]) == (False, "not_extracted")


def test_no_column_of_vectors_or_targets_has_a_null(store: FeatureStore, tmp_path: Path) -> None:
    """Vector stores refuse null vectors, and tensors have none."""
    samples = from_table(store.samples())
    samples[0] = replace(samples[0], label=None)
    shutil.copytree(store.root, tmp_path / "store")
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table(samples))
    table = export_table(FeatureStore.open(tmp_path / "store", store.catalog), "light", ["meld"])
    for name in ("target", "mask", "minilm", "prosody", "face_hog"):
        column = table[name].combine_chunks()
        assert column.null_count == 0 and column.flatten().null_count == 0 and pa.types.is_fixed_size_list(column.type)
    row = table.to_pylist()[0]
    assert (row["emotion"], row["target"], row["mask"]) == (None, [0.0] * 7, [False] * 7)
    assert (row["text"], row["duration"]) == (samples[0].text, samples[0].duration)


def test_maps_with_other_classes_are_not_one_table(store: FeatureStore, tmp_path: Path) -> None:
    """As many classes are not the same classes."""
    entry = store.catalog.corpora["iemocap"]
    seven = entry.maps["seven"]
    turned = {**entry.maps, "seven": seven.model_copy(update={"classes": seven.classes[::-1]})}
    corpora = {**store.catalog.corpora, "iemocap": entry.model_copy(update={"maps": turned})}
    shutil.copytree(store.root, tmp_path / "store")
    write_parquet(samples_path(tmp_path / "store", "iemocap"), to_table([]))
    catalog = store.catalog.model_copy(update={"corpora": corpora})
    with pytest.raises(DataError, match="have different classes"):
        export_table(FeatureStore.open(tmp_path / "store", catalog), "light", ["meld", "iemocap"])


def hugging_face(store: FeatureStore, folder: Path) -> dict[str, int]:
    table = export_table(store, "light", ["meld"])
    return write_hf(store, table, card(store, "light", ["meld"]), export_classes(store, ["meld"]), folder)


def test_the_hugging_face_folder_names_its_splits_and_its_source(store: FeatureStore, tmp_path: Path) -> None:
    counts = hugging_face(store, tmp_path / "hf")
    text = (tmp_path / "hf" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    files = {f["split"]: tmp_path / "hf" / f["path"] for f in head["configs"][0]["data_files"]}
    assert list(files) == list(counts) == ["train", "validation", "test"]
    assert {split: pq.read_metadata(path).num_rows for split, path in files.items()} == counts
    assert store.view("prosody").fingerprint in text
    assert head["license"] == "other" and "## Licence" in text and "poria2019meld" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hf"]


def test_a_hugging_face_emotion_is_a_place_in_the_label_order(store: FeatureStore, tmp_path: Path) -> None:
    hugging_face(store, tmp_path / "hf")
    read = pq.read_table(tmp_path / "hf" / "data" / "train.parquet")
    names = json.loads(read.schema.metadata[b"huggingface"])["info"]["features"]["emotion"]["names"]
    assert tuple(names) == store.catalog.label_order
    emotions = dict(store.sql("select sample_id, emotion from labels").fetchall())
    rows = read.to_pylist()
    assert [names[row["emotion"]] for row in rows] == [emotions[row["sample_id"]] for row in rows]


def test_datasets_reads_the_folder(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs where the library is installed; merloco does not need it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    counts = hugging_face(store, tmp_path / "hf")
    read = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: part.num_rows for split, part in read.items()} == counts
    assert tuple(read["train"].features["emotion"].names) == store.catalog.label_order
    for row in read["train"].with_format("torch"):
        assert row["prosody"].shape == (6,) and row["emotion"].ndim == 0


def test_datasets_reads_a_samples_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    samples = [replace(s, label=None, intensities={"happy": 1.0}) for s in meld_samples(3)]
    write_samples(tmp_path, "meld", to_table(samples))
    path = str(samples_path(tmp_path, "meld"))
    read = datasets.load_dataset("parquet", data_files=path, cache_dir=str(tmp_path / "cache"))["train"]
    assert read[0]["intensities"] == [{"key": "happy", "value": 1.0}]


def test_lancedb_takes_the_parquet_file_as_it_is(store: FeatureStore, tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    table = export_table(store, "light", ["meld"])
    wide = pa.array([[float(i)] * 16 for i in range(table.num_rows)], pa.list_(pa.float32(), 16))
    data = table.set_column(table.schema.get_field_index("minilm"), "minilm", wide)
    assert lancedb.connect(tmp_path / "db").create_table("meld", data=data).count_rows() == 300


def test_the_folders_of_a_store_are_data_sets_as_they_lie(store: FeatureStore) -> None:
    """The lines of docs/interoperability.md."""
    folder = store.folder(store.view("prosody"))
    read = ds.dataset(folder, exclude_invalid_files=True).to_table()
    assert read.num_rows == 300 and pa.types.is_fixed_size_list(read.schema.field("pooled").type)
    assert len(pd.read_parquet(sorted(folder.glob("*.parquet")))) == 300
    assert duckdb.sql(f"select count(*) from '{folder}/*.parquet'").fetchall() == [(300,)]
    assert ds.dataset(store.root / "samples", exclude_invalid_files=True).to_table().num_rows == 300


def test_an_export_overwrites_nothing_and_says_what_is_not_extracted(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    out = tmp_path / "mine.parquet"
    out.write_text("mine")
    code, _, err = merloco(capsys, store, "export", "--to", "parquet", "--out", str(out))
    assert code == 2 and "exists" in err and out.read_text() == "mine"
    bare = make_store(tmp_path / "bare", n=5)
    for kind in ("parquet", "mmsa"):
        code, _, err = merloco(capsys, bare, "export", "--to", kind, "--out", str(tmp_path / "x"))
        assert code == 1 and "merloco extract" in err and not (tmp_path / "x").exists()
    arguments = ["export", "--to", "parquet", "--modalities", "text", "--out", str(tmp_path / "text.parquet")]
    assert merloco(capsys, bare, *arguments)[0] == 0


def test_the_same_store_gives_the_same_bytes(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        for kind in ("parquet", "mmsa"):
            merloco(
                capsys, store, "export", "--to", kind, "--corpora", "meld", "--out", str(tmp_path / f"{name}.{kind}")
            )
    for kind in ("parquet", "mmsa"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()

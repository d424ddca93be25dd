"""`merloco export`: peers read it with their own tools, rows are joined by id, nothing is a silent zero."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from merloco.features.export import parquet
from merloco.features.export.duckdb_file import write_duckdb
from merloco.features.export.huggingface import write_hf
from merloco.features.export.rows import ExportRows, Selection
from merloco.features.query.streaming import stream_segments
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import Sample, from_table, to_table
from merloco.pipelines.samples.table import samples_path, write_samples
from tests.helpers.command_line import the_sentence
from tests.helpers.corpora_files import merloco, store_of
from tests.helpers.store_files import CATALOG, make_sequence_store, make_store, meld_samples


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """300 samples with a text view, two views with windows, and one sample of audio that was never extracted."""
    return make_sequence_store(tmp_path_factory.mktemp("store"))


def export_table(store: FeatureStore, *corpora: str, segments: bool = False) -> pa.Table:
    rows = ExportRows(store, Selection("light", corpora, segments=segments))
    return pa.concat_tables(rows.tables())


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
    rows = {row["sample_id"]: row for row in export_table(grown, "meld").to_pylist()}
    new = rows["meld/train/dia999_utt0"]
    assert (new["minilm_present"], new["minilm_status"]) == (False, "not_extracted")


def test_no_column_of_vectors_or_targets_has_a_null(store: FeatureStore, tmp_path: Path) -> None:
    """Vector stores refuse null vectors, and tensors have none."""
    samples = from_table(store.samples())
    samples[0] = replace(samples[0], label=None)
    shutil.copytree(store.root, tmp_path / "store")
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table(samples))
    table = export_table(FeatureStore.open(tmp_path / "store", store.catalog), "meld")
    for name in ("target", "mask", "minilm", "prosody", "face_hog"):
        column = table[name].combine_chunks()
        assert column.null_count == 0 and column.flatten().null_count == 0 and pa.types.is_fixed_size_list(column.type)
    row = table.to_pylist()[0]
    assert (row["emotion"], row["target"], row["mask"]) == (None, [0.0] * 7, [False] * 7)
    assert (row["text"], row["duration"]) == (samples[0].text, samples[0].duration)


def test_segments_are_a_column_of_sequences_on_request(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    out = tmp_path / "features.parquet"
    assert merloco(capsys, store, "export", "parquet", str(out), "--segments")[0] == 0
    table = pq.read_table(out)
    assert table.schema.field("prosody_segments").type == pa.list_(pa.list_(pa.float32(), 3))
    assert table["prosody_segments"].null_count == 0
    rows = {row["sample_id"]: row["prosody_segments"] for row in table.to_pylist()}
    seen = 0
    for sample in stream_segments(store, "prosody"):
        assert rows.pop(sample.sample_id) == sample.segments.tolist()
        seen += 1
    assert seen > 200 and rows and set(map(len, rows.values())) == {0}
    plain = tmp_path / "plain.parquet"
    assert merloco(capsys, store, "export", "parquet", str(plain))[0] == 0
    assert pq.read_table(plain).equals(table.select(pq.read_schema(plain).names))


def test_rows_are_written_in_groups_as_they_come(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is all that is in memory, and no group of rows changes what is read."""
    expected = export_table(store, "meld")
    monkeypatch.setattr(parquet, "ROW_GROUP", 1000)
    parquet.write_one_parquet(store, Selection("light", ["meld"]), tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 2
    assert pq.read_table(tmp_path / "out.parquet").equals(expected)


def test_samples_that_came_later_are_joined_by_id_across_shards(store: FeatureStore, tmp_path: Path) -> None:
    """They move the others by one, so that 256 samples have their vectors in two shards."""
    shutil.copytree(store.root, tmp_path / "store")
    samples = from_table(store.samples())
    first = replace(samples[0], sample_id="meld/train/aaa")
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table([*samples, first]))
    grown = FeatureStore.open(tmp_path / "store", store.catalog)
    before, after = export_table(store, "meld", segments=True), export_table(grown, "meld", segments=True)
    assert after["sample_id"][0].as_py() == "meld/train/aaa" and after["prosody_status"][0].as_py() == "not_extracted"
    assert after.slice(1).combine_chunks().equals(before.combine_chunks())


def test_intensities_of_several_emotions_are_a_target_of_several_classes(tmp_path: Path) -> None:
    samples = [
        Sample(f"mosei/v/{i}", "mosei", "none", intensities=values, speaker="Zoë Ångström", text=None)
        for i, values in enumerate([{"happy": 1.0, "sad": 0.5}, {"happy": 1.0, "sad": 1.0}, {"happy": 0.0}])
    ]
    mosei = store_of(tmp_path / "store", *samples)
    catalog = mosei.catalog
    rows = export_rows_without_views(mosei, "mosei")
    order = list(catalog.label_order)
    positive = [{order[i] for i, value in enumerate(row["target"]) if value} for row in rows]
    assert positive == [{"happy", "sad"}, {"happy", "sad"}, set()]
    assert [row["emotion"] for row in rows] == ["happy", None, None]
    assert {row["speaker"] for row in rows} == {"Zoë Ångström"} and {row["text"] for row in rows} == {None}


def export_rows_without_views(store: FeatureStore, corpus: str) -> list[dict]:
    table = pa.concat_tables(ExportRows(store, Selection("light", [corpus], [])).tables())
    return table.to_pylist()


@pytest.mark.parametrize("kind", ["parquet", "hf", "duckdb", "mmsa", "audformat"])
def test_a_store_without_samples_is_one_sentence(kind: str, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    empty = FeatureStore.open(tmp_path / "store", load_catalog(CATALOG), create=True)
    code, _, err = merloco(capsys, empty, "export", kind, str(tmp_path / "out"))
    assert code == 1 and "merloco ingest" in the_sentence(err)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("kind", ["parquet", "hf"])
def test_a_corpus_without_a_row_is_one_sentence(
    kind: str, capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table([]))
    code, _, err = merloco(capsys, tmp_path / "store", "export", kind, str(tmp_path / "out"))
    assert code == 1 and "there is no sample of meld" in the_sentence(err)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["parquet"], "one file or folder"),
        (["--out", "x"], "expected one format"),
        (["parquet", "x", "--to", "hf"], "expected one format"),
        (["duckdb", "x", "--corpora", "meld"], "holds the whole store: leave out --corpora"),
        (["duckdb", "x", "--modalities", "text"], "leave out --modalities"),
        (["duckdb", "x", "--features", "light"], "leave out --features"),
        (["audformat", "x", "--segments"], "holds no features: leave out --segments"),
    ],
)
def test_what_a_format_does_not_take_is_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    at = [str(tmp_path / "x") if word == "x" else word for word in arguments]
    code, _, err = merloco(capsys, store, "export", *at)
    assert code == 2 and said in the_sentence(err) and not (tmp_path / "x").exists()


WRITE_LITTLE = """
import resource, signal, sys
sys.dont_write_bytecode = True
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
from merloco.flows.cli.app import main
main()
"""
"""A process that cannot write more than 2 kB into a file: what a full disk says."""


@pytest.mark.parametrize("kind", ["parquet", "hf", "duckdb", "mmsa", "audformat"])
def test_a_disk_that_runs_full_leaves_one_sentence_and_no_file(kind: str, store: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    samples = [replace(s, audio_path=f"{s.sample_id * 9}.wav") for s in from_table(store.samples())]
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table(samples))
    (tmp_path / "out").mkdir()
    arguments = [kind, str(tmp_path / "out" / "x"), "--store", str(tmp_path / "store"), "--catalog", str(CATALOG)]
    arguments += [] if kind == "audformat" else ["--segments"]
    command = [sys.executable, "-c", WRITE_LITTLE, "export", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "File too large" in the_sentence(done.stderr) and list((tmp_path / "out").iterdir()) == []


def test_a_view_that_is_called_as_a_column_is_one_sentence(store: FeatureStore, tmp_path: Path) -> None:
    catalog = store.catalog
    views = {**catalog.views, "text": catalog.view("minilm")}
    sets = {**catalog.feature_sets, "light": catalog.feature_set("light").model_copy(update={"text": "text"})}
    root = tmp_path / "store"
    shutil.copytree(store.root, root)
    shutil.copytree(root / "views" / "minilm", root / "views" / "text")
    renamed = FeatureStore.open(root, catalog.model_copy(update={"views": views, "feature_sets": sets}))
    with pytest.raises(DataError, match="two columns would be called text:"):
        export_table(renamed, "meld")


@pytest.mark.parametrize("kind", ["parquet", "hf", "duckdb"])
def test_an_export_that_is_interrupted_leaves_nothing(kind: str, store: FeatureStore, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    out, selection = tmp_path / "out", Selection("light", ["meld"])
    with pytest.raises(KeyboardInterrupt):
        if kind == "duckdb":
            write_duckdb(store, out, progress=interrupt)
        else:
            (write_hf if kind == "hf" else parquet.write_one_parquet)(store, selection, out, interrupt)
    assert list(tmp_path.iterdir()) == []


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
        export_table(FeatureStore.open(tmp_path / "store", catalog), "meld", "iemocap")


def hugging_face(store: FeatureStore, folder: Path) -> dict[str, int]:
    return write_hf(store, Selection("light", ["meld"]), folder)


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


def read_with_datasets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs where the library is installed; merloco does not need it."""
    monkeypatch.setenv("HF_HOME", str(folder.parent / "cache"))
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))


def test_datasets_reads_the_folder(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = hugging_face(store, tmp_path / "hf")
    read = read_with_datasets(tmp_path / "hf", monkeypatch)
    assert {split: part.num_rows for split, part in read.items()} == counts
    emotion = read["train"].features["emotion"]
    assert tuple(emotion.names) == store.catalog.label_order
    assert read["train"].features["prosody"].length == 6
    for row in read["train"].with_format("torch"):
        assert row["prosody"].shape == (6,) and row["emotion"].ndim == 0
    expected = dict(store.sql("select sample_id, emotion from labels").fetchall())
    for row in read["test"]:
        assert emotion.int2str(row["emotion"]) == expected[row["sample_id"]]


def test_datasets_reads_segments_unlabelled_rows_and_samples_without_a_split(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    samples = from_table(store.samples())
    samples[0] = replace(samples[0], label=None, split="none", speaker="Zoë Ångström", text=None, duration=None)
    samples[1] = replace(samples[1], split="none", duration=1.5)
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table(samples))
    changed = FeatureStore.open(tmp_path / "store", store.catalog)
    write_hf(changed, Selection("light", ["meld"], segments=True), tmp_path / "hf")
    read = read_with_datasets(tmp_path / "hf", monkeypatch)
    assert list(read) == ["train", "validation", "test", "none"]
    odd, other = read["none"]
    assert (odd["emotion"], odd["speaker"], odd["text"], odd["duration"]) == (-1, "Zoë Ångström", None, None)
    assert other["emotion"] >= 0 and other["duration"] == 1.5
    sequences = {sample.sample_id: sample.segments for sample in stream_segments(store, "prosody")}
    for row in read["train"].with_format("numpy"):
        sequence = sequences.get(row["sample_id"])
        assert len(row["prosody_segments"]) == (0 if sequence is None else len(sequence))
        if sequence is not None:
            assert (np.stack(row["prosody_segments"]) == sequence).all()


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
    table = export_table(store, "meld")
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

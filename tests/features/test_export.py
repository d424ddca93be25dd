"""`merloco export`: peers read it with their own tools, rows are joined by id, nothing is a silent zero."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from merloco.features.export.parquet import card, export_table, write_hf
from merloco.features.store import FeatureStore
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import add_sequences, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """300 samples with a text view, two views with windows, and one sample of audio that was never extracted."""
    store = make_store(tmp_path_factory.mktemp("store"), n=300)
    add_sequences(store, "prosody", 3)
    add_sequences(store, "face_hog", 2)
    return store


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
        assert (row["minilm"], row["minilm_status"]) == (None if text is None else list(text), text_status)
        assert (row["prosody"], row["prosody_status"]) == (None if audio is None else list(audio), audio_status)
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
    assert (new["minilm"], new["minilm_status"]) == (None, "not_extracted")


def test_the_hugging_face_folder_names_its_splits(store: FeatureStore, tmp_path: Path) -> None:
    table = export_table(store, "light", ["meld"])
    counts = write_hf(store, table, card(store, "light", ["meld"]), tmp_path / "hf")
    text = (tmp_path / "hf" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    files = {f["split"]: tmp_path / "hf" / f["path"] for f in head["configs"][0]["data_files"]}
    assert list(files) == list(counts) == ["train", "validation", "test"]
    assert {split: pq.read_metadata(path).num_rows for split, path in files.items()} == counts
    assert store.view("prosody").fingerprint in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hf"]


def test_datasets_reads_the_folder(store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs where the library is installed; merloco does not need it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    table = export_table(store, "light", ["meld"])
    counts = write_hf(store, table, card(store, "light", ["meld"]), tmp_path / "hf")
    read = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: part.num_rows for split, part in read.items()} == counts
    assert read["train"][0]["sample_id"] == next(r["sample_id"] for r in table.to_pylist() if r["split"] == "train")


def mmsa(capsys: pytest.CaptureFixture, store: FeatureStore, out: Path) -> tuple[dict, str]:
    code, _, err = merloco(capsys, store, "export", "--to", "mmsa", "--corpora", "meld", "--out", str(out))
    assert code == 0, err
    with out.open("rb") as stream:
        return pickle.load(stream), err  # what a peer does; merloco reads none


def test_the_mmsa_pickle_has_the_parts_and_fields_that_its_loader_reads(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    parts, err = mmsa(capsys, store, tmp_path / "meld.pkl")
    assert list(parts) == ["train", "valid", "test"]
    rows = {row[0]: row for row in store.sql("select sample_id, split, text, label from samples").fetchall()}
    segments = dict(store.sql("select sample_id, n_segments from prosody").fetchall())
    seen = 0
    for name, part in parts.items():
        n = len(part["id"])
        seen += n
        assert (
            part["audio"].shape == (n, 4, 3) and part["vision"].shape == (n, 4, 2) and part["text"].shape == (n, 1, 3)
        )
        assert all(part[field].dtype == np.float32 for field in ("audio", "vision", "text", "classification_labels"))
        for i, id_ in enumerate(part["id"]):
            sample_id = "meld/" + id_.replace("$_$", "/")
            assert rows[sample_id][1:3] == ({"valid": "val"}.get(name, name), part["raw_text"][i])
            length = part["audio_lengths"][i]
            assert length == segments[sample_id]
            assert part["audio"][i, :length].any(axis=1).all() and not part["audio"][i, length:].any()
            assert store.catalog.label_order[int(part["classification_labels"][i])] == part["annotations"][i]
        assert "regression_labels" not in part
    assert seen < 300 and "Not in it: " in err and "no audio" in err


def test_sentiment_is_the_regression_label_where_every_row_has_one(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    samples = [replace(s, native={"sentiment": i / 100}) for i, s in enumerate(from_table(store.samples()))]
    write_parquet(samples_path(tmp_path / "store", "meld"), to_table(samples))
    parts, _ = mmsa(capsys, FeatureStore.open(tmp_path / "store", store.catalog), tmp_path / "meld.pkl")
    sentiment = {s.sample_id: s.native["sentiment"] for s in samples}
    for part in parts.values():
        expected = [sentiment["meld/" + id_.replace("$_$", "/")] for id_ in part["id"]]
        assert part["regression_labels"] == pytest.approx(expected)


def test_several_corpora_are_no_mmsa_data_set(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=5)
    write_parquet(samples_path(store.root, "afew"), to_table([]))
    code, _, err = merloco(capsys, store, "export", "--to", "mmsa", "--out", str(tmp_path / "x.pkl"))
    assert code == 2 and "name one of meld, afew" in err


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

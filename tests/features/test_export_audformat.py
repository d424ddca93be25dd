"""`merloco export audformat`: files or intervals of files as index, the emotion scheme, a table per split."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from merloco.features.store import FeatureStore
from merloco.pipelines.samples.schema import Sample, from_table, to_table
from merloco.pipelines.samples.table import write_samples
from tests.helpers.corpora_files import merloco, store_of
from tests.helpers.store_files import make_store, meld_samples

HOUR = 3_600_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Ten samples: intervals of one sound file, a whole video without sound, and one without any file."""
    store = make_store(tmp_path / "store", n=10, extracted=False)
    samples = [
        replace(s, audio_path="a/all.wav", audio_start=3600.0 + i, audio_end=3600.25 + i, speaker=f"S{i % 2}")
        for i, s in enumerate(meld_samples(10))
    ]
    samples[0] = replace(samples[0], audio_path=None, video_path="v/first.mp4", audio_start=None, audio_end=None)
    samples[1] = replace(samples[1], audio_path=None, label=None)
    samples[2] = replace(samples[2], label=None, split="none", text='null, "NA"\nand more')
    write_samples(store.root, "meld", to_table(samples))
    return store


def export(capsys: pytest.CaptureFixture, store: FeatureStore, out: Path) -> None:
    code, _, err = merloco(capsys, store, "export", "audformat", str(out), "--corpora", "meld")
    assert code == 0, err


def test_the_header_describes_the_tables(capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path) -> None:
    export(capsys, store, tmp_path / "db")
    header = yaml.safe_load((tmp_path / "db" / "db.yaml").read_text())
    assert header["schemes"]["emotion"]["labels"] == list(store.catalog.label_order)
    assert header["schemes"]["speaker"]["labels"] == ["S0", "S1"]
    assert header["splits"] == {kind: {"type": kind} for kind in ("train", "dev", "test", "other")}
    rows = []
    for name, about in header["tables"].items():
        table = pq.read_table(tmp_path / "db" / f"db.{name}.parquet")
        assert table.column_names == ["file", "start", "end", *about["columns"]]
        assert table.schema.field("start").type == table.schema.field("end").type == pa.duration("ns")
        assert f"emotion.{about['split_id']}" == name
        for place in ("start", "end"):
            at = table.schema.get_field_index(place)
            table = table.set_column(at, place, table[place].cast(pa.int64()))
        rows += table.to_pylist()
    by_id = {row["sample_id"]: row for row in rows}
    assert len(rows) == len(by_id) == 9 and "meld/train/dia0_utt1" not in by_id
    whole, cut = by_id["meld/train/dia0_utt0"], by_id["meld/train/dia0_utt3"]
    assert (whole["file"], whole["start"], whole["end"]) == ("v/first.mp4", 0, None)
    assert (cut["file"], cut["start"], cut["end"]) == ("a/all.wav", HOUR + 3 * 10**9, HOUR + 3_250_000_000)


def test_audformat_reads_it(capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    export(capsys, store, tmp_path / "db")
    database = audformat.Database.load(str(tmp_path / "db"))
    emotion = database.get("emotion", ["sample_id", "text", "speaker"])
    assert len(emotion) == 9
    odd = emotion[emotion["sample_id"] == "meld/train/dia0_utt2"].iloc[0]
    assert odd["text"] == 'null, "NA"\nand more' and odd.isna()["emotion"] and odd["speaker"] == "S0"
    expected = dict(store.sql("select sample_id, emotion from labels where emotion is not null").fetchall())
    labelled = emotion.dropna(subset=["emotion"])
    assert dict(zip(labelled["sample_id"], labelled["emotion"], strict=True)) == expected
    assert database.splits["dev"].type == "dev"


def test_audformat_reads_durations_speakers_and_intervals(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    audformat = pytest.importorskip("audformat")
    samples = from_table(store.samples())
    samples[3] = replace(samples[3], speaker="Zoë Ångström", duration=0.25, text=None)
    write_samples(store.root, "meld", to_table(samples))
    export(capsys, store, tmp_path / "db")
    database = audformat.Database.load(str(tmp_path / "db"))
    table = database.get("duration", ["sample_id", "speaker", "text", "dialogue"])
    row = table[table["sample_id"] == samples[3].sample_id]
    ((file, start, end),) = row.index.to_list()
    assert (file, start.total_seconds(), end.total_seconds()) == ("a/all.wav", 3603.0, 3603.25)
    only = row.iloc[0]
    assert only["duration"].total_seconds() == 0.25 and only["speaker"] == "Zoë Ångström" and row.isna()["text"].all()
    assert table["duration"].isna().sum() == len(table) - 1


def test_audformat_reads_intensities_of_several_emotions(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")
    intensities = ({"happy": 1.5, "sad": 0.5}, {"happy": 0.0}, None)
    samples = [
        Sample(f"mosei/v/{i}", "mosei", "train", intensities=values, audio_path="v.wav", audio_start=1.0 * i)
        for i, values in enumerate(intensities)
    ]
    mosei = store_of(tmp_path / "store", *samples)
    code, _, err = merloco(capsys, mosei, "export", "audformat", str(tmp_path / "db"))
    assert code == 0, err
    database = audformat.Database.load(str(tmp_path / "db"))
    table = database["emotion.train"].get()
    assert table["intensity.happy"].fillna(-1).tolist() == [1.5, 0.0, -1]
    assert table["intensity.sad"].fillna(-1).tolist() == [0.5, -1, -1]
    assert table["emotion"].dropna().tolist() == ["happy"]
    assert database.get("intensity.sad")["intensity.sad"].dropna().tolist() == [0.5]


def test_samples_that_a_table_of_intervals_cannot_hold_are_counted(
    capsys: pytest.CaptureFixture, store: FeatureStore, tmp_path: Path
) -> None:
    """An audformat table has one row per interval of a file."""
    audformat = pytest.importorskip("audformat")
    samples = from_table(store.samples())
    samples[4] = replace(samples[4], audio_start=samples[3].audio_start, audio_end=samples[3].audio_end)
    write_samples(store.root, "meld", to_table(samples))
    arguments = ["export", "audformat", str(tmp_path / "db"), "--corpora", "meld"]
    _, _, err = merloco(capsys, store, *arguments)
    assert "Not in it: no media file 1, the same interval as another sample 1" in err
    ids = audformat.Database.load(str(tmp_path / "db")).get("sample_id")["sample_id"].tolist()
    assert len(ids) == 8 and samples[3].sample_id in ids


def test_a_corpus_without_files_is_an_error(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    bare = make_store(tmp_path / "store", n=3, extracted=False)
    arguments = ["export", "audformat", str(tmp_path / "db"), "--corpora", "meld"]
    code, _, err = merloco(capsys, bare, *arguments)
    assert code == 1 and "has a media file" in err and not (tmp_path / "db").exists()

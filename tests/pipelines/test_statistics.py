"""Table 1: what is counted, how imbalance is taken, and why a row differs from the published one."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.entries import CorpusEntry
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import read_samples
from merloco.pipelines.statistics.counts import (
    STATS_SCHEMA,
    Comparison,
    as_printed,
    compare,
    corpus_stats,
    notes,
    stats,
    stats_table,
)
from merloco.pipelines.statistics.published import FIGURES, PUBLISHED
from tests.helpers.corpora_files import counted, meld_store, merloco, needs_meld, store_of, write_tone
from tests.helpers.store_files import CATALOG

# raw consensus labels of Sessions 1-4 and of Session 5.
IEMOCAP = {
    "train": {"ang": 933, "exc": 742, "fru": 1468, "hap": 452, "neu": 1324, "sad": 839, "sur": 89, "xxx": 1987},
    "test": {"ang": 170, "exc": 299, "fru": 381, "hap": 143, "neu": 384, "sad": 245, "sur": 18, "xxx": 520},
}
# train and val of EmotiW 2016; a tenth of train is carved out as validation.
AFEW = {
    "train": {"Angry": 120, "Disgust": 67, "Fear": 73, "Happy": 135, "Neutral": 130, "Sad": 105, "Surprise": 67},
    "val": {"Angry": 13, "Disgust": 7, "Fear": 8, "Happy": 15, "Neutral": 14, "Sad": 12, "Surprise": 7},
    "test": {"Angry": 64, "Disgust": 40, "Fear": 46, "Happy": 63, "Neutral": 63, "Sad": 61, "Surprise": 46},
}


@pytest.fixture(scope="module")
def meld(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return meld_store(tmp_path_factory.mktemp("meld"))


def entry_of(corpus: str, map_name: str | None = None) -> CorpusEntry:
    entry = load_catalog(CATALOG).corpus(corpus)
    return entry.model_copy(update={"map": map_name}) if map_name else entry


def row_of(corpus: str, samples: list[Sample], map_name: str | None = None) -> Comparison:
    return compare(corpus_stats(corpus, entry_of(corpus, map_name), to_table(samples)))


def texts(item: Comparison, figure: str) -> str:
    """Every reason given for one figure."""
    return " ".join(reason.text for reason in item.reasons if figure in reason.figures)


@needs_meld
def test_the_real_meld_row_is_the_published_one_but_for_the_shortest_clip(meld: FeatureStore) -> None:
    [item] = stats(meld.root, meld.catalog, ["meld"])
    ours, paper = asdict(item.stats.figures), asdict(PUBLISHED["meld"].figures)
    printed = {name: as_printed(name, ours[name]) for name in FIGURES}
    assert printed == {name: as_printed(name, paper[name]) for name in FIGURES} | {"min_seconds": "0.0"}
    assert printed["hours"] == "12:04" and printed["max_seconds"] == "304.9"
    assert item.differs == ("min_seconds",)
    assert item.stats.imbalance_rows == 9988


@needs_meld
def test_the_reason_for_the_shortest_clip_counts_what_the_time_codes_say(meld: FeatureStore) -> None:
    [item] = stats(meld.root, meld.catalog, ["meld"])
    samples = read_samples(meld.root, "meld")
    short = samples.filter(pc.less(samples["duration"], 0.15)).sort_by("duration")
    assert short["sample_id"][0].as_py() == "meld/train/dia338_utt3"
    assert f"{short.num_rows - 1} others are shorter than 0.15 s" in texts(item, "min_seconds")


@needs_meld
def test_the_known_bad_clip_is_counted_but_not_in_the_imbalance(meld: FeatureStore) -> None:
    samples = read_samples(meld.root, "meld")
    position = samples.schema.get_field_index("marks")
    no_marks = pa.array([[]] * samples.num_rows, samples.schema.field("marks").type)
    with_it = corpus_stats("meld", entry_of("meld"), samples.set_column(position, "marks", no_marks))
    assert as_printed("imbalance_std", with_it.figures.imbalance_std) == "1427.4"
    assert with_it.figures.train == 9989


def test_iemocap_six_raw_classes_give_the_published_imbalance() -> None:
    item = row_of("iemocap", counted("iemocap", IEMOCAP), "six")
    assert (item.stats.figures.train, item.stats.figures.test) == (5758, 1622)
    assert as_printed("imbalance_mean", item.stats.figures.imbalance_mean) == "959.7"
    assert as_printed("imbalance_std", item.stats.figures.imbalance_std) == "344.4"
    assert not {"imbalance_mean", "imbalance_std", "classes"} & set(item.differs)
    assert "7433" in texts(item, "test") and "`validation`" in texts(item, "train")


def test_iemocap_under_the_default_map_says_which_map_compares() -> None:
    item = row_of("iemocap", counted("iemocap", IEMOCAP))
    assert item.stats.figures.classes == 7
    assert "set `map: six_lineage`" in texts(item, "train")
    assert "not counted, for want of a target under map 'seven': 4356" in notes(item.stats)


def test_iemocap_promoted_labels_explain_their_own_imbalance() -> None:
    votes = {"native": {"votes": {"F1": ["Happiness"], "E1": ["Happiness"], "E2": ["Sadness"]}}}
    raw = counted("iemocap", IEMOCAP)
    promoted = [replace(s, **votes) if s.label == "xxx" and s.sample_id.endswith("_7") else s for s in raw]
    item = row_of("iemocap", promoted, "six_lineage")
    assert (item.stats.figures.train, item.stats.figures.test) == (5759, 1623)
    assert "5758 raw labels" in texts(item, "imbalance_mean")


def test_afew_validation_is_carved_out_of_train_and_the_published_one_is_our_test() -> None:
    item = row_of("afew", counted("afew", AFEW))
    figures = item.stats.figures
    assert (figures.train + figures.val, figures.test) == (773, 383)
    assert as_printed("imbalance_mean", figures.imbalance_mean) == "110.4"
    assert as_printed("imbalance_std", figures.imbalance_std) == "31.1"
    assert "Val_AFEW is the test part" in texts(item, "test")


def test_afew_lengths_are_unknown_without_media() -> None:
    item = row_of("afew", counted("afew", AFEW))
    assert item.stats.figures.hours is None and as_printed("hours", None) == "-"
    assert "--media" in texts(item, "hours")


def test_lengths_that_no_annotation_gives_come_from_the_media(tmp_path: Path) -> None:
    for name, seconds in (("a", 0.5), ("b", 1.5)):
        write_tone(tmp_path / "root" / f"{name}.wav", seconds)
    samples = [
        Sample(f"afew/train/{name}", "afew", "train", label="Angry", audio_path=f"{name}.wav", video_path=f"{name}.wav")
        for name in ("a", "b", "gone")
    ]
    samples.append(replace(samples[0], sample_id="afew/train/annotated", duration=4.0))
    store = store_of(tmp_path / "store", *samples)
    [item] = stats(store.root, store.catalog, ["afew"], {"afew": tmp_path / "root"})
    figures = item.stats.figures
    assert (figures.min_seconds, figures.max_seconds, figures.mean_seconds) == (0.5, 4.0, 2.0)
    assert item.stats.without_length == 1


def mosei(split: str, name: str, **intensities: float) -> Sample:
    native = dict.fromkeys(("happy", "sad", "anger", "surprise", "disgust", "fear"), 0.0) | intensities
    return Sample(f"mosei/{split}/{name}", "mosei", split, intensities=native, duration=2.0)


def test_mosei_counts_ties_and_rows_without_emotion_and_its_imbalance_counts_every_present_emotion() -> None:
    samples = [
        mosei("train", "one", happy=1.0),
        mosei("train", "two", happy=1.0, sad=0.3),
        mosei("train", "tie", happy=1.0, sad=1.0),
        mosei("train", "zero"),
        mosei("val", "v", fear=2.0),
        mosei("none", "outside", fear=2.0),
    ]
    item = row_of("mosei", samples)
    assert (item.stats.figures.train, item.stats.figures.val, item.stats.figures.test) == (4, 1, 0)
    assert item.stats.figures.imbalance_mean == pytest.approx((3 + 2) / 6)
    assert "not counted, for want of a split: 1" in notes(item.stats)


def test_a_miniature_is_called_one_and_gets_no_other_excuse() -> None:
    item = row_of("meld", counted("meld", {"train": {"joy": 6, "anger": 4}}, duration=1.0))
    assert [reason.figures for reason in item.reasons] == [item.differs]
    assert "10 samples against 13708: a miniature" in item.reasons[0].text


def test_a_difference_without_a_known_reason_says_so() -> None:
    item = row_of("meld", counted("meld", {"train": {"joy": 13000}}, duration=1.0))
    assert "not known" in texts(item, "train") and "merloco labels show meld" in texts(item, "train")


def test_a_corpus_that_the_paper_does_not_have_stands_alone() -> None:
    item = compare(corpus_stats("own", entry_of("meld"), to_table(counted("own", {"train": {"joy": 3}}))))
    assert item.published is None and item.differs == () and item.reasons == ()
    assert stats_table([item]).num_rows == 1


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["neutral", "joy", "fear"]), min_size=1, max_size=40))
def test_imbalance_is_mean_and_population_deviation_over_all_annotated_classes(labels: list[str]) -> None:
    samples = [Sample(f"meld/train/u{i}", "meld", "train", label=label) for i, label in enumerate(labels)]
    figures = corpus_stats("meld", entry_of("meld"), to_table(samples)).figures
    counts = [*Counter(labels).values(), *[0] * (7 - len(set(labels)))]
    mean = sum(counts) / 7
    assert figures.imbalance_mean == pytest.approx(mean)
    assert figures.imbalance_std == pytest.approx((sum((n - mean) ** 2 for n in counts) / 7) ** 0.5)


def test_published_rows_and_reasons_fit_the_shipped_catalog() -> None:
    catalog = load_catalog(CATALOG)
    assert set(PUBLISHED) < set(catalog.corpora)
    for corpus, published in PUBLISHED.items():
        maps = catalog.corpus(corpus).maps
        assert set(maps[published.comparable_map].annotated) == set(published.classes)
        assert published.figures.classes == len(published.classes)
        for reason in published.reasons:
            assert set(reason.figures) <= set(FIGURES) and set(reason.maps or ()) <= set(maps)


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [("hours", 12.0654, "12:04"), ("hours", 0.8, "0:48"), ("max_seconds", 304.94, "304.9"), ("train", 9989, "9989")],
)
def test_figures_are_printed_at_the_precision_of_the_paper(figure: str, value: float, text: str) -> None:
    assert as_printed(figure, value) == text


def test_the_command_prints_both_rows_and_writes_the_same_rows_as_parquet(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    store = store_of(tmp_path / "store", *counted("meld", {"train": {"joy": 6}, "test": {"anger": 2}}, duration=1.5))
    output = tmp_path / "table1.parquet"
    code, out, err = merloco(capsys, store, "stats", "--output", str(output))
    lines = out.splitlines()
    assert code == 0 and "wrote" in err
    assert lines[1].split()[:3] == ["corpus", "row", "hours"]
    assert lines[3].startswith("meld    merloco  0:00          1.5 / 1.5 / 1.5 ")
    assert lines[4].startswith("meld    paper    12:04         0.2 / 304.9 / 3.2 ")
    assert "  differs  all that differ: 8 samples against 13708: a miniature" in out
    table = pq.read_table(output)
    assert table.schema.equals(STATS_SCHEMA)
    assert table["source"].to_pylist() == ["merloco", "paper"] and table["train"].to_pylist() == [6, 9989]


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path, *counted("meld", {"train": {"joy": 6}}, duration=1.5))
    code, out, _ = merloco(capsys, store, "stats", "meld", "--format", "json")
    ours, paper = json.loads(out)
    assert code == 0 and ours["train"] == 6 and "train" in ours["differs"] and paper["imbalance_mean"] == 1426.9


def test_the_command_reads_lengths_from_media_on_request(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    write_tone(tmp_path / "afew" / "a.wav", 1.5)
    sample = Sample("afew/train/a", "afew", "train", label="Angry", audio_path="a.wav", video_status="missing_media")
    store = store_of(tmp_path / "store", sample)
    media = ("stats", "--media", "--root", f"afew={tmp_path / 'afew'}", "--cards", str(tmp_path / "cards"))
    code, out, _ = merloco(capsys, store, *media)
    assert code == 0 and "afew    merloco  0:00          1.5 / 1.5 / 1.5 " in out
    assert "| train | 1 | 1.5 | 1.5 | 1.5 | 1.5 |" in (tmp_path / "cards" / "afew.md").read_text()
    code, out, _ = merloco(capsys, store, "stats")
    assert code == 0 and "afew    merloco  -             - / - / - " in out


def test_nothing_ingested_says_what_to_run(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    code, _, err = merloco(capsys, store, "stats")
    assert code == 1 and "merloco ingest" in err
    code, _, err = merloco(capsys, store, "stats", "mled")
    assert code == 2 and "did you mean 'meld'" in err

"""The samples table: ids that survive a tar, a whole file or none, and no second reading without a change."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.audit import audit_path
from merloco.pipelines.samples.ingest import cached_audit, ingest_corpus
from merloco.pipelines.samples.schema import ARROW_SCHEMA, SAMPLE_ID, Sample, from_table, to_table
from merloco.pipelines.samples.table import ingested, read_samples, samples_path, write_samples
from tests.helpers.meld_release import csv_text, release, row
from tests.helpers.store_files import CATALOG

ENTRY = load_catalog(CATALOG).corpus("meld")


@pytest.mark.parametrize("bad", ["meld/train/dia0.utt1", "meld/dia0", "meld//x", "meld/träin/x", "meld/train/x y"])
def test_ids_that_a_tar_would_split_or_lose_are_refused(bad: str) -> None:
    with pytest.raises(DataError, match="not usable"):
        to_table([Sample(bad, "meld", "train")])


def test_an_id_occurs_once() -> None:
    with pytest.raises(DataError, match="occurs twice"):
        to_table([Sample("a/b/c", "a", "train"), Sample("a/b/c", "a", "test")])


def test_a_split_has_one_of_four_names() -> None:
    with pytest.raises(DataError, match="expected one of train, val, test, none"):
        to_table([Sample("a/b/c", "a", "dev")])


TEXT = st.none() | st.text(max_size=20)


@given(
    ids=st.lists(st.from_regex(SAMPLE_ID, fullmatch=True).filter(lambda s: "\n" not in s), unique=True, max_size=5),
    text=TEXT,
    start=st.none() | st.floats(0, 1e5),
    values=st.none() | st.dictionaries(st.sampled_from(["happy", "sad"]), st.floats(0, 3)),
    native=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none()),
)
def test_samples_survive_the_table(
    ids: list[str], text: str | None, start: float | None, values: object, native: dict
) -> None:
    samples = [Sample(i, "c", "train", text=text, start=start, intensities=values, native=native) for i in ids]
    assert from_table(to_table(samples)) == sorted(samples, key=lambda s: s.sample_id)


def test_the_audit_adds_up(tmp_path: Path) -> None:
    rows = [row(1, 0, 0), row(2, 0, 0), row(3, 0, 1)]
    audit = ingest_corpus("meld", ENTRY, release(tmp_path / "meld", rows), tmp_path / "store")
    assert audit.found == audit.samples + sum(audit.left_out.values()) == 5
    assert audit.samples == audit.usable + sum(audit.dropped.values())
    assert sum(n for split in audit.classes.values() for n in split.values()) == audit.usable


def test_the_audit_reads_back_as_it_was_written(tmp_path: Path) -> None:
    root, store = release(tmp_path / "meld"), tmp_path / "store"
    first = ingest_corpus("meld", ENTRY, root, store)
    again = cached_audit("meld", ENTRY, root, store)
    assert again == first
    assert list(again.classes) == ["train", "val", "test"]
    assert list(again.classes["train"]) == list(ENTRY.maps["seven"].annotated)


def test_a_damaged_audit_is_set_aside_and_written_anew(tmp_path: Path) -> None:
    root, store = release(tmp_path / "meld"), tmp_path / "store"
    first = ingest_corpus("meld", ENTRY, root, store)
    audit_path(store, "meld").write_text("{")
    again = ingest_corpus("meld", ENTRY, root, store)
    assert again.notes == [*first.notes, "meld.audit.json was broken and is set aside as meld.audit.json.broken"]
    assert replace(again, notes=first.notes) == first and cached_audit("meld", ENTRY, root, store) == again
    assert (store / "samples" / "meld.audit.json.broken").read_text() == "{"


def test_clips_behind_a_linked_folder_count_and_links_to_nowhere_do_not(tmp_path: Path) -> None:
    root, store, disk = release(tmp_path / "meld"), tmp_path / "store", tmp_path / "disk"
    disk.mkdir()
    (root / "train_splits").symlink_to(disk)
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    assert ingest_corpus("meld", ENTRY, root, store).media["video"] == {"missing_media": 3}
    (disk / "dia0_utt0.mp4").write_bytes(b"clip")
    assert cached_audit("meld", ENTRY, root, store) is None
    assert ingest_corpus("meld", ENTRY, root, store).media["video"] == {"missing_media": 2, "ok": 1}


def test_a_release_without_a_usable_row_names_the_first_problem(tmp_path: Path) -> None:
    root = release(tmp_path / "meld", [row(1, 0, 0, emotion="")])
    for part in ("dev", "test"):
        (root / f"{part}_sent_emo.csv").unlink()
    with pytest.raises(DataError, match=r"bad_row 1, the first train_sent_emo\.csv:2: Emotion is empty"):
        ingest_corpus("meld", ENTRY, root, tmp_path / "store")


def test_an_unchanged_release_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    root, store = release(tmp_path / "meld"), tmp_path / "store"
    first = ingest_corpus("meld", ENTRY, root, store)
    written = samples_path(store, "meld").stat().st_mtime_ns
    assert ingest_corpus("meld", ENTRY, root, store) == first
    assert samples_path(store, "meld").stat().st_mtime_ns == written
    (root / "train_sent_emo.csv").write_text(csv_text([row(1, 0, 0), row(2, 0, 1)]))
    assert ingest_corpus("meld", ENTRY, root, store).samples == first.samples + 1


def test_a_changed_catalog_entry_is_read_again(tmp_path: Path) -> None:
    root, store = release(tmp_path / "meld"), tmp_path / "store"
    first = ingest_corpus("meld", ENTRY, root, store)
    rules = ENTRY.media_rules.model_copy(update={"known_bad": {"meld/train/dia0_utt0": "broken"}})
    other = ingest_corpus("meld", ENTRY.model_copy(update={"media_rules": rules}), root, store)
    assert other.state != first.state and other.marks == {"known_bad": 1}


def test_unfinished_files_are_no_corpora(tmp_path: Path) -> None:
    ingest_corpus("meld", ENTRY, release(tmp_path / "meld"), tmp_path / "store")
    (tmp_path / "store" / "samples" / ".tmp-0-1-2-afew.parquet").write_bytes(b"half")
    assert ingested(tmp_path / "store") == ["meld"]


def test_a_file_that_is_no_samples_table_says_what_to_run(tmp_path: Path) -> None:
    ingest_corpus("meld", ENTRY, release(tmp_path / "meld"), tmp_path / "store")
    samples_path(tmp_path / "store", "meld").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="merloco ingest meld"):
        read_samples(tmp_path / "store", "meld")
    assert audit_path(tmp_path / "store", "meld").is_file()


INTENSITIES = st.none() | st.dictionaries(st.text(min_size=1, max_size=5), st.floats(allow_nan=False), max_size=3)


@given(st.lists(INTENSITIES, max_size=8))
def test_intensities_are_kept_whichever_version_wrote_them(
    tmp_path_factory: pytest.TempPathFactory, intensities: list[dict[str, float] | None]
) -> None:
    """As pairs on disk, which other tools read, and as the map of older stores."""
    root = tmp_path_factory.mktemp("store")
    samples = [Sample(f"a/b/{i}", "a", "train", intensities=value) for i, value in enumerate(intensities)]
    table = to_table(samples)
    write_samples(root, "a", table)
    assert not pa.types.is_map(pq.read_schema(samples_path(root, "a")).field("intensities").type)
    assert from_table(read_samples(root, "a")) == samples and read_samples(root, "a").schema.equals(ARROW_SCHEMA)
    write_parquet(samples_path(root, "a"), table)
    assert from_table(read_samples(root, "a")) == samples

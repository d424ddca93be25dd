"""What training and test have in common is said beside the score, with the score without it."""

import pyarrow as pa
import pytest

from merloco.features.store import FeatureStore
from merloco.flows.experiments.plan import train_plan
from merloco.flows.experiments.service import execute
from merloco.flows.results import notes
from merloco.pipelines.files.formats import write_parquet
from merloco.pipelines.samples.table import read_samples, samples_path
from tests.helpers.planted_store import planted_catalog, planted_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """MELD says in half of its test rows what its training says, in other letters; one speaker is on both sides."""
    folder = tmp_path_factory.mktemp("shared")
    store = planted_store(folder / "store", planted_catalog(folder), n=120)
    table = read_samples(store.root, "meld")
    splits, texts, speakers = (table[name].to_pylist() for name in ("split", "text", "speaker"))
    test = [i for i, split in enumerate(splits) if split == "test"]
    for i, split in enumerate(splits):
        if split == "train":
            texts[i], speakers[i] = "I told you so, Ann!", "Ann"
    for i in test:
        texts[i] = "Oh my God." if i % 4 else "Yes. Yes."  # too short to be anybody's
    for i in test[: len(test) // 2]:
        texts[i] = "i told you SO ann"
    speakers[test[0]], speakers[test[1]] = "Ann", "Bob"
    for name, values in (("text", texts), ("speaker", speakers)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    write_parquet(samples_path(store.root, "meld"), table)
    return store


def test_counts_and_the_score_without_them(store: FeatureStore) -> None:
    (outcome,) = execute(store, train_plan(["meld"], ["meld", "afew"], "light", ["text"], [0], {"epochs": 3}))
    meld, afew = outcome.results[:2]
    half = sum(split == "test" for split in read_samples(store.root, "meld")["split"].to_pylist()) // 2
    assert meld["shared"]["text"] == half and meld["shared"]["speaker"] == 1 and afew["shared"] == {}
    assert 0 <= meld["shared"]["uar_without_text"] <= 1
    said = [note for note in notes.result_notes([outcome]) if note.startswith("meld: ")]
    assert any(f"{half} of the {meld['n']} test rows say a sentence of 4 words or more" in note for note in said)
    assert any("1 of the" in note and "are of a speaker who is in training too" in note for note in said)
    assert all("without them its UAR is" in note for note in said if "test rows" in note)


def test_of_many_scores_the_note_is_short(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = execute(store, train_plan(["meld"], ["meld"], "light", ["text"], [0], {"epochs": 3}))
    monkeypatch.setattr(notes, "MOST_SCORES", 1)
    said = [note for note in notes.result_notes(outcomes) if "test rows" in note]
    assert len(said) == 2 and not any("UAR" in note for note in said)

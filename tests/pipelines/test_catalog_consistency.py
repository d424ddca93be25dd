"""Values of a catalog that contradict each other or can do nothing are one sentence with its line."""

from pathlib import Path

import pytest

from merloco.features.query.views import view_names
from merloco.features.store import FeatureStore
from merloco.pipelines.catalog.consistency import SQL_VIEWS
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.errors import DataError
from tests.helpers.store_files import CATALOG

TEXT = CATALOG.read_text(encoding="utf-8")
LOCO = "corpora: [iemocap, meld, mosei, afew]"
SPEAKERS = "corpora: [iemocap]\n    maps: {iemocap: four}\n    folds: {by: speaker}"
OF_AFEW = "corpora: [afew]\n    folds: {by: speaker}\n    paper_protocol: true"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seed: 7", "seed: yes", "validation.seed: expected a whole number, found the text 'yes'"),
        ("seed: 7", "seed: true", "seed: expected a whole number, found true"),
        ("seed: 7", "seed: 7.0", "seed: expected a whole number, found 7.0: write 7"),
        ("seed: 7", "seed: '7'", "seed: expected a whole number, found the text '7'"),
        ("seed: 7", "seed: 1:30", "seed: expected a whole number, found the text '1:30'"),
        ("seed: 7", "seed: ~", "seed: expected a whole number, found nothing"),
        ("seed: 7", "seed: -1", "seed: expected 0 or more, found -1"),
        ("fraction: 0.1", "fraction: 1.5", "fraction: expected a number below 1, found 1.5"),
        ("[neutral, happy, sad, surprise,", "[{neutral: happy}, sad, surprise,", "label_order.0: expected"),
        ("standardize: true", "standardize: yes", "standardize: expected true or false, .*: write true"),
        ("standardize: true", "standardize: 1", "standardize: expected true or false, found 1"),
        ("joy: happy", "joy: 1", "labels.joy: expected text, found 1: quote it"),
        ("joy: happy", "joy: true", "labels.joy: expected text, found true: quote it"),
        ("about: MELD's own seven classes", "about: 12", "about: expected text, found 12: quote it"),
        ("trained_on: [meld]", "trained_on: meld", r"trained_on: expected a list, .*: write \[meld\]"),
        ("dropout: 0.5}", "dropout: .nan}", "dropout: expected a finite number, found nan"),
        ("reported: validation", "reported: valid", "reported: expected 'test' or 'validation', found"),
        ("parser: iemocap", "parser: iemocap\n    options: {test_session: 6}", "test_session: expected 5 or less"),
        ("step: 2.0", "step: 5", "a step of 5 s with a window of 4 s"),
        ("window: 4.0, step: 2.0", "step: 2.0", "a step of 2 s with no window"),
        ("{encoder: minilm}", "{encoder: minilm, window: 4}", "views.minilm.window: text has none"),
        ("{encoder: prosody,", "{encoder: prosody, fps: 3,", "views.prosody.fps: audio has none"),
        ("{encoder: prosody,", "{encoder: prosody, faceless_frames: drop,", "faceless_frames: audio has none"),
        ("{encoder: face_hog, window: 4.0, step: 2.0", "{encoder: face_hog, window: 0.05", "less than one picture"),
        ("text: minilm}", "text: prosody}", "feature_sets.light.text: 'prosody' is no text view"),
        ("light: {audio: prosody, video: face_hog, text: minilm}", "light: {}", "feature_sets.light: no view"),
        ("min_seconds: 0.1", "min_seconds: 100", "min_seconds 100 is not below max_seconds 28"),
        ("min_seconds: 0.1", "min_seconds: 0", "min_seconds: expected a number above 0"),
        ("meld/train/dia125_utt3:", "dia125_utt3:", "'dia125_utt3' is no sample id: expected meld/PART/NAME"),
        ("dialogue, fraction: 0.1", "dialogue, size: 5", "size 5 by dialogue: .* a size needs by: utterance"),
        ("by: dialogue, fraction: 0.1", "by: utterance, fraction: 0.1, size: 5", "a size and a fraction"),
        ("hub_id: j-hartmann/emotion-english-distilroberta-base", "revision: main", "revision 'main' of no model"),
        ("multi: {presence: 0.0", "multi: {presence: -1", "presence: expected 0 or more"),
        (LOCO, "corpora: [iemocap]", "experiments.loco.corpora: iemocap alone: loco needs two corpora or more"),
        (LOCO, "corpora: [iemocap, meld, iemocap]", "experiments.loco.corpora: 'iemocap' is there twice"),
        (LOCO, "corpora: [iemocap, melt]", r"experiments.loco.corpora: 'melt': did you mean 'meld'\?"),
        ("seeds: [0]", "seeds: [0, 0]", "experiments.grid.seeds: 0 is there twice"),
        ("seeds: [0]", "seeds: [-1]", "experiments.grid.seeds: -1: expected 0 or more"),
        ("seeds: [0]", "seeds: []", "experiments.grid.seeds: expected one or more, found an empty list"),
        ("seeds: [0]", "multi_label: [mosei]", "protocol grid trains with one label"),
        ("multi_label: [mosei]", "multi_label: [meld]", "map 'seven' of meld has no `multi` section"),
        ("seeds: [0]", "training: {gated_dim: 64}", "experiments.grid.grid.gated_dim: stands under `training` too"),
        ("gated_dim: [64, 128]", "gated_dim: []", "gated_dim: an empty list leaves no run"),
        ("gated_dim: [64, 128]", "gated_dim: [64, 64]", "gated_dim: 64 is there twice"),
        ("gated_dim: [64, 128]", "gated_dim: [64, wide]", "gated_dim: expected a whole number, found the text 'wide'"),
        ("seeds: [0]", "training: {epochs: 0}", "experiments.grid.training.epochs: expected a number above 0, found 0"),
        ("mosei, afew]\n    seeds: [0]", "mosei]\n    paper_protocol: true", "no corpus of it has `reported: v"),
        ("folds: {by: speaker}", "folds: {by: random}", "folds: by: random needs k, the number of folds"),
        ("folds: {by: speaker}", "folds: {by: speaker, stratified: true}", "folds: stratified needs k"),
        ("folds: {by: speaker}", "folds: {by: speaker, k: 1}", "k: expected 2 or more, found 1"),
        ("folds: {by: speaker}", "folds: {by: speakr}", "by: .*'speakr'"),
        ("    folds: {by: speaker}\n", "", "`folds` and `protocol: folds` come together"),
        ("seeds: [0]\n    grid", "seeds: [0]\n    folds: {by: session}\n    grid", "`folds` and `protocol"),
        (SPEAKERS, OF_AFEW, "paper_protocol: .*expected one of the two"),
        ("  minilm: {encoder", "  labels: {encoder", "views: 'labels' is what SQL calls something else"),
        ("  minilm: {encoder", "  MiniLM: {encoder: minilm}\n  minilm: {encoder", "but for capital letters"),
        ("store: ${MERLOCO_STORE:-store}", "store: ''", "store: expected some text"),
        ("classes: [neutral, happy, sad, angry]", "classes: [neutral, happy, sad, angry, sad]", "expected each once"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    path = tmp_path / "catalog.yaml"
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=rf"catalog\.yaml:\d+: .*({sentence})") as error:
        load_catalog(path)
    assert "\n" not in str(error.value)


def test_the_line_is_that_of_the_value(tmp_path: Path) -> None:
    lines = TEXT.splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.startswith("  face_hog: {encoder"))
    (tmp_path / "c.yaml").write_text(TEXT.replace("min_face_share: 0.2", "min_face_share: yes"), encoding="utf-8")
    with pytest.raises(DataError, match=rf"c\.yaml:{number}: views.face_hog.min_face_share: expected a number"):
        load_catalog(tmp_path / "c.yaml")


def test_a_date_and_a_no_are_text_where_text_is_wanted(tmp_path: Path) -> None:
    text = TEXT.replace("about: MELD's own seven classes", "about: 2024-01-01").replace(
        "joy: happy", "no: happy, joy: sad"
    )
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    label_map = load_catalog(tmp_path / "c.yaml").corpus("meld").maps["seven"]
    assert (label_map.about, label_map.labels["no"]) == ("2024-01-01", "happy")


def test_the_names_that_sql_has_already_are_known(tmp_path: Path) -> None:
    catalog = load_catalog(CATALOG)
    store = FeatureStore.open(tmp_path, catalog, create=True)
    assert set(SQL_VIEWS) == set(view_names(store)) - set(catalog.views)


def test_a_map_that_drops_everything_is_refused(tmp_path: Path) -> None:
    start, end = TEXT.index("{Neutral: neutral"), TEXT.index("Angry: angry}")
    text = f"{TEXT[:start]}{{Angry: drop}}{TEXT[end:].removeprefix('Angry: angry}')}"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"corpora.afew.maps.seven: no label maps to a class: every sample"):
        load_catalog(tmp_path / "c.yaml")

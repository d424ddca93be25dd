"""The paper's protocols: which runs they ask for, which rows a run may see."""

from dataclasses import replace

import numpy as np
import pytest

from merloco.models.errors import ModelError
from merloco.models.protocols import (
    Cell,
    Fold,
    ablation_cells,
    cross_corpus_cells,
    grid_cells,
    loco_cells,
    run_spec,
    single_cells,
)
from tests.helpers.training import CONFIG, planted

FOUR = ("iemocap", "mosei", "meld", "afew")


def test_loco_leaves_each_corpus_out_once_per_feature_set_and_scores_its_training_corpora_too() -> None:
    cells = loco_cells(FOUR, ["one", "two"])
    assert [(c.feature_set, c.fold.test) for c in cells] == [(f, (x,)) for f in ("one", "two") for x in FOUR]
    for cell in cells:
        assert set(cell.fold.train) == set(cell.fold.extra_tests) == set(FOUR) - set(cell.fold.test)


def test_cross_corpus_trains_on_each_alone_and_tests_on_all() -> None:
    cells = cross_corpus_cells(FOUR, ["light"])
    assert [c.fold for c in cells] == [Fold((x,), FOUR) for x in FOUR]


def test_single_has_both_losses_and_several_labels_only_where_asked() -> None:
    cells = single_cells(FOUR, ["light"], ["mosei"])
    assert [dict(c.overrides)["loss"] for c in cells] == ["plain", "balanced"] * 4
    assert {c.fold.test[0] for c in cells if c.task == "multi"} == {"mosei"}


def test_an_ablation_nullifies_the_whole_model_and_excludes_each_modality() -> None:
    cells = ablation_cells(["meld"], {"light": ("audio", "video", "text")})
    assert cells[0].nullify and cells[0].modalities == ("audio", "video", "text")
    assert [c.modalities for c in cells[1:]] == [("video", "text"), ("audio", "text"), ("audio", "video")]
    assert not any(c.nullify for c in cells[1:])


def test_a_grid_combines_every_value() -> None:
    cells = grid_cells(["a", "b"], ["light"], {"learning_rate": [1e-4, 1e-3], "gated_dim": [32, 64, 128]})
    assert len({c.overrides for c in cells}) == 6 and all(c.fold == Fold(("a", "b"), ("a", "b")) for c in cells)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: loco_cells(["a"], ["light"]), "two corpora or more, got a"),
        (lambda: cross_corpus_cells(["a"], ["light"]), "two corpora or more, got a"),
        (lambda: ablation_cells(["a"], {"light": ("text",)}), "two modalities or more: 'light' has text"),
        (lambda: grid_cells(["a"], ["light"], {}), "a grid needs axes"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(make: object, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        make()


def test_the_paper_protocol_validates_on_the_reported_rows_and_trains_on_what_would_validate() -> None:
    data = planted()
    fold = Fold(("a", "b"), ("a",))
    ours, theirs = (run_spec(data, fold, CONFIG, 0, selected) for selected in ((), ("a",)))
    assert set(data.split[ours.val_rows]) == {"val"} and set(data.split[ours.train_rows]) == {"train"}
    of_a = data.corpus[theirs.val_rows] == "a"
    assert set(data.split[theirs.val_rows[of_a]]) == {"test"} and set(data.split[theirs.val_rows[~of_a]]) == {"val"}
    assert set(theirs.train_rows) - set(ours.train_rows) == set(ours.val_rows[data.corpus[ours.val_rows] == "a"])


def test_a_run_of_several_labels_also_takes_rows_without_a_single_one() -> None:
    data = planted()
    label = np.where(np.arange(len(data.label)) % 5 == 0, -1, data.label)
    holes = replace(data, label=label)
    single, multi = (run_spec(holes, Fold(("a",), ("a",)), replace(CONFIG, task=t), 0) for t in ("single", "multi"))
    assert set(single.train_rows) < set(multi.train_rows)


def test_cells_are_values() -> None:
    assert len({Cell(Fold(("a",), ("b",)), "light"), Cell(Fold(("a",), ("b",)), "light")}) == 1

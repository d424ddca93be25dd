"""Several views of one modality are its features side by side, each with a mask of its own."""

from dataclasses import replace

import numpy as np
import pytest

from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.prediction import contributions, predict
from merloco.models.fusion.trainer import STACK, train_run
from merloco.models.protocols import Fold, ablation_cells, run_spec
from tests.helpers.training import CONFIG, DIMS, planted

FOLD = Fold(("a", "b"), ("c",))
VIEWS = ("spectral", "voice", "video", "text")
SHORT = replace(CONFIG, epochs=4, modalities=VIEWS)


def split_audio(data: Dataset) -> Dataset:
    """The same rows with the audio's first two columns as one view and the others as another."""
    audio, there = data.features["audio"], data.present["audio"]
    others = {m: data.features[m] for m in ("video", "text")}
    return replace(
        data,
        features={"spectral": audio[:, :2], "voice": audio[:, 2:], **others},
        present={"spectral": there.copy(), "voice": there.copy(), **{m: data.present[m] for m in others}},
        modality_of={"spectral": "audio", "voice": "audio"},
    )


@pytest.mark.parametrize("most", [1, 10], ids=["alone", "as a stack"])
def test_two_complete_views_train_as_their_concatenation(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setitem(STACK, "cpu", most)
    whole = planted(signal=("audio",))
    parts = split_audio(whole)
    one = train_run(whole, run_spec(whole, FOLD, replace(SHORT, modalities=tuple(DIMS)), 0))
    two = train_run(parts, run_spec(parts, FOLD, SHORT, 0))
    assert set(one.weights) == set(two.weights)
    for name, weight in one.weights.items():
        assert np.array_equal(weight, two.weights[name]), name
    rows = np.arange(50)
    assert np.array_equal(predict(one, whole, rows), predict(two, parts, rows))


def test_a_row_without_one_view_keeps_the_other() -> None:
    whole = planted(signal=("audio",))
    without = np.arange(len(whole.label)) % 3 == 0
    parts = split_audio(whole)
    parts.present["voice"][without] = False
    parts.features["voice"][without] = 1e6  # a value behind a mask counts nowhere
    result = train_run(parts, run_spec(parts, FOLD, SHORT, 0))
    known = parts.features["voice"][np.intersect1d(result.spec.train_rows, np.flatnonzero(~without))]
    assert np.allclose(result.weights["scale.audio.mean"][2:], known.mean(axis=0), atol=1e-5)
    rows = np.flatnonzero(without)
    mean = split_audio(whole)
    mean.features["voice"] = np.broadcast_to(result.weights["scale.audio.mean"][2:], mean.features["voice"].shape)
    assert np.allclose(predict(result, parts, rows), predict(result, mean, rows), atol=1e-5)
    silent = replace(parts, features={**parts.features, "spectral": np.zeros_like(parts.features["spectral"])})
    assert not np.allclose(predict(result, parts, rows), predict(result, silent, rows), atol=1e-3)


def test_a_view_is_left_out_and_nullified_by_itself() -> None:
    data = split_audio(planted(signal=("audio",)))
    result = train_run(data, run_spec(data, FOLD, SHORT, 0))
    rows = np.arange(40)
    whole = predict(result, data, rows)
    lacking = replace(data, present={**data.present, "voice": np.zeros(len(data.label), bool)})
    assert np.array_equal(predict(result, data, rows, leave_out=("voice",)), predict(result, lacking, rows))
    # The gate knows that there is sound as long as one of its views is there.
    assert np.array_equal(predict(result, data, rows, nullify=("voice",)), predict(result, lacking, rows))
    added = contributions(result, data, rows, whole, whole.argmax(axis=1))
    assert added.shape == (40, 4) and np.isfinite(added).all()


def test_an_ablation_leaves_out_each_view() -> None:
    cells = ablation_cells(["a"], {"two": VIEWS})
    assert [cell.modalities for cell in cells] == [VIEWS, *(tuple(v for v in VIEWS if v != out) for out in VIEWS)]

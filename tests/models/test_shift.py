"""Methods against corpus shift: each has a property that only it has."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from merloco.models.errors import ModelError
from merloco.models.fusion.dataset import Dataset
from merloco.models.fusion.losses import FusionLoss, TargetLoss, make_loss
from merloco.models.fusion.prediction import build_network, predict
from merloco.models.fusion.run_state import RunState
from merloco.models.fusion.shift.alignment import Alignment, coral_loss
from merloco.models.fusion.shift.augmentation import Augmentation
from merloco.models.fusion.shift.transfer import best_epoch
from merloco.models.fusion.spec import RunResult, TrainConfig
from merloco.models.fusion.stacked import StackedFusion
from merloco.models.fusion.table import FeatureTable, feature_scales, standardized
from merloco.models.fusion.trainer import STACK, train_run, train_runs
from merloco.models.metrics.scores import masked_prediction, score
from merloco.models.protocols import Fold, run_spec
from tests.helpers.training import CONFIG, DIMS, planted

FOLD = Fold(("a", "b"), ("c",))
SHORT = replace(CONFIG, epochs=6, dropout=0.1)
METHODS: list[dict[str, Any]] = [
    {"standardize_by": "corpus"},
    {"standardize_by": "corpus", "transductive": True},
    {"sampling": "corpus"},
    {"sampling": "corpus_class"},
    {"modality_dropout": 0.3},
    {"mixup": 0.4},
    {"coral": 1.0},
    {"adversarial": 0.1},
    {"label_smoothing": 0.1},
    {"mask_unannotated": True},
    {"balance": "corpus"},
    {"selection": "pooled"},
    {"selection": "transfer"},
    {"mixup": 0.4, "modality_dropout": 0.2, "adversarial": 0.1, "coral": 0.5, "label_smoothing": 0.1},
]


def name_of(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def trained(data: Dataset, config: TrainConfig, seed: int = 0, fold: Fold = FOLD) -> RunResult:
    return train_run(data, run_spec(data, fold, config, seed))


def shifted(data: Dataset, corpus: str, scale: float = 3.0, by: float = 20.0) -> Dataset:
    """The same rows with the features of one corpus scaled and moved, as another microphone or camera would."""
    here = (data.corpus == corpus)[:, None]
    features = {m: np.where(here, scale * f + by, f).astype(np.float32) for m, f in data.features.items()}
    return replace(data, features=features)


def uar(data: Dataset, result: RunResult, corpus: str = "c") -> float:
    rows = data.rows((corpus,), "test")
    prediction = masked_prediction(predict(result, data, rows), data.mask[rows][0])
    return score(data.label[rows], prediction, data.classes, data.mask[rows][0]).uar


@pytest.mark.parametrize("settings", METHODS, ids=name_of)
def test_every_method_still_learns_and_is_repeatable(settings: dict[str, Any]) -> None:
    data = planted()
    config = replace(CONFIG, epochs=25, patience=8, **settings)
    one, again = trained(data, config), trained(data, config)
    assert all(np.array_equal(one.weights[name], again.weights[name]) for name in one.weights)
    assert uar(data, one) > 0.8
    plain = trained(data, replace(CONFIG, epochs=25, patience=8))
    assert "selection" in settings or any(
        not np.array_equal(one.weights[name], plain.weights[name]) for name in plain.weights
    )


@pytest.mark.parametrize("settings", METHODS, ids=name_of)
def test_a_stack_trains_as_its_runs_alone(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    data = planted(300)
    specs = [run_spec(data, FOLD, replace(SHORT, **settings), seed) for seed in (0, 1)]
    alone = [train_run(data, spec) for spec in specs]
    monkeypatch.setitem(STACK, "cpu", 10)
    together = sorted(train_runs([(data, spec) for spec in specs]), key=lambda result: result.position)
    for one, other in zip(alone, together, strict=True):
        for name, weight in one.weights.items():
            assert np.allclose(weight, other.weights[name], atol=1e-4), name


def test_the_default_settings_are_what_was_before() -> None:
    data = planted(90)
    spec = run_spec(data, FOLD, CONFIG, 0)
    assert isinstance(make_loss([(data, spec)], ["a", "b", "c"], "cpu"), FusionLoss)
    losses = FusionLoss([(data, spec)], "cpu"), TargetLoss([(data, spec)], ["a", "b", "c"], "cpu")
    table = FeatureTable([data], CONFIG, "cpu")
    rows = torch.from_numpy(spec.train_rows[:16])[None]
    logits = torch.randn(1, 16, 3)
    plain, general = (loss(logits, counts=torch.ones(1, 16), **table.truth(rows)) for loss in losses)
    assert torch.allclose(plain, general, atol=1e-6)


def test_a_shifted_corpus_is_repaired_by_its_own_scale() -> None:
    """A corpus that is scaled and moved: useless with everybody's scale, as good as ever with its own."""
    data = shifted(planted(signal=("text", "audio")), "c")
    usual = uar(data, trained(data, CONFIG))
    repaired = uar(data, trained(data, replace(CONFIG, standardize_by="corpus", transductive=True)))
    assert usual < 0.6 and repaired > 0.9
    within = shifted(planted(signal=("text", "audio")), "a")
    assert uar(within, trained(within, replace(CONFIG, standardize_by="corpus")), "a") > 0.9


def test_scales_by_corpus_take_training_rows_alone_unless_transductive() -> None:
    data = shifted(planted(), "c")
    spec = run_spec(data, FOLD, replace(CONFIG, standardize_by="corpus"), 0)
    scales = feature_scales(data, spec)
    assert {name for name in scales if name.startswith("scale.text.mean")} == {
        "scale.text.mean", "scale.text.mean.a", "scale.text.mean.b"
    }  # fmt: skip
    own = data.features["text"][spec.train_rows][data.corpus[spec.train_rows] == "a"]
    assert np.allclose(scales["scale.text.mean.a"], own.mean(axis=0), atol=1e-5)
    open_ = feature_scales(data, replace(spec, config=replace(spec.config, transductive=True)))
    assert np.allclose(open_["scale.text.mean.c"], data.features["text"][data.corpus == "c"].mean(axis=0), atol=1e-4)


def test_a_corpus_without_a_modality_has_no_scale_of_its_own() -> None:
    data = planted()
    lacking = replace(data, present={**data.present, "video": data.corpus != "b"})
    config = replace(CONFIG, standardize_by="corpus", epochs=3)
    assert "scale.video.mean.b" not in feature_scales(lacking, run_spec(lacking, FOLD, config, 0))
    assert np.isfinite(uar(lacking, trained(lacking, config)))


def test_sampling_shows_corpora_and_their_classes_equally_often() -> None:
    data = planted(900)
    keep = (data.corpus != "b") | (np.arange(900) % 5 == 0)
    rows = np.flatnonzero(keep & (data.split == "train") & (data.corpus != "c"))
    spec = replace(run_spec(data, FOLD, CONFIG, 0), train_rows=rows)

    def drawn(sampling: str) -> np.ndarray:
        state = RunState(0, data, replace(spec, config=replace(CONFIG, sampling=sampling)), 0, "cpu")
        seen = []
        for _ in range(30):
            seen.append(state.batches[state.counts > 0].numpy())
            state._begin_epoch()
        return np.concatenate(seen)

    assert np.mean(data.corpus[drawn("none")] == "b") < 0.2
    assert np.mean(data.corpus[drawn("corpus")] == "b") == pytest.approx(0.5, abs=0.03)
    balanced = drawn("corpus_class")
    shares = [
        np.mean((data.corpus[balanced] == corpus) & (data.label[balanced] == label))
        for corpus in "ab"
        for label in range(3)
    ]
    assert np.allclose(shares, 1 / 6, atol=0.02)


def test_modality_dropout_takes_its_share_and_never_all() -> None:
    features = {m: torch.ones(2, 400, width) for m, width in DIMS.items()}
    present = {m: torch.rand(2, 400, generator=torch.Generator().manual_seed(i)) < 0.8 for i, m in enumerate(DIMS)}
    there = torch.stack(list(present.values())).any(dim=0)
    changed, left, _ = Augmentation([0, 1], replace(CONFIG, modality_dropout=0.5))(features, present, {})
    assert left is not None and torch.equal(torch.stack(list(left.values())).any(dim=0), there)
    for modality in DIMS:
        assert not (left[modality] & ~present[modality]).any()
        assert torch.equal(changed[modality][..., 0].bool(), left[modality])
        assert 0.3 < float(left[modality].sum() / present[modality].sum()) < 0.75


def test_mixup_mixes_rows_of_two_corpora_and_their_labels() -> None:
    data = planted(64)
    table = FeatureTable([data], CONFIG, "cpu")
    rows = torch.arange(64)[None]
    features = {m: table.features[m][rows] for m in DIMS}
    truth = table.truth(rows)
    mixed, _, both = Augmentation([0], replace(CONFIG, mixup=0.5))(features, None, truth)
    share = both["share"][0]
    own = (both["partner_corpus"] == truth["corpus"])[0]
    assert (share[own] == 1).all() and ((share[~own] >= 0.5) & (share[~own] < 1)).all() and (~own).sum() > 20
    text = features["text"][0]
    partner = torch.stack([(text == row).all(dim=1).nonzero()[0, 0] for row in _partner(text, mixed["text"][0], share)])
    assert torch.equal(data_labels(data)[partner[~own]], both["partner_label"][0][~own])


def _partner(own: torch.Tensor, mixed: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The rows with which rows were mixed; those that were not mixed themselves."""
    other = torch.where(share < 1, (mixed - share * own) / (1 - share).clamp(min=1e-6), own)
    nearest = torch.cdist(other, own).argmin(dim=1)
    return own[nearest]


def data_labels(data: Dataset) -> torch.Tensor:
    return torch.from_numpy(data.label)


def _hidden(data: Dataset, result: RunResult) -> tuple[torch.Tensor, torch.Tensor]:
    """What is in front of the classifier for the training rows, and their corpora."""
    network = build_network(data, result.spec.config)
    weights = {k: torch.from_numpy(v) for k, v in result.weights.items() if not k.startswith("scale.")}
    network.load_state_dict(weights)
    rows = result.spec.train_rows
    scaled = {
        m: torch.from_numpy(standardized(result.weights, m, data.features[m][rows], data.corpus[rows])) for m in DIMS
    }
    with torch.no_grad():
        network.eval()(scaled, None)
    return network.representation, torch.from_numpy((data.corpus[rows] == "b").astype(np.int64))


def test_corals_distance_of_covariances_falls() -> None:
    data = shifted(planted(signal=("text", "audio")), "b", scale=2.0, by=0.0)
    config = replace(CONFIG, epochs=15, patience=15)

    def distance(result: RunResult) -> float:
        hidden, corpus = _hidden(data, result)
        hidden = hidden / hidden.std()  # not by becoming small
        return float(coral_loss(hidden[None], corpus[None], torch.ones(1, len(hidden)), 2))

    assert distance(trained(data, replace(config, coral=100.0))) < 0.7 * distance(trained(data, config))


def test_coral_is_what_its_source_says() -> None:
    hidden, corpus = torch.randn(1, 50, 4), (torch.arange(50) % 2)[None]
    covariances = [torch.cov(hidden[0][corpus[0] == c].T) for c in (0, 1)]
    expected = (covariances[0] - covariances[1]).square().sum() / (4 * 4**2)
    assert torch.allclose(coral_loss(hidden, corpus, torch.ones(1, 50), 2)[0], expected, atol=1e-6)


def test_against_the_adversary_a_corpus_is_told_by_chance_alone() -> None:
    data = shifted(planted(signal=("text",)), "b", scale=1.0, by=2.0)
    config = replace(CONFIG, epochs=60, patience=60, selection="last", learning_rate=1e-3)

    def told_apart(result: RunResult) -> float:
        """Share of rows whose representation is nearer to the mean of their own corpus; chance is a half."""
        hidden, corpus = _hidden(data, result)
        hidden = hidden / (hidden.std(0) + 1e-6)
        means = torch.stack([hidden[corpus == c].mean(0) for c in (0, 1)])
        return float((torch.cdist(hidden, means).argmin(1) == corpus).float().mean())

    usual, against = trained(data, config), trained(data, replace(config, adversarial=0.1))
    assert told_apart(usual) > 0.8 and told_apart(against) < 0.65
    assert max(row["val_uar"] for row in against.history) > 0.85, "it learned the emotions all the same"


def test_the_adversarys_gradient_arrives_reversed() -> None:
    hidden = torch.randn(1, 20, 6, requires_grad=True)
    corpus = (torch.arange(20) % 2)[None]
    alignment = Alignment([0], replace(CONFIG, adversarial=0.5), 2, "cpu")
    alignment.prepare(6)
    (slope,) = torch.autograd.grad(alignment(hidden, corpus, torch.ones(1, 20)).sum(), hidden)
    loss = torch.nn.functional.cross_entropy(alignment.corpus_logits(hidden)[0], corpus[0])
    (own,) = torch.autograd.grad(loss, hidden)
    assert torch.allclose(slope, -0.5 * own, atol=1e-7)


def test_a_network_without_a_representation_is_one_sentence() -> None:
    data = planted(90)
    with pytest.raises(ModelError, match="fusion 'late' has no representation in front of its classifier"):
        trained(data, replace(SHORT, fusion="late", coral=1.0))


@pytest.mark.parametrize("fusion", ["concat_mlp", "attention", "lmf"])
def test_other_networks_align_as_well(fusion: str) -> None:
    data = planted(300)
    result = trained(data, replace(CONFIG, fusion=fusion, coral=1.0, adversarial=0.1, epochs=20))
    assert max(row["val_uar"] for row in result.history) > 0.8


def test_a_masked_softmax_teaches_nothing_of_what_a_corpus_does_not_annotate() -> None:
    data = planted(60)
    spec = run_spec(data, Fold(("c",), ("a",)), replace(CONFIG, mask_unannotated=True), 0)
    table = FeatureTable([data], CONFIG, "cpu")
    rows = torch.from_numpy(spec.train_rows)[None]
    logits = torch.randn(1, rows.shape[1], 3, requires_grad=True)
    loss = make_loss([(data, spec)], table.corpora, "cpu")(
        logits, counts=torch.ones_like(rows).float(), **table.truth(rows)
    )
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert not slope[..., 0].any() and slope[..., 1].any()


def test_classes_are_balanced_within_each_corpus() -> None:
    data = planted(300)
    spec = run_spec(data, Fold(("a", "c"), ("b",)), replace(CONFIG, balance="corpus"), 0)
    (weights,) = TargetLoss([(data, spec)], ["a", "b", "c"], "cpu").weights.numpy()
    for number, corpus in enumerate("abc"):
        own = data.label[spec.train_rows][data.corpus[spec.train_rows] == corpus]
        counts = np.bincount(own, minlength=3)
        per_class = weights[number] * counts
        there = counts > 0
        if there.any():
            assert np.allclose(per_class[there], per_class[there][0], rtol=1e-5) and not weights[number][~there].any()
            assert per_class.sum() == pytest.approx(len(own), rel=1e-5)


def test_smoothing_spreads_over_what_the_corpus_annotates() -> None:
    data = planted(60)
    spec = run_spec(data, Fold(("c",), ("a",)), replace(CONFIG, label_smoothing=0.2, loss="plain"), 0)
    table = FeatureTable([data], CONFIG, "cpu")
    rows = torch.from_numpy(spec.train_rows[:1])[None]
    loss = TargetLoss([(data, spec)], table.corpora, "cpu")
    (truth,) = loss._weighted(**table.truth(rows))[0].tolist()
    assert truth[0] == 0 and sorted(truth[1:]) == pytest.approx([0.1, 0.9], abs=1e-6)


def test_rows_of_several_labels_train_by_their_shares() -> None:
    data = planted(120)
    several = np.flatnonzero((data.corpus == "b") & (data.split == "train"))[:10]
    data.label[several], data.target[several] = -1, np.array([1.0, 0.5, 0.0], np.float32)
    plain, soft = (run_spec(data, FOLD, replace(SHORT, soft_targets=s), 0) for s in (False, True))
    assert not np.isin(several, plain.train_rows).any() and np.isin(several, soft.train_rows).all()
    assert np.array_equal(plain.val_rows, soft.val_rows)
    table = FeatureTable([data], CONFIG, "cpu")
    loss = TargetLoss([(data, replace(soft, config=replace(soft.config, loss="plain")))], table.corpora, "cpu")
    (shares,) = loss._weighted(**table.truth(torch.from_numpy(several[:1])[None]))[0].tolist()
    assert shares == pytest.approx([2 / 3, 1 / 3, 0])
    assert np.isfinite(train_run(data, soft).history[-1]["loss"])


def test_methods_of_single_labels_are_refused_for_several_at_once() -> None:
    data = planted(90)
    with pytest.raises(ModelError, match="label_smoothing and mixup: expected a run of single labels"):
        trained(data, replace(SHORT, task="multi", label_smoothing=0.1, mixup=0.2))


def test_the_epoch_that_transfers_best_is_the_mean_of_the_left_out_corpora() -> None:
    assert best_epoch([[0.1, 0.5, 0.4], [0.3, 0.2]]) == 2
    data = planted(300)
    result = trained(data, replace(CONFIG, selection="transfer", epochs=12, patience=12))
    assert result.best_epoch == len(result.history) == result.spec.config.epochs <= 12
    with pytest.raises(ModelError, match="selection transfer needs two training corpora"):
        trained(data, replace(SHORT, selection="transfer"), fold=Fold(("a",), ("c",)))


def test_pooled_selection_scores_all_rows_together() -> None:
    data = planted(300)
    pooled, by_corpus = (trained(data, replace(SHORT, selection=name)) for name in ("pooled", "corpora"))
    assert [row["val_uar"] for row in pooled.history] != [row["val_uar"] for row in by_corpus.history]


def test_stacks_hold_runs_of_the_same_methods_alone() -> None:
    networks = StackedFusion([build_network(planted(30), CONFIG, seed) for seed in (0, 1)], "cpu")
    assert networks.hidden is None and networks.hidden_width == CONFIG.gated_dim

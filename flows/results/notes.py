"""The sentences below tables of scores: what a reader has to know of them."""

from __future__ import annotations

from collections.abc import Sequence

from merloco.flows.experiments.overlaps import WORDS
from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.scores import Score, scores_of, tested_scores
from merloco.flows.results.text import number
from merloco.models.metrics.intervals import resampling_sentence
from merloco.models.metrics.statistics import mean_std

MIN_VALIDATION_ROWS = 50
"""Fewer than this choose the weights much by chance: 1 of 50 is 2 points of accuracy."""
MOST_SCORES = 8
"""Of more scores than this, what they are without the rows that training has too is not said."""
MOST_FOLDS = 5
"""More folds than this are counted, not named."""
MULTI_LABEL = (
    "wAcc: mean over the classes of the mean recall of present and absent; "
    "F1, accuracy: mean overlap of the true and the predicted set (Dice, Jaccard)."
)


def result_notes(outcomes: Sequence[RunSummary], show_leaks: bool = False) -> list[str]:
    """Absent classes, missing modalities, leaks, collapsed runs, seeds, what is scored."""
    scores = scores_of(outcomes)
    sentences = []
    absent: dict[tuple[str, str], list[str]] = {}
    for s in scores:
        if names := ", ".join(name for name, count in s.first["support"].items() if not count):
            absent.setdefault((s.corpus, names), []).extend([s.cell.fold.name] if s.cell.fold.name else [])
    for (corpus, names), folds in absent.items():
        sentences.append(f"{corpus}{_in_folds(folds)}: no test row of {names}; left out of its UAR")
    missing = {(o.cell.fold.train, o.cell.fold.suffix, o.missing_modalities) for o in outcomes if o.missing_modalities}
    for train, fold, without in sorted(missing):
        them = "them" if len(without) > 1 else "it"
        trained = f"{', '.join(train)}{fold}"
        sentences.append(f"{trained}: no training row has {' or '.join(without)}; trained without {them}")
    validated = [(o.cell.fold, o.validated_on) for o in outcomes if o.validated_on is not None]
    few = {f"{', '.join(fold.train)}{fold.suffix}": n for fold, n in validated if n < MIN_VALIDATION_ROWS}
    if few:
        counts = "; ".join(f"{trained} ({n})" for trained, n in list(few.items())[:MOST_FOLDS])
        counts += f" and {len(few) - MOST_FOLDS} more" if len(few) > MOST_FOLDS else ""
        rows = f"fewer than {MIN_VALIDATION_ROWS} validation rows"
        sentences.append(f"{rows} chose the weights, much by chance: {counts}")
    for corpus in sorted({corpus for outcome in outcomes for corpus in outcome.leaks}):
        shown = "shown, not averaged" if show_leaks else "-; --show-leaks shows it"
        sentences.append(f"{corpus}: leak, an encoder of a feature set here was trained on it ({shown})")
    sentences += [sentence for score in scores for sentence in _collapsed(score)]
    sentences += _shared(tested_scores(outcomes), show_leaks)
    sentences += [sentence for score in tested_scores(outcomes) if (sentence := _loses(score, show_leaks))]
    seeds = len({outcome.seed for outcome in outcomes})
    averaged = f", mean ± STD over {seeds} seeds" if seeds > 1 else ""
    sentences.append(f"\nScores in %{averaged}, on the classes that the tested corpus annotates.")
    if any("wacc" in score.first for score in scores):
        sentences.append(MULTI_LABEL)
    return sentences


def _in_folds(folds: Sequence[str]) -> str:
    """Behind the name of a corpus: which of its folds, the first of many."""
    distinct = list(dict.fromkeys(folds))
    more = f" and {len(distinct) - MOST_FOLDS} more" if len(distinct) > MOST_FOLDS else ""
    return f", fold{'s' if len(distinct) > 1 else ''} {', '.join(distinct[:MOST_FOLDS])}{more}" if distinct else ""


_SHARED = {
    "text": f"say a sentence of {WORDS} words or more that a training row says word for word",
    "speaker": "are of a speaker who is in training too",
}


def _shared(scores: Sequence[Score], show_leaks: bool) -> list[str]:
    """That tested rows share a sentence or a speaker with training, and, of few scores, the UAR without them."""
    found: list[tuple[str, str]] = []
    for score in scores:
        for kind, what in _SHARED.items():
            count = score.first.get("shared", {}).get(kind)
            if not count or score.first["nullified"] is not None:
                continue
            values = [result["shared"].get(f"uar_without_{kind}") for result in score.results]
            known = [100 * value for value in values if value is not None]
            hidden = score.leaked and not show_leaks
            then = f"; without them its UAR is {number(mean_std(known)[0])}" if known and not hidden else ""
            found.append((f"{score.corpus}: {count} of the {score.first['n']} test rows {what}", then))
    if len(found) > MOST_SCORES:
        return list(dict.fromkeys(sentence for sentence, _ in found))
    return [sentence + then for sentence, then in found]


def _loses(score: Score, show_leaks: bool) -> str | None:
    """That a run is no better than logistic regression; of folds, that is said of all together."""
    if score.first["nullified"] is not None or (score.leaked and not show_leaks) or score.cell.fold.name is not None:
        return None
    own, baseline = score.mean("uar"), score.reference("uar")
    if not own < baseline:
        return None
    cell = score.cell
    settings = "".join(f", {name} {value}" for name, value in cell.overrides)
    return (
        f"{score.corpus}: trained on {', '.join(cell.fold.train)} ({cell.feature_set}{settings}), the network (UAR "
        f"{own:.1f}) loses to logistic regression on the same rows and features ({baseline:.1f})"
    )


def _collapsed(score: Score) -> list[str]:
    """That all rows of a tested corpus got the same class from some seeds."""
    if score.first["nullified"] is not None:
        return []
    classes = [result.get("collapsed") for result in score.results]
    seeds = [f"{name} (seed {o.seed})" for o, name in zip(score.outcomes, classes, strict=True) if name]
    if not seeds:
        return []
    cell = score.cell
    settings = "".join(f", {name} {value}" for name, value in cell.overrides)
    return [
        f"collapsed: trained on {', '.join(cell.fold.train)}{cell.fold.suffix} ({cell.feature_set}{settings}), every "
        f"row of {score.corpus} gets one class: {', '.join(seeds)}"
    ]


def column_notes(outcomes: Sequence[RunSummary]) -> list[str]:
    """What the columns of the results table mean, and how many runs it is made of."""
    notes = ["audio, video, text: share of the n test rows that have it."]
    resampled = {r["interval"]["resampled"] for o in outcomes for r in o.results if r["interval"]}
    if resampled:
        notes.append(f"95 % CI: of the UAR, {resampling_sentence(sorted(resampled))}.")
    notes.append(
        "logistic: logistic regression on the same rows and features, classes balanced as in training.\n"
        "majority: always the most frequent training class; its UAR is chance level. chance: guessing every class."
    )
    reused = sum(outcome.reused for outcome in outcomes)
    more = f", {reused} of them read from the store (--force trains again)." if reused else "."
    return [*notes, f"{len(outcomes)} runs{more}"]


REPORT_NOTES = {
    "scores": "Scores in % on the test part, on the classes that the tested corpus annotates and that have test rows. "
    "UAR: unweighted average recall; mF1, wF1: macro and weighted F1; Acc: accuracy. Several runs: mean ± STD (n−1) "
    "over their seeds. The interval is about the choice of test rows, the STD about the seeds.",
    "references": "logistic: logistic regression on the same rows and features. chance: guessing every scored class "
    "equally often. majority: always the most frequent training class; its UAR is the chance level.",
    "coverage": "{initials}: share of the n test rows that have {modalities}, in %.",
    "multi-label": "Rows with a wAcc have several labels at once: wAcc is the mean over the classes of the mean recall "
    "of present and absent, Acc and F1 the mean overlap of the true and the predicted set (Jaccard, Dice).",
    "within": "within: the corpus is among those trained on, by its own training part.",
    "leak": "leak: an encoder of the feature set was trained on that corpus, so its scores are in no figure.",
    "no interval": "No interval where no predictions are kept: of several labels at once, and of the test parts of "
    "corpora on which a model was trained to be tested on another.",
}
"""Of the table of scores in a report, with the columns of `merloco.flows.results.text.SHORT_TITLES`."""

"""Our results in the shape of the paper's tables, the published values beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merloco.features.runs import read_config
from merloco.flows.cli.console import Key, tabulate
from merloco.flows.experiments.plan import Outcome
from merloco.flows.results.tables import TITLES, Score, notes, scores_of, tested_scores
from merloco.models.fusion.gated import ORDER
from merloco.models.metrics.evaluation import MULTI, SINGLE
from merloco.models.metrics.published_results import (
    ABLATION,
    CORPORA,
    CROSS_CORPUS,
    CROSS_CORPUS_COLUMNS,
    CROSS_CORPUS_GAPS,
    CROSS_CORPUS_OTHERS,
    LOCO,
    LOCO_AVERAGE,
    SHARED_CLASSES,
    SINGLE_CLASSES,
)
from merloco.models.metrics.published_results import SINGLE as PUBLISHED_SINGLE
from merloco.models.metrics.statistics import mean_std

PUBLISHED = "published"
ARROWS = {1: "↑", -1: "↓", 0: ""}


@dataclass(frozen=True, slots=True)
class ResultTable:
    """A table for people: every cell is text."""

    title: str
    records: list[dict[Key, str]]
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Columns of all rows, in order of appearance."""
        return tabulate(self.records)[0]

    @property
    def rows(self) -> list[list[str]]:
        """Values in the order of the columns; None where a row has none."""
        return tabulate(self.records)[1]


def result_tables(protocol: str, outcomes: Sequence[Outcome], show_leaks: bool = False) -> list[ResultTable]:
    """The tables of an experiment.

    Args:
        protocol: Of the catalog's `experiments`.
        outcomes: Its runs.
        show_leaks: Show scores on corpora that an encoder has seen; they stay out of averages.
    """
    tables: Callable[[Sequence[Outcome], bool], list[ResultTable]] = {
        "loco": loco_tables,
        "cross_corpus": cross_corpus_tables,
        "single": single_tables,
        "ablation": ablation_tables,
        "grid": grid_tables,
    }[protocol]
    made = tables(outcomes, show_leaks)
    selected = sorted({c for o in outcomes for c in o.selected_on_test})
    if selected:
        made[-1].notes.append(f"Paper protocol: early stopping on the reported rows of {', '.join(selected)}.")
    return made


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.1f}"


def differences(
    scores: Sequence[Score], classes: Mapping[str, frozenset[str]], corpora: Sequence[str] = (), balanced: bool = True
) -> list[str]:
    """What sets our scores apart from the published ones; those stand beside ours only where nothing does.

    Args:
        scores: Ours.
        classes: Corpus -> the classes on which the paper scores it.
        corpora: The corpora of the published protocol, where it takes all of them together.
        balanced: Whether the paper trains with the balanced loss.
    """
    used = {c for s in scores for o in s.outcomes for c in (*o.cell.fold.train, *o.cell.fold.test)}
    found = [] if not corpora or used == set(corpora) else [f"it is over {', '.join(corpora)}"]
    for score in scores:
        first = score.results[0]
        lacking = [m for m in ORDER if not first["coverage"].get(m) and first["nullified"] != m]
        if lacking:
            found.append(f"{score.corpus} has no {' and no '.join(lacking)} here")
        if set(first["support"]) != classes.get(score.corpus, frozenset()):
            found.append(f"{score.corpus} has other classes here ({', '.join(first['support'])})")
    losses = {read_config(o.path)["config"]["training"]["loss"] for s in scores for o in s.outcomes}
    if balanced and losses - {"balanced"}:
        found.append("it is trained with the balanced loss")
    return list(dict.fromkeys(found))


def _left_out(reasons: Sequence[str]) -> list[str]:
    return [f"Published values are not shown, because they do not compare: {'; '.join(reasons)}."] if reasons else []


def _mean(values: Iterable[float]) -> float:
    return mean_std(list(values))[0]


def _shown(score: Score | None, show_leaks: bool, metric: str = "uar") -> str:
    return "-" if score is None or (score.leaked and not show_leaks) else score.text(metric)


def _value(score: Score, metric: str = "uar") -> float:
    return mean_std(score.values(metric))[0]


def loco_tables(outcomes: Sequence[Outcome], show_leaks: bool) -> list[ResultTable]:
    """Table 4: a row per feature set, for every left-out corpus its training corpora's test parts and itself."""
    scores = scores_of(outcomes)
    sets = list(dict.fromkeys(o.cell.feature_set for o in outcomes))
    corpora = list(dict.fromkeys(o.cell.fold.test[0] for o in outcomes))
    rows: list[dict[Key, str]] = []
    columns: dict[str, list[float]] = {}
    for name in sets:
        row: dict[Key, str] = {"features": name}
        for corpus in corpora:
            cell = next((o.cell for o in outcomes if (o.cell.feature_set, o.cell.fold.test) == (name, (corpus,))), None)
            fold = [s for s in scores if s.outcomes[0].cell == cell]
            unseen = next((s for s in fold if s.corpus == corpus), None)
            own = [s for s in fold if s.corpus != corpus]
            hidden = unseen is not None and unseen.leaked
            seen = _mean(_value(s) for s in own) if own else float("nan")
            row[f"w/o {corpus}"] = "-" if hidden and not show_leaks else _number(seen)
            row[f"LOCO {corpus}"] = _shown(unseen, show_leaks)
            if unseen is not None and not hidden:
                columns.setdefault(f"w/o {corpus}", []).append(seen)
                columns.setdefault(f"LOCO {corpus}", []).append(_value(unseen))
        rows.append(row)
    if len(sets) > 1:
        means: dict[Key, str] = {str(c): _number(_mean(columns.get(str(c), []))) for c in list(rows[0])[1:]}
        rows.append({"features": f"average of the {len(sets)} feature sets", **means})
    apart = differences(tested_scores(scores), SHARED_CLASSES, CORPORA)
    if not apart:
        for encoders, cells in LOCO.items():
            rows.append({"features": f"{PUBLISHED}, encoders tuned on {encoders}", **_loco_cells(corpora, cells)})
        rows.append({"features": f"{PUBLISHED}, average over the encoders", **_loco_cells(corpora, LOCO_AVERAGE)})
    about = (
        "UAR, %. w/o X: trained without X, mean over the test parts of its training corpora; LOCO X: the same model "
        "on the unseen X."
    )
    title = "Leave one corpus out (the paper's Table 4)"
    return [ResultTable(title, rows, [about, *_left_out(apart), *notes(outcomes, show_leaks)])]


def _loco_cells(corpora: Sequence[str], cells: dict[str, tuple[float, float]]) -> dict[Key, str]:
    nothing = (float("nan"), float("nan"))
    return {f"{kind} {c}": _number(cells.get(c, nothing)[i]) for c in corpora for i, kind in enumerate(("w/o", "LOCO"))}


def cross_corpus_tables(outcomes: Sequence[Outcome], show_leaks: bool) -> list[ResultTable]:
    """Table 3: trained on (rows) by tested on (columns), averages without the diagonal, gaps to it."""
    tables = []
    for name in dict.fromkeys(o.cell.feature_set for o in outcomes):
        chosen = [o for o in outcomes if o.cell.feature_set == name]
        scores = {(s.outcomes[0].cell.fold.train[0], s.corpus): s for s in scores_of(chosen)}
        trained = list(dict.fromkeys(t for t, _ in scores))
        tested = list(dict.fromkeys(t for _, t in scores))
        values = {pair: float("nan") if s.leaked else _value(s) for pair, s in scores.items()}
        rows: list[dict[Key, str]] = []
        for a in trained:
            cells: dict[Key, str] = {b: _shown(scores.get((a, b)), show_leaks) for b in tested}
            others = _mean(values.get((a, b), float("nan")) for b in tested if b != a)
            rows.append({"trained on": a, **cells, "average of the others": _number(others)})
        columns = {b: _mean(values.get((a, b), float("nan")) for a in trained if a != b) for b in tested}
        gaps = {b: values.get((b, b), float("nan")) - columns[b] for b in tested}
        rows.append({"trained on": "average of the others", **{b: _number(v) for b, v in columns.items()}})
        rows.append({"trained on": "gap to its own corpus", **{b: _number(v) for b, v in gaps.items()}})
        apart = differences(list(scores.values()), SHARED_CLASSES, CORPORA)
        if not apart:
            rows += _published_cross_corpus(tested)
        about = "UAR, %. The diagonal is a corpus tested on its own test part; averages leave it out."
        tables.append(
            ResultTable(
                f"Cross-corpus, features {name} (the paper's Table 3)",
                rows,
                [about, *_left_out(apart), *notes(chosen, show_leaks)],
            )
        )
    return tables


def _published_cross_corpus(tested: Sequence[str]) -> list[dict[Key, str]]:
    rows: list[dict[Key, str]] = [
        {
            "trained on": f"{PUBLISHED}, {a}",
            **{b: _number(CROSS_CORPUS[a][b]) for b in tested},
            "average of the others": _number(CROSS_CORPUS_OTHERS[a]),
        }
        for a in tested
    ]
    for what, values in (("average of the others", CROSS_CORPUS_COLUMNS), ("gap to its own corpus", CROSS_CORPUS_GAPS)):
        rows.append({"trained on": f"{PUBLISHED}, {what}", **{b: _number(values[b]) for b in tested}})
    return rows


def single_tables(outcomes: Sequence[Outcome], show_leaks: bool) -> list[ResultTable]:
    """Table 5: every corpus with plain and balanced loss; single-label and multi-label corpora have other scores."""
    tables = []
    for metrics, what in ((SINGLE, "one label"), (MULTI, "several labels")):
        rows: list[dict[Key, str]] = []
        apart: list[str] = []
        chosen = [o for o in outcomes if (o.cell.task == "multi") == (metrics is MULTI)]
        for score in tested_scores(scores_of(chosen)):
            cell = score.outcomes[0].cell
            loss = dict(cell.overrides)["loss"]
            ours: dict[Key, str] = {TITLES[m]: _shown(score, show_leaks, m) for m in metrics}
            n = str(score.results[0]["n"])
            rows.append({"corpus": score.corpus, "features": cell.feature_set, "loss": loss, "n": n, **ours})
            published = PUBLISHED_SINGLE.get(score.corpus, {}).get(loss)
            reasons = differences([score], SINGLE_CLASSES, balanced=False) if published else []
            apart += reasons
            if published and not reasons:
                theirs: dict[Key, str] = {TITLES[m]: _number(published.get(m, float("nan"))) for m in metrics}
                rows.append({"corpus": score.corpus, "features": PUBLISHED, "loss": loss, "n": "", **theirs})
        if rows:
            title = f"Single corpus, {what} per utterance (the paper's Table 5)"
            about = [*_left_out(list(dict.fromkeys(apart))), *_undefined(chosen)]
            tables.append(ResultTable(title, rows, [*about, *notes(chosen, show_leaks)]))
    return tables


def _undefined(outcomes: Sequence[Outcome]) -> list[str]:
    """Classes without a weighted accuracy, because the test part has only one side of them."""
    sentences = []
    for score in tested_scores(scores_of(outcomes)):
        names = [name for name, value in score.results[0]["class_wacc"].items() if value != value]
        if names:
            sentences.append(f"{score.corpus}: wAcc is undefined for {', '.join(names)} and averaged over the others")
    return list(dict.fromkeys(sentences))


def ablation_tables(outcomes: Sequence[Outcome], show_leaks: bool) -> list[ResultTable]:
    """Table 2: UAR with all modalities, with each nullified, with each excluded; then recall per class with arrows."""
    tables: list[ResultTable] = []
    recalls: list[dict[Key, str]] = []
    for name in dict.fromkeys(o.cell.feature_set for o in outcomes):
        chosen = [o for o in outcomes if o.cell.feature_set == name]
        scores = scores_of(chosen)
        used = {m for o in chosen for m in (*o.results[0]["coverage"], *o.without)}
        columns = [f"{how} {m}" for how in ("nullified", "excluded") for m in ORDER if m in used]
        rows: list[dict[Key, str]] = []
        apart: list[str] = []
        for corpus in dict.fromkeys(o.cell.fold.test[0] for o in chosen):
            here = [s for s in scores if s.corpus == corpus]
            whole = next(s for s in here if s.outcomes[0].cell.nullify and s.results[0]["nullified"] is None)
            every = tuple(m for m in ORDER if m in whole.results[0]["coverage"])
            nullified = {str(s.results[0]["nullified"]): s for s in here if s.results[0]["nullified"]}
            excluded = {
                next(m for m in every if m not in s.results[0]["coverage"]): s
                for s in here
                if not s.outcomes[0].cell.nullify
            }
            variants = {f"nullified {m}": nullified[m] for m in every}
            variants |= {f"excluded {m}": excluded[m] for m in every if m in excluded}
            cells: dict[Key, str] = {column: _shown(variants.get(column), show_leaks) for column in columns}
            rows.append({"corpus": corpus, "all": _shown(whole, show_leaks), **cells})
            reasons = differences([whole], SINGLE_CLASSES) if corpus in ABLATION else []
            apart += reasons
            if corpus in ABLATION and not reasons:
                together, zeroed, without = ABLATION[corpus]
                titles = [f"{how} {m}" for how in ("nullified", "excluded") for m in ORDER]
                theirs: dict[Key, str] = dict(zip(titles, map(_number, (*zeroed, *without)), strict=True))
                rows.append({"corpus": f"{corpus}, {PUBLISHED}", "all": _number(together), **theirs})
            recalls += _recall_changes(corpus, whole, variants)
        about = "UAR, %, balanced loss. Nullified: zeros in place of the modality; excluded: trained without it."
        title = f"Modality ablation, features {name} (the paper's Table 2)"
        tables.append(ResultTable(title, rows, [about, *_left_out(apart), *notes(chosen, show_leaks)]))
    about = f"In %; {ARROWS[1]} and {ARROWS[-1]}: higher and lower than with all modalities by a point or more."
    tables.append(ResultTable("Recall per class", recalls, [about]))
    return tables


def _recall_changes(corpus: str, whole: Score, variants: dict[str, Score]) -> list[dict[Key, str]]:
    names = list(whole.results[0]["recall"])
    base = {name: whole.recall(name) for name in names}
    rows: list[dict[Key, str]] = [
        {"corpus": corpus, "modalities": "all", **{("class", n): _number(v) for n, v in base.items()}}
    ]
    for variant, score in variants.items():
        cells: dict[Key, str] = {}
        for n in names:
            change = score.recall(n) - base[n]
            cells["class", n] = _number(score.recall(n)) + ARROWS[(change >= 1) - (change <= -1)]
        rows.append({"corpus": corpus, "modalities": variant, **cells})
    return rows


def grid_tables(outcomes: Sequence[Outcome], show_leaks: bool) -> list[ResultTable]:
    """Every combination of settings: UAR on each corpus and their mean, chosen on validation only."""
    rows: list[dict[Key, str]] = []
    by_cell: dict[Any, list[Score]] = {}
    for score in tested_scores(scores_of(outcomes)):
        by_cell.setdefault(score.outcomes[0].cell, []).append(score)
    chosen = max(by_cell, key=lambda cell: _mean(o.validation for o in by_cell[cell][0].outcomes), default=None)
    for cell, scores in by_cell.items():
        settings: dict[Key, str] = {
            name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in cell.overrides
        }
        validation = _mean(100 * o.validation for o in scores[0].outcomes)
        tested: dict[Key, str] = {("corpus", s.corpus): _shown(s, show_leaks) for s in scores}
        rows.append(
            {
                "features": cell.feature_set,
                **settings,
                "validation UAR": _number(validation),
                "chosen": "yes" if cell == chosen else "",
                **tested,
                f"mean of {len(tested)} corpora": _number(_mean(_value(s) for s in scores if not s.leaked)),
            }
        )
    about = "UAR, %. Chosen: the best on validation; test columns did not choose."
    return [ResultTable("Grid of training settings", rows, [about, *notes(outcomes, show_leaks)])]

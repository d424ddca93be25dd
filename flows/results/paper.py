"""Our results in the shape of the paper's tables (Ryumina et al. 2025), the published values beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from merloco.features.runs import read_config
from merloco.flows.cli.console import Key
from merloco.flows.experiments.plan import RunSummary
from merloco.flows.results.folds import fold_tables
from merloco.flows.results.methods import method_tables
from merloco.flows.results.notes import result_notes
from merloco.flows.results.scores import Score, scores_of, tested_scores
from merloco.flows.results.search import search_tables
from merloco.flows.results.tables import ResultTable
from merloco.flows.results.text import PUBLISHED_TITLE, TITLES, in_order, number
from merloco.models.metrics.evaluation import MULTI, PUBLISHED_UAR, SINGLE
from merloco.models.metrics.statistics import mean_std
from merloco.models.protocols import Cell
from merloco.pipelines.samples.schema import MODALITIES

PUBLISHED: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
NAN = float("nan")
ARROWS = {1: "↑", -1: "↓", 0: ""}


def result_tables(protocol: str, outcomes: Sequence[RunSummary], show_leaks: bool = False) -> list[ResultTable]:
    """The tables of an experiment.

    Args:
        protocol: Of the catalog's `experiments`.
        outcomes: Its runs.
        show_leaks: Show scores on corpora that an encoder has seen; they stay out of averages.
    """
    protocols: dict[str, Callable[[Sequence[RunSummary], bool], list[ResultTable]]] = {
        "loco": loco_tables,
        "cross_corpus": cross_corpus_tables,
        "single": single_tables,
        "ablation": ablation_tables,
        "grid": grid_tables,
        "methods": method_tables,
        "search": search_tables,
        "folds": fold_tables,
    }
    tables = protocols[protocol](outcomes, show_leaks)
    selected = sorted({c for o in outcomes for c in o.selected_on_test})
    if selected:
        tables[-1].notes.append(f"Paper protocol: early stopping on the reported rows of {', '.join(selected)}.")
    return tables


def differences(
    scores: Sequence[Score], classes: Mapping[str, Sequence[str]], corpora: Sequence[str] = (), balanced: bool = True
) -> list[str]:
    """What sets our scores apart from the published ones; those stand beside ours only where nothing does.

    Args:
        scores: Ours.
        classes: Corpus -> the classes on which the paper scores it.
        corpora: The corpora of the published protocol, where it takes all of them together.
        balanced: Whether the paper trains with the balanced loss.
    """
    used = {c for s in scores for o in s.outcomes for c in (*o.cell.fold.train, *o.cell.fold.test)}
    if corpora and used != set(corpora):
        return [f"they are over {', '.join(corpora)}"]
    reasons = []
    for score in scores:
        first = score.first
        lacking = [m for m in MODALITIES if not first["coverage"].get(m) and first["nullified"] != m]
        if lacking:
            reasons.append(f"{score.corpus} has no {' and no '.join(lacking)} here")
        if set(first["support"]) != set(classes.get(score.corpus, ())):
            reasons.append(f"{score.corpus} has other classes here ({', '.join(first['support'])})")
    losses = {read_config(o.path)["config"]["training"]["loss"] for s in scores for o in s.outcomes}
    if balanced and losses - {"balanced"}:
        reasons.append("they are of networks trained with the balanced loss")
    return list(dict.fromkeys(reasons))


def _omitted(reasons: Sequence[str]) -> list[str]:
    return [f"Published values are not shown, because they do not compare: {'; '.join(reasons)}."] if reasons else []


def _mean(values: Iterable[float]) -> float:
    return mean_std(list(values))[0]


def _text(score: Score | None, show_leaks: bool, metric: str = "uar") -> str:
    return "-" if score is None else score.text(_own(score, metric), show_leaks)


def _own(score: Score, metric: str) -> str:
    """The metric, or the plain UAR for several labels at once, which have no other."""
    return metric if metric in score.first else "uar"


def _metric(reasons: Sequence[str]) -> tuple[str, str]:
    """Which UAR a table has, and what it is called: the published one where published values stand beside ours."""
    if reasons:
        return "uar", "UAR, %"
    return PUBLISHED_UAR, "UAR as published, % (a class that is predicted and has no true row counts with recall 0)"


def _by_feature_set(outcomes: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    groups: dict[str, list[RunSummary]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.cell.feature_set, []).append(outcome)
    return groups


def loco_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Table 4: a row per feature set, for every left-out corpus its training corpora's test parts and itself."""
    corpora = list(dict.fromkeys(o.cell.fold.test[0] for o in outcomes))
    columns = [f"{kind} {corpus}" for corpus in corpora for kind in ("w/o", "LOCO")]
    rows = []
    averaged: dict[str, list[float]] = {column: [] for column in columns}
    groups = _by_feature_set(outcomes)
    reasons = differences(tested_scores(outcomes), PUBLISHED["classes"]["shared"], PUBLISHED["corpora"])
    metric, title_of_metric = _metric(reasons)
    for name, group in groups.items():
        scores = scores_of(group)
        row = {"features": name}
        for corpus in corpora:
            cell = next((o.cell for o in group if o.cell.fold.test == (corpus,)), None)
            fold = [s for s in scores if s.cell == cell]
            unseen = next((s for s in fold if s.corpus == corpus), None)
            leaked = unseen is not None and unseen.leaked
            seen = _mean(s.mean(_own(s, metric)) for s in fold if s.corpus != corpus)
            row[f"w/o {corpus}"] = "-" if leaked and not show_leaks else number(seen)
            row[f"LOCO {corpus}"] = _text(unseen, show_leaks, metric)
            if unseen is not None and not leaked:
                averaged[f"w/o {corpus}"].append(seen)
                averaged[f"LOCO {corpus}"].append(unseen.mean(_own(unseen, metric)))
        rows.append(row)
    if len(groups) > 1:
        means = {column: number(_mean(values)) for column, values in averaged.items()}
        rows.append({"features": f"average of the {len(groups)} feature sets", **means})
    if not reasons:
        published = {f"encoders tuned on {name}": cells for name, cells in PUBLISHED["loco"]["encoders"].items()}
        for name, cells in {**published, "average over the encoders": PUBLISHED["loco"]["average"]}.items():
            values = [value for corpus in corpora for value in cells.get(corpus, (NAN, NAN))]
            rows.append({"features": f"published, {name}", **dict(zip(columns, map(number, values), strict=True))})
    about = (
        f"{title_of_metric}. w/o X: trained without X, mean over the test parts of its training corpora; LOCO X: the "
        "same model on the unseen X."
    )
    title = "Leave one corpus out (the paper's Table 4)"
    return [ResultTable(title, rows, [about, *_omitted(reasons), *result_notes(outcomes, show_leaks)])]


def cross_corpus_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Table 3: trained on (rows) by tested on (columns), averages without the diagonal, gaps to it."""
    tables = []
    for name, group in _by_feature_set(outcomes).items():
        scores = {(s.cell.fold.train[0], s.corpus): s for s in scores_of(group)}
        trained = list(dict.fromkeys(t for t, _ in scores))
        tested = list(dict.fromkeys(t for _, t in scores))
        reasons = differences(list(scores.values()), PUBLISHED["classes"]["shared"], PUBLISHED["corpora"])
        metric, title_of_metric = _metric(reasons)
        values = {(a, b): NAN for a in trained for b in tested}
        values |= {pair: s.mean(_own(s, metric)) for pair, s in scores.items() if not s.leaked}
        cells = {a: {b: _text(scores.get((a, b)), show_leaks, metric) for b in tested} for a in trained}
        others = {a: _mean(values[a, b] for b in tested if b != a) for a in trained}
        columns = {b: _mean(values[a, b] for a in trained if a != b) for b in tested}
        gaps = {b: values.get((b, b), NAN) - columns[b] for b in tested}
        rows = _cross_corpus_rows("", cells, others, columns, gaps)
        if not reasons:
            published = PUBLISHED["cross_corpus"]
            cells = {a: {b: number(published["cells"][a][b]) for b in tested} for a in tested}
            averages = published["row_averages"], published["column_averages"]
            rows += _cross_corpus_rows("published, ", cells, *averages, published["gaps"])
        about = f"{title_of_metric}. The diagonal is a corpus tested on its own test part; averages leave it out."
        notes = [about, *_omitted(reasons), *result_notes(group, show_leaks)]
        tables.append(ResultTable(f"Cross-corpus, features {name} (the paper's Table 3)", rows, notes))
    return tables


def _cross_corpus_rows(
    prefix: str,
    cells: Mapping[str, Mapping[str, str]],
    others: Mapping[str, float],
    columns: Mapping[str, float],
    gaps: Mapping[str, float],
) -> list[dict[str, str]]:
    """Rows of trained corpora -> tested corpora, their averages `others`, then the averages and gaps of the columns."""
    average = "average of the others"
    rows = [{"trained on": prefix + a, **row, average: number(others[a])} for a, row in cells.items()]
    for name, values in ((average, columns), ("gap to its own corpus", gaps)):
        tested = next(iter(cells.values()), {})
        rows.append({"trained on": prefix + name, **{b: number(values[b]) for b in tested}})
    return rows


def single_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Table 5: every corpus with plain and balanced loss; single-label and multi-label corpora have other scores."""
    tables = []
    for metrics, what in ((SINGLE, "one label"), (MULTI, "several labels")):
        rows = []
        reasons: list[str] = []
        group = [o for o in outcomes if (o.cell.task == "multi") == (metrics is MULTI)]
        for score in tested_scores(group):
            loss = dict(score.cell.overrides)["loss"]
            row = {"corpus": score.corpus, "features": score.cell.feature_set, "loss": loss, "n": str(score.first["n"])}
            texts = {TITLES[m]: score.text(m, show_leaks) for m in metrics}
            if metrics is SINGLE:
                texts[PUBLISHED_TITLE] = score.text(PUBLISHED_UAR, show_leaks)
            rows.append({**row, **texts})
            published = PUBLISHED["single"].get(score.corpus, {}).get(loss)
            if published:
                mismatches = differences([score], PUBLISHED["classes"]["own"], balanced=False)
                reasons += mismatches
                if not mismatches:
                    values = {TITLES[m]: number(published.get(m, NAN)) for m in metrics}
                    if metrics is SINGLE:
                        values |= {TITLES["uar"]: "-", PUBLISHED_TITLE: values[TITLES["uar"]]}
                    rows.append({**row, "features": "published", "n": "", **values})
        if rows:
            title = f"Single corpus, {what} per utterance (the paper's Table 5)"
            about = [*_omitted(list(dict.fromkeys(reasons))), *_undefined(group)]
            tables.append(ResultTable(title, rows, [*about, *result_notes(group, show_leaks)]))
    return tables


def _undefined(outcomes: Sequence[RunSummary]) -> list[str]:
    """Classes without a weighted accuracy, because the test part has only one side of them."""
    sentences = []
    for score in tested_scores(outcomes):
        names = [name for name, value in score.first["class_wacc"].items() if value != value]
        if names:
            sentences.append(f"{score.corpus}: wAcc is undefined for {', '.join(names)} and averaged over the others")
    return list(dict.fromkeys(sentences))


def ablation_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Table 2: UAR with all modalities, with each nullified, with each excluded; then recall per class with arrows."""
    tables = []
    recalls: list[dict[Key, str]] = []
    for name, group in _by_feature_set(outcomes).items():
        used = in_order(m for o in group for m in (*o.results[0]["coverage"], *o.missing_modalities))
        columns = ["all", *(f"{how} {m}" for how in ("nullified", "excluded") for m in used)]
        rows = []
        reasons: list[str] = []
        scores = scores_of(group)
        for corpus in dict.fromkeys(o.cell.fold.test[0] for o in group):
            variants = _variants([s for s in scores if s.corpus == corpus])
            compared = corpus in PUBLISHED["ablation"]
            mismatches = differences([variants["all"]], PUBLISHED["classes"]["own"]) if compared else ["not published"]
            metric, _ = _metric(mismatches)
            texts = {column: _text(variants.get(column), show_leaks, metric) for column in columns}
            rows.append({"corpus": corpus, **texts})
            if compared:
                reasons += mismatches
                if not mismatches:
                    values = {column: number(value) for column, value in PUBLISHED["ablation"][corpus].items()}
                    rows.append({"corpus": f"{corpus}, published", **values})
            recalls += _recall_changes(corpus, variants)
        about = (
            "UAR, %, balanced loss (beside a published row: as published). Nullified: zeros in place of the modality; "
            "excluded: trained without it."
        )
        title = f"Modality ablation, features {name} (the paper's Table 2)"
        tables.append(ResultTable(title, rows, [about, *_omitted(reasons), *result_notes(group, show_leaks)]))
    about = f"In %; {ARROWS[1]} and {ARROWS[-1]}: higher and lower than with all modalities by a point or more."
    tables.append(ResultTable("Recall per class", recalls, [about]))
    return tables


def _variants(scores: Sequence[Score]) -> dict[str, Score]:
    """`all`, then `nullified X` and `excluded X` for the modalities of a corpus -> score."""
    whole = next(s for s in scores if s.cell.nullify and s.first["nullified"] is None)
    modalities = list(whole.first["coverage"])
    nullified = {s.first["nullified"]: s for s in scores}
    smaller = [s for s in scores if not s.cell.nullify]
    excluded = {next(m for m in modalities if m not in s.first["coverage"]): s for s in smaller}
    variants = {"all": whole, **{f"nullified {m}": nullified[m] for m in modalities}}
    return variants | {f"excluded {m}": excluded[m] for m in modalities if m in excluded}


def _recall_changes(corpus: str, variants: Mapping[str, Score]) -> list[dict[Key, str]]:
    whole = variants["all"]
    rows = []
    for variant, score in variants.items():
        row: dict[Key, str] = {"corpus": corpus, "modalities": variant}
        for name in whole.first["recall"]:
            change = score.recall(name) - whole.recall(name)
            row["class", name] = number(score.recall(name)) + ARROWS[(change >= 1) - (change <= -1)]
        rows.append(row)
    return rows


def grid_tables(outcomes: Sequence[RunSummary], show_leaks: bool) -> list[ResultTable]:
    """Every combination of settings: UAR on each corpus and their mean, chosen on validation only."""
    by_cell: dict[Cell, list[Score]] = {}
    for score in tested_scores(outcomes):
        by_cell.setdefault(score.cell, []).append(score)
    best = max(by_cell, key=lambda cell: _mean(o.validation for o in by_cell[cell][0].outcomes), default=None)
    rows: list[dict[Key, str]] = []
    for cell, scores in by_cell.items():
        row: dict[Key, str] = {"features": cell.feature_set}
        for name, value in cell.overrides:
            row[name] = f"{value:g}" if isinstance(value, float) else str(value)
        row["validation UAR"] = number(_mean(100 * o.validation for o in scores[0].outcomes))
        row["chosen"] = "yes" if cell == best else ""
        for score in scores:
            row["corpus", score.corpus] = _text(score, show_leaks)
        row[f"mean of {len(scores)} corpora"] = number(_mean(s.mean() for s in scores if not s.leaked))
        rows.append(row)
    about = "UAR, %. Chosen: the best on validation; test columns did not choose."
    return [ResultTable("Grid of training settings", rows, [about, *result_notes(outcomes, show_leaks)])]

"""What the numbers are made of: coverage of the features, their projection, and the utterances that runs get wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from merloco.features.store import FeatureStore
from merloco.flows.report.data import ExperimentResults
from merloco.flows.report.page import MissingSectionError, Page, escaped, styled
from merloco.flows.report.style import EMOTION_COLOURS, SERIES_COLOURS
from merloco.flows.results.tables import ResultTable

MAX_POINTS = 1500
"""Of a projection: more are not told apart on a screen."""
HARDEST = 10
"""Hardest utterances that are shown of each corpus."""
MAX_TEXT = 200
"""Most characters of an utterance that are shown."""


def add_coverage(page: Page, experiment: ExperimentResults) -> None:
    """Add the share of each corpus's utterances that each view has a vector of, and why the others have none."""
    views = _views(experiment)
    if not views:
        raise MissingSectionError("The catalog no longer has the experiment's feature sets.")
    rows = experiment.store.sql(
        f'select "view", corpus, sum("rows")::bigint, sum(ok)::bigint from shards '
        f'where current and "view" in ({_listed(views)}) group by all order by all'
    ).fetchall()
    if not rows:
        raise MissingSectionError(
            "The store holds no shard of the experiment's views as the catalog describes them now."
        )
    reasons: dict[tuple[str, str], list[str]] = {}
    failed = experiment.store.sql(
        "select \"view\", split_part(sample_id, '/', 1), status, count(*) from failures group by all order by 4 desc, 3"
    ).fetchall()
    for view, corpus, status, count in failed:
        reasons.setdefault((view, corpus), []).append(f"{status} {count:,}")
    records = [
        {
            "view": view,
            "corpus": corpus,
            "utterances": n,
            "with features": ok,
            "coverage, %": f"{100 * ok / n:.1f}",
            "without, by status": ", ".join(reasons.get((view, corpus), [])) or None,
        }
        for view, corpus, n, ok in rows
    ]
    title = "Utterances of each corpus, all parts, and how many of them each feature view has a vector of."
    note = "An utterance without a vector keeps its row: the modality is masked and the others are used."
    page.table(ResultTable(title, records, [note]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


def _views(experiment: ExperimentResults) -> list[str]:
    """Views of the experiment's feature sets and modalities that the catalog still knows."""
    views: dict[str, None] = {}
    for config in experiment.configs.values():
        feature_set = experiment.store.catalog.feature_sets.get(config["feature_set"])
        for modality, view in (feature_set.views if feature_set else {}).items():
            if modality in config["modalities"]:
                views[view] = None
    return list(views)


def add_projections(page: Page, experiment: ExperimentResults) -> None:
    """Add the first two principal components of each view, coloured by emotion and by corpus."""
    used = {c for config in experiment.configs.values() for c in (*config["train"], *config["test"])}
    catalog = experiment.store.catalog
    corpora = [corpus for corpus in catalog.corpora if corpus in used]
    colours = {"emotion": (catalog.label_order, EMOTION_COLOURS), "corpus": (corpora, SERIES_COLOURS)}
    panels, counts = [], []
    for view in _views(experiment) if corpora else ():
        rows = _projected_rows(experiment.store, view, corpora)
        if len(rows) < 3:
            continue
        points, explained = principal(np.array([row["pooled"] for row in rows], dtype=np.float64))
        counts.append(f"{view} {len(rows):,}")
        for key, (names, palette) in colours.items():
            panels.append((f"{view}, by {key}", _projection(rows, points, explained, key, names, palette)))
    if not panels:
        raise MissingSectionError(
            "The store holds no three labelled vectors of any of the experiment's views as the catalog has them now."
        )
    page.figure(
        panels,
        "Pooled features of each view on their first two principal components, after every feature was scaled to unit "
        f"variance; one dot per labelled utterance of any part, drawn from all corpora equally ({', '.join(counts)} "
        "dots). Axes: share of the variance. A click on a name hides it, a double click shows it alone.",
    )


def _projected_rows(store: FeatureStore, view: str, corpora: Sequence[str]) -> list[dict[str, Any]]:
    most = max(MAX_POINTS // len(corpora), 1)
    query = f"""
        select pooled, l.emotion, l.corpus, left(coalesce(text, '(no text)'), 90) as shown, sample_id
        from {json.dumps(view)} join labels l using (sample_id) join samples using (sample_id)
        where pooled is not null and l.emotion is not null and l.corpus in ({_listed(corpora)})
        qualify row_number() over (partition by l.corpus order by md5(sample_id)) <= {most}
        order by sample_id"""
    rows: list[dict[str, Any]] = store.sql(query).to_arrow_table().to_pylist()
    return rows


def principal(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project standardized rows (n, d) on their first two principal components.

    Returns:
        (n, 2), each component's largest loading positive so that the picture does not flip; and the share of the
        variance of both, (2,).
    """
    spread = matrix.std(axis=0)
    scaled = (matrix - matrix.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    left, values, right = np.linalg.svd(scaled, full_matrices=False)
    sign = np.sign(np.take_along_axis(right[:2], np.abs(right[:2]).argmax(axis=1)[:, None], axis=1))[:, 0]
    return left[:, :2] * values[:2] * sign, values[:2] ** 2 / max((values**2).sum(), 1e-12)


def _projection(
    rows: Sequence[dict[str, Any]],
    points: np.ndarray,
    explained: np.ndarray,
    key: str,
    names: Sequence[str],
    colours: Sequence[str],
) -> go.Figure:
    figure = go.Figure()
    others = sorted({row[key] for row in rows} - set(names))
    for position, name in enumerate([*names, *others]):
        selected = [i for i, row in enumerate(rows) if row[key] == name]
        if selected:
            figure.add_scatter(
                x=points[selected, 0].round(3),
                y=points[selected, 1].round(3),
                mode="markers",
                name=escaped(name),
                marker={"size": 5, "opacity": 0.7, "color": colours[position % len(colours)]},
                text=[f"{escaped(rows[i]['shown'])}<br>{escaped(rows[i]['sample_id'])}" for i in selected],
                hovertemplate="%{text}<extra>%{fullData.name}</extra>",
            )
    x, y = (f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(explained))
    return styled(figure, 380, x=x, y=y)


def add_hardest(page: Page, experiment: ExperimentResults) -> None:
    """Add the utterances to whose true class the runs gave the least probability."""
    predictions: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    classes = experiment.classes
    for row in experiment.counted:
        if (p := row.predictions) is None:
            continue
        for i, sample_id in enumerate(p.sample_id):
            key = row.corpus, str(sample_id), classes[p.truth[i]]
            pairs = zip(p.prediction[:, i], p.p_truth[:, i], strict=True)
            predictions.setdefault(key, []).extend((classes[k], float(value)) for k, value in pairs)
    if not predictions:
        raise MissingSectionError("The runs keep no prediction of one label that counts.")
    p_truth = {key: float(np.mean([value for _, value in pairs])) for key, pairs in predictions.items()}
    ranked = sorted(predictions, key=lambda key: (p_truth[key], key))
    hardest = [key for corpus in experiment.corpora for key in [k for k in ranked if k[0] == corpus][:HARDEST]]
    ids = _listed([sample_id for _, sample_id, _ in hardest])
    query = f"select sample_id, text from samples where sample_id in ({ids})"
    texts = dict(experiment.store.sql(query).fetchall())
    records = []
    for key in hardest:
        _, sample_id, truth = key
        prediction, times = Counter(name for name, _ in predictions[key]).most_common(1)[0]
        text = texts.get(sample_id) or "-"
        records.append(
            {
                "utterance": sample_id,
                "text": text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…",
                "truth": truth,
                "taken for": prediction,
                "by": f"{times}/{len(predictions[key])}",
                "p(truth)": f"{p_truth[key]:.3f}",
            }
        )
    title = f"Test utterances to whose true class the runs gave the least probability, up to {HARDEST} of each corpus."
    notes = [
        "by: how many of the runs that tested the utterance took it for that. p(truth): mean over these runs.",
        "The texts, here and in the figure above, are the corpora's: their licences hold for this file.",
    ]
    page.table(ResultTable(title, records, notes))

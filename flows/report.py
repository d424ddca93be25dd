"""`merloco report`: one HTML file that needs no network, made from what SQL says about a store's runs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.store import FeatureStore
from pipelines.errors import DataError

PROJECTED = 4000
"""Most points of an embedding projection: more are not told apart on a screen."""
HARDEST = 30
COLOURS = ("#6b7280", "#f59e0b", "#2563eb", "#10b981", "#7c3aed", "#84a63a", "#dc2626", "#0891b2", "#db2777")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1f2937; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #e5e7eb; }
table { border-collapse: collapse; margin: .8rem 0; } th, td { padding: .25rem .7rem; text-align: left; }
th { border-bottom: 2px solid #d1d5db; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr:nth-child(even) td { background: #f9fafb; } p.note { color: #6b7280; }
"""


def write_report(store: FeatureStore, experiment: str, path: Path) -> Path:
    """Write the report of one experiment.

    Args:
        store: The store.
        experiment: Name under `store/runs`.
        path: The HTML file to write.

    Raises:
        DataError: The experiment has no run.
    """
    known = [row["experiment"] for row in _rows(store, "select distinct experiment from runs order by 1")]
    if experiment not in known:
        raise DataError(
            f"experiment {experiment!r} has no runs: known: {', '.join(known) or 'none, run `merloco loco`'}"
        )
    sections = [
        ("Results", _results(store, experiment)),
        ("Recall per class", _recall(store, experiment)),
        ("Confusion", _confusion(store, experiment)),
        ("Learning curves", _curves(store, experiment)),
        ("Coverage", _coverage(store)),
        ("Embeddings", _projections(store, experiment)),
        ("Hardest utterances", _hardest(store, experiment)),
    ]
    body = "\n".join(f"<h2>{html.escape(title)}</h2>\n{content}" for title, content in sections if content)
    title = f"merloco: {html.escape(experiment)}"
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style>\n<script>{_plotly_source()}</script></head>\n"
        f"<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _rows(store: FeatureStore, query: str) -> list[dict[str, Any]]:
    table: pa.Table = store.sql(query).to_arrow_table()
    return table.to_pylist()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _plotly_source() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _figure(figure: Any, height: int = 420) -> str:
    figure.update_layout(height=height, margin={"l": 60, "r": 20, "t": 40, "b": 50}, template="plotly_white")
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}))


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """An HTML table; every cell is escaped, because texts and names come from the corpora."""
    if not rows:
        return "<p class='note'>Nothing to show.</p>"

    def cell(value: Any) -> str:
        if isinstance(value, float):
            value = "-" if value != value else f"{value:.3f}"
        return html.escape("-" if value is None else str(value))

    numeric = {c for c in rows[0] if isinstance(rows[0][c], (int, float))}
    head = "".join(f"<th{' class=n' if c in numeric else ''}>{html.escape(c)}</th>" for c in rows[0])
    lines = ["".join(f"<td{' class=n' if c in numeric else ''}>{cell(v)}</td>" for c, v in row.items()) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _results(store: FeatureStore, experiment: str) -> str:
    rows = _rows(
        store,
        f"""
        select protocol, m.corpus as tested_on, split, count(distinct run) as runs, max(n) as n,
               avg(value) filter (metric = 'uar') as uar, stddev_pop(value) filter (metric = 'uar') as uar_std,
               avg(value) filter (metric = 'weighted_f1') as weighted_f1,
               avg(value) filter (metric = 'macro_f1') as macro_f1,
               avg(value) filter (metric = 'accuracy') as accuracy
        from metrics m join runs using (run)
        where experiment = {_quoted(experiment)} and class is null group by all order by all""",
    )
    return _table(rows) + "<p class='note'>Mean and STD over runs (seeds).</p>"


def _recall(store: FeatureStore, experiment: str) -> str:
    import plotly.graph_objects as go

    rows = _rows(
        store,
        f"""
        select m.corpus, class, avg(value) as recall from metrics m join runs using (run)
        where experiment = {_quoted(experiment)} and metric = 'recall' and split = 'test' group by all order by all""",
    )
    classes = [c for c in store.catalog.label_order if any(r["class"] == c for r in rows)]
    corpora = sorted({r["corpus"] for r in rows})
    value = {(r["corpus"], r["class"]): r["recall"] for r in rows}
    z = [[value.get((corpus, name)) for name in classes] for corpus in corpora]
    text = [["" if v is None else f"{v:.2f}" for v in line] for line in z]
    heat = go.Heatmap(z=z, x=classes, y=corpora, text=text, texttemplate="%{text}", zmin=0, zmax=1, colorscale="Blues")
    return _figure(go.Figure(heat), 120 + 60 * len(corpora)) if rows else ""


def _confusion(store: FeatureStore, experiment: str) -> str:
    import plotly.graph_objects as go

    rows = _rows(
        store,
        f"""
        select corpus, truth, prediction, count(*) as n from predictions join runs using (run)
        where experiment = {_quoted(experiment)} group by all""",
    )
    figures = []
    for corpus in sorted({r["corpus"] for r in rows}):
        here = {(r["truth"], r["prediction"]): r["n"] for r in rows if r["corpus"] == corpus}
        classes = [c for c in store.catalog.label_order if any(c in pair for pair in here)]
        z = [[here.get((t, p), 0) for p in classes] for t in classes]
        heat = go.Heatmap(z=z, x=classes, y=classes, texttemplate="%{z}", colorscale="Blues", showscale=False)
        figure = go.Figure(heat)
        figure.update_layout(title=html.escape(corpus), xaxis_title="prediction", yaxis_title="truth")
        figure.update_yaxes(autorange="reversed")
        figures.append(_figure(figure))
    return "\n".join(figures)


def _curves(store: FeatureStore, experiment: str) -> str:
    import plotly.graph_objects as go

    rows = _rows(
        store,
        f"""
        select run, epoch, val_uar from epochs join runs using (run)
        where experiment = {_quoted(experiment)} order by 1, 2""",
    )
    figure = go.Figure()
    for run in sorted({r["run"] for r in rows}):
        here = [r for r in rows if r["run"] == run]
        figure.add_scatter(x=[r["epoch"] for r in here], y=[r["val_uar"] for r in here], name=html.escape(run))
    figure.update_layout(xaxis_title="epoch", yaxis_title="validation UAR")
    return _figure(figure) if rows else ""


def _coverage(store: FeatureStore) -> str:
    rows = _rows(
        store,
        'select "view", corpus, sum("rows")::int as samples, sum(ok)::int as ok, sum(ok) / sum("rows") as coverage '
        "from shards where current group by all order by all",
    )
    return _table(rows)


def _projections(store: FeatureStore, experiment: str) -> str:
    """First two principal components of each view, coloured by emotion and marked by corpus."""
    import plotly.graph_objects as go

    sets = _rows(store, f"select distinct feature_set from runs where experiment = {_quoted(experiment)} order by 1")
    figures = []
    for view in dict.fromkeys(v for s in sets for v in store.catalog.feature_set(s["feature_set"]).views.values()):
        rows = _rows(
            store,
            f"""
            select pooled, emotion, corpus, coalesce(text, sample_id) as shown
            from {view} join samples using (sample_id) join (select sample_id, emotion from labels) using (sample_id)
            where pooled is not null and emotion is not null
            order by hash(sample_id) limit {PROJECTED}""",
        )
        if len(rows) < 3:
            continue
        points = _principal(np.array([r["pooled"] for r in rows], dtype=np.float64))
        for colour in ("emotion", "corpus"):
            figure = go.Figure()
            names = list(store.catalog.label_order) if colour == "emotion" else sorted({r["corpus"] for r in rows})
            for number, name in enumerate(n for n in names if any(r[colour] == n for r in rows)):
                chosen = [i for i, r in enumerate(rows) if r[colour] == name]
                figure.add_scattergl(
                    x=points[chosen, 0],
                    y=points[chosen, 1],
                    mode="markers",
                    name=html.escape(name),
                    marker={"size": 6, "color": COLOURS[number % len(COLOURS)]},
                    text=[html.escape(rows[i]["shown"][:80]) for i in chosen],
                )
            figure.update_layout(title=f"{html.escape(view)}, by {colour}", xaxis_title="PC 1", yaxis_title="PC 2")
            figures.append(_figure(figure))
    return "\n".join(figures)


def _principal(matrix: np.ndarray) -> np.ndarray:
    """Project standardized rows (n, d) on their first two principal components, (n, 2)."""
    spread = matrix.std(axis=0)
    scaled = (matrix - matrix.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(left[:, :2] * values[:2])


def _hardest(store: FeatureStore, experiment: str) -> str:
    rows = _rows(
        store,
        f"""
        select sample_id, any_value(text) as text, any_value(truth) as truth, mode(prediction) as taken_for,
               avg(probabilities[truth]) as p_truth
        from predictions p join runs using (run) join samples s using (sample_id)
        where experiment = {_quoted(experiment)} group by sample_id order by p_truth, sample_id limit {HARDEST}""",
    )
    return _table(_cut(rows))


def _cut(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v[:160] if isinstance(v, str) else v for k, v in row.items()} for row in rows]
